"""A balancer with real media nodes is asked for nodes over HTTP, 1,000 times a second: nobody waits long."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tools.measure_select import RATE, a_balancer, ask_steadily, at_share, shown

SECONDS = 2.0
LONGEST_SECONDS = 0.005
"""99 % of the answers come within this time."""
ROUNDS = 5
"""The machine of the tests may have other things to do: so often it is tried until it has not."""


@pytest.mark.long
class SelectRateTests(SynchronousTestCase):
    """One balancer, three rtpengines."""

    record: Callable[[str, object], None] = staticmethod(lambda name, value: None)
    """Where figures go; see conftest.py."""

    def test_rate(self) -> None:
        """At 1,000 questions a second 99 % are answered within 5 ms, each with a node."""
        folder = Path(self.enterContext(TemporaryDirectory()))
        balancer = self.enterContext(a_balancer(folder))
        rounds: list[list[float]] = []
        while len(rounds) < ROUNDS and not (rounds and at_share(rounds[-1], 0.99) < LONGEST_SECONDS):
            rounds.append(ask_steadily(balancer, RATE, SECONDS, f"round {len(rounds)}"))
        self.record("figure", f"POST /v1/select at {RATE:g}/s: {shown(rounds[-1])}; 99 % of all rounds within "
                    f"{', '.join(f'{at_share(each, 0.99) * 1000:.2f}' for each in rounds)} ms")
        self.assertLess(at_share(rounds[-1], 0.99), LONGEST_SECONDS)
