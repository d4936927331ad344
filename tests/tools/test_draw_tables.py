"""Tests of tools/draw_tables.py: every row is drawn, and docs/transactions.md is what the tables say today."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.transaction import Action, Event, State
from tools.draw_tables import DOCUMENT, MACHINES, Machine, diagram, render

ROOT = Path(__file__).parents[2]

SMALL = Machine(
    "Small",
    "nowhere",
    {
        (State.TRYING, Event.REQUEST): ((Action.SEND, Action.START_E), State.TRYING),
        (State.TRYING, Event.TIMER_E): ((Action.RESEND, Action.START_E), State.TRYING),
        (State.TRYING, Event.PROVISIONAL): ((), State.TRYING),
        (State.TRYING, Event.SUCCESS): ((Action.PASS_UP,), State.TERMINATED),
        (State.TRYING, Event.FAILURE): ((Action.PASS_UP,), State.TERMINATED),
    },
    State.TRYING,
    is_client=True,
)


class DrawTablesTests(SynchronousTestCase):
    def test_document_is_current(self) -> None:
        """docs/transactions.md is what `python -m tools.draw_tables` would write."""
        self.assertEqual((ROOT / DOCUMENT).read_text(encoding="utf-8"), render())

    def test_diagram(self) -> None:
        """Rows between the same states share an edge, those with the same actions a line of its label."""
        self.assertEqual(
            diagram(SMALL).splitlines(),
            [
                "stateDiagram-v2",
                "    [*] --> Trying: request / send, start E",
                "    Trying --> Trying: timer E / send again, start E<br>1xx / nothing",
                "    Trying --> Terminated: 2xx, 3xx-6xx / pass up",
                "    Terminated --> [*]",
            ],
        )

    def test_every_row_is_drawn(self) -> None:
        """Each diagram names every state of its table, and as many events as there are rows."""
        for machine in MACHINES:
            drawn = diagram(machine)
            for state, _ in machine.table:
                self.assertIn(f" {state.name.capitalize()} --> ", drawn)
            labels = [line.partition(": ")[2] for line in drawn.splitlines() if ": " in line]
            causes = [cause.partition(" / ")[0].split(", ") for label in labels for cause in label.split("<br>")]
            beginning = 0 if machine.is_client else 1
            self.assertEqual(sum(map(len, causes)) - beginning, len(machine.table), machine.title)
