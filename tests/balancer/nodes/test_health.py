"""Whether a node lives."""

from twisted.trial.unittest import SynchronousTestCase

from balancer.nodes.health import TRANSITIONS, Event, Health, Phase
from rollcall.media.snapshot import NodeState
from tests.balancer.nodes.examples import LIMITS


class HealthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.health = Health(LIMITS)

    def lose(self, number: int, is_refused: bool = False) -> NodeState:
        for _ in range(number):
            self.health.missed("silence", is_refused)
        return self.health.state

    def answer(self, now: float, is_another_life: bool = False) -> NodeState:
        self.health.answered(now, is_another_life)
        return self.health.state

    def test_first_answer(self) -> None:
        """A node that was never asked is suspect; with its first answer it is up."""
        self.assertIs(self.health.state, NodeState.SUSPECT)
        self.assertIs(self.answer(0.0), NodeState.UP)
        self.assertEqual(self.health.why, "")

    def test_missed_answers(self) -> None:
        """The first missed answer makes it suspect, the third in a row means that it is down; why is remembered."""
        self.answer(0.0)
        self.assertIs(self.lose(1), NodeState.SUSPECT)
        self.assertTrue(self.health.is_owing)
        self.assertIs(self.lose(1), NodeState.SUSPECT)
        self.assertIs(self.lose(1), NodeState.DOWN)
        self.assertFalse(self.health.is_owing)
        self.assertEqual(self.health.why, "silence")

    def test_one_answer_makes_up_for_misses(self) -> None:
        """Answers that were missed with others between do not add up."""
        self.answer(0.0)
        for now in range(1, 10):
            self.assertIs(self.lose(2), NodeState.SUSPECT)
            self.assertIs(self.answer(float(now)), NodeState.UP)

    def test_refusals(self) -> None:
        """Where nobody listens two questions are enough, in a row."""
        self.answer(0.0)
        self.assertIs(self.lose(1, is_refused=True), NodeState.SUSPECT)
        self.answer(1.0)
        self.assertIs(self.lose(1, is_refused=True), NodeState.SUSPECT)
        self.assertIs(self.lose(1, is_refused=True), NodeState.DOWN)

    def test_coming_back(self) -> None:
        """A node that was down is suspect until it has answered for ten seconds."""
        self.lose(3)
        self.assertIs(self.answer(100.0), NodeState.SUSPECT)
        self.assertIs(self.answer(109.9), NodeState.SUSPECT)
        self.assertIs(self.answer(110.0), NodeState.UP)

    def test_failing_while_coming_back(self) -> None:
        """A missed answer meanwhile means that it is down again, and that its time begins anew."""
        self.lose(3)
        self.answer(100.0)
        self.assertIs(self.lose(1), NodeState.DOWN)
        self.assertIs(self.answer(109.0), NodeState.SUSPECT)
        self.assertIs(self.answer(118.9), NodeState.SUSPECT)
        self.assertIs(self.answer(119.0), NodeState.UP)

    def test_another_life(self) -> None:
        """A node whose process was started again has to answer for a while, too, and anew with each such life."""
        self.answer(0.0)
        self.assertIs(self.answer(100.0, is_another_life=True), NodeState.SUSPECT)
        self.assertEqual(self.health.why, "it was started again")
        self.assertIs(self.answer(109.0, is_another_life=True), NodeState.SUSPECT)
        self.assertIs(self.answer(110.0), NodeState.SUSPECT)
        self.assertIs(self.answer(119.0), NodeState.UP)

    def test_every_phase_has_a_way_out(self) -> None:
        """From each phase an answer leads towards up, and enough missed ones lead down."""
        for phase in Phase:
            forward = {TRANSITIONS.get((phase, event)) for event in (Event.ANSWER, Event.SETTLED)}
            self.assertTrue(phase is Phase.UP or forward & {Phase.UP, Phase.RETURNING})
            self.assertIs(TRANSITIONS.get((phase, Event.LAST_MISS), phase), Phase.DOWN)
