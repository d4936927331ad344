"""Beliefs of the ways to one node: blame, forgetting, distrust."""

from twisted.trial.unittest import SynchronousTestCase

from balancer.quality.beliefs import AGES, DELAYS_SECONDS, NodeBeliefs, Reported
from rollcall.media.snapshot import Quality

HALF_LIFE = 30.0
BEGAN_AT = 1000.0


class NodeBeliefsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.beliefs = NodeBeliefs(HALF_LIFE, 2, lambda group: Quality(0.0, 20.0), BEGAN_AT)

    def hear(self, near: str, far: str | None, loss: float, phones: int = 10, at: float = BEGAN_AT,
             **values: float) -> None:
        """Let so many phones of `near` report 10 s of speech with others of `far`."""
        for number in range(phones):
            self.beliefs.heard(Reported(at, f"{near}{number}", near, far, 500.0, 500.0 * loss, **values))

    def losses(self, now: float = BEGAN_AT, rounds: int = 10) -> dict[str, float]:
        for _ in range(rounds):
            self.beliefs.solve(now)
        return {group: round(way.loss, 3) for group, way in self.beliefs.ways.items()}

    def test_one_way(self) -> None:
        """Where nothing is relayed a loss is of the one way there is."""
        self.hear("a", None, 0.08, phones=40)
        self.assertTrue(0.075 <= self.losses()["a"] <= 0.08)

    def test_blame(self) -> None:
        """Of three groups whose calls mix, the one that is there whenever something is lost gets the blame of all."""
        for near, far, loss in [
            ("a", "b", 0.08), ("b", "a", 0.08), ("a", "c", 0.08), ("c", "a", 0.08), ("b", "c", 0.0), ("c", "b", 0.0),
        ]:
            self.hear(near, far, loss)
        losses = self.losses()
        self.assertGreater(losses["a"], 0.06)
        self.assertLess(max(losses["b"], losses["c"]), 0.003)

    def test_nobody_else(self) -> None:
        """When two groups talk to each other alone, each gets half."""
        self.hear("a", "b", 0.08, phones=40)
        self.hear("b", "a", 0.08, phones=40)
        losses = self.losses()
        self.assertEqual(losses["a"], losses["b"])
        self.assertTrue(0.035 <= losses["a"] <= 0.04)

    def test_own_group(self) -> None:
        """A call within a group uses its way twice, each with half of the loss."""
        self.hear("a", "a", 0.08, phones=40)
        self.assertTrue(0.035 <= self.losses()["a"] <= 0.04)

    def test_liars(self) -> None:
        """Two phones that claim to lose half of all packets move nothing, and the third does."""
        self.hear("a", "a", 0.0, phones=12)
        for number in range(2):
            self.beliefs.heard(Reported(BEGAN_AT, f"liar{number}", "a", "a", 500.0, 250.0))
        self.assertEqual(self.losses(), {"a": 0.0})
        self.beliefs.heard(Reported(BEGAN_AT, "another", "a", "a", 500.0, 250.0))
        self.assertGreater(self.losses()["a"], 0.005)

    def test_one_phone_has_one_voice(self) -> None:
        """A phone that reports on many calls, to many groups, and much, still is one."""
        self.hear("a", "a", 0.0, phones=12)
        for number in range(50):
            self.beliefs.heard(Reported(BEGAN_AT, "liar", "a", f"g{number}", 5000.0, 2500.0))
        self.assertEqual(self.losses()["a"], 0.0)

    def test_few_phones(self) -> None:
        """One phone alone is not believed; of up to five the worst is not, so that it moves nothing."""
        self.hear("a", None, 0.5, phones=1)
        self.assertEqual(self.losses(), {"a": 0.0})
        self.assertEqual((self.beliefs.ways["a"].weight, self.beliefs.ways["a"].phones), (0.0, 1))
        for number in range(4):
            self.beliefs.heard(Reported(BEGAN_AT, f"honest{number}", "a", None, 500.0, 0.0))
        self.assertEqual(self.losses(), {"a": 0.0})

    def test_two_phones_that_agree(self) -> None:
        """What two phones say, both of them, is believed as far as two outweigh the prior."""
        self.hear("a", None, 0.08, phones=2)
        self.assertEqual(self.losses(), {"a": 0.04})

    def test_forgetting(self) -> None:
        """After a half-life what was reported counts half of what is reported now."""
        self.hear("a", None, 0.08, phones=40)
        self.hear("a", None, 0.0, phones=40, at=BEGAN_AT + HALF_LIFE)
        self.assertTrue(0.023 <= self.losses(BEGAN_AT + HALF_LIFE)["a"] <= 0.08 / 3)

    def test_forgotten(self) -> None:
        """What is hardly worth a packet any more goes, phones and ways."""
        self.hear("a", "b", 0.08)
        self.assertEqual(len(self.beliefs), 10)
        self.losses(BEGAN_AT + 12 * HALF_LIFE)
        self.assertEqual((len(self.beliefs), self.beliefs.ways), (0, {}))

    def test_for_long(self) -> None:
        """The sums stay numbers, and the same, however long it goes on."""
        for step in range(int(AGES) * 4):
            now = BEGAN_AT + step * HALF_LIFE
            self.hear("a", None, 0.08, phones=40, at=now)
            self.beliefs.solve(now)
        self.assertTrue(0.075 <= self.losses(now)["a"] <= 0.08)

    def test_jitter_and_round_trip(self) -> None:
        """Jitter is divided as loss is; round trips are of the reporter's way, and the middle one counts."""
        for near, far, jitter in [("a", "b", 20.0), ("b", "a", 20.0), ("b", "b", 0.0)]:
            self.hear(near, far, 0.0, phones=40, jitter_ms=jitter, rtt_ms=200.0 if near == "a" else 30.0)
        for step in range(10):
            self.beliefs.solve(BEGAN_AT + step * DELAYS_SECONDS)
        ours, theirs = self.beliefs.ways["a"], self.beliefs.ways["b"]
        self.assertGreater(ours.jitter_ms, 15.0)
        self.assertLess(theirs.jitter_ms, 2.0)
        self.assertEqual((ours.rtt_ms, theirs.rtt_ms), (200.0, 30.0))
