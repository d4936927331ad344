"""Tests of the ration of log lines that strangers can cause."""

from typing import Any

from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from rollcall.ops.rationing import MOST, PERIOD_SECONDS, Rationing

NOW = 1_800_000_000.0


class RationingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        self.rationing = Rationing(self.events.append)

    def happen(self, times: int, now: float = NOW, text: str = "noise from {peer}", **fields: Any) -> list[str]:
        """Let the same happen `times` times; return what was written."""
        event = {"log_time": now, "log_level": LogLevel.info, "log_namespace": "n", "log_format": text, "peer": "x"}
        for _ in range(times):
            self.rationing({**event, **fields})
        written, self.events[:] = [formatEvent(event) for event in self.events], []
        return written

    def test_a_few(self) -> None:
        """A marked sentence is written ten times; then one line says that there are more."""
        written = self.happen(1000, log_rationed=True)
        self.assertEqual(written[:-1], ["noise from x"] * MOST)
        self.assertEqual(written[-1], "enough of these for a minute: more are counted, not written")

    def test_a_minute_later(self) -> None:
        """After a minute it is written again, with the number of those that were left out."""
        self.happen(MOST + 7, log_rationed=True)
        self.assertEqual(
            self.happen(1, NOW + PERIOD_SECONDS, log_rationed=True),
            ["7 more like the next were left out since 60 s ago", "noise from x"])
        self.assertEqual(self.happen(1, NOW + 61, log_rationed=True), ["noise from x"])

    def test_each_sentence(self) -> None:
        """Each sentence of each namespace has a ration of its own."""
        self.happen(MOST + 1, log_rationed=True)
        self.assertEqual(self.happen(1, text="other noise", log_rationed=True), ["other noise"])
        self.assertEqual(self.happen(1, log_namespace="m", log_rationed=True), ["noise from x"])

    def test_a_clock_set_back(self) -> None:
        """A clock that was set back an hour silences nobody for an hour."""
        self.happen(MOST + 1, log_rationed=True)
        self.assertEqual(self.happen(1, NOW - 3600, log_rationed=True)[-1], "noise from x")

    def test_calls(self) -> None:
        """What is not marked is written whenever it happens."""
        self.assertEqual(len(self.happen(1000)), 1000)
