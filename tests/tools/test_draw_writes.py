"""Tests of tools/draw_writes.py: every row is drawn, and docs/redis-writes.md is what the table says today."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from registrar.location.writing import TRANSITIONS, State
from tools.draw_writes import DOCUMENT, EVENTS, STATES, diagram, render

ROOT = Path(__file__).parents[2]


class DrawWritesTests(SynchronousTestCase):
    def test_document_is_current(self) -> None:
        """docs/redis-writes.md is what `python -m tools.draw_writes` would write."""
        self.assertEqual((ROOT / DOCUMENT).read_text(encoding="utf-8"), render())

    def test_every_row(self) -> None:
        """Each row that leads to another state is a line of an edge, and each state is explained."""
        drawn = diagram()
        for (start, event), (_, end) in TRANSITIONS.items():
            if start is not end:
                edge = f"{start.name.capitalize()} --> {end.name.capitalize()}: "
                (line,) = [line for line in drawn.splitlines() if line.strip().startswith(edge)]
                self.assertIn(f"{EVENTS[event]} / ", line)
        self.assertEqual(set(STATES), set(State))
