"""Who is looked for at other sites: once at a time, not too often, and remembered when he is nowhere."""

from typing import Any, cast

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.contract import Snapshot
from registrar.sites.asking import Unanswered
from registrar.sites.link import SiteLink
from registrar.sites.lookup import Lookup
from rollcall.cluster.config import ClusterConfig
from tests.registrar.examples import ALICE, NOW, OVER_UDP, a_binding, a_bound
from tests.registrar.sites.test_words import a_node

THERE = evolve(OVER_UDP, node="a1")
CONFIG = ClusterConfig(site="fra", site_negative_seconds=3.0, max_site_negatives=2, site_questions_per_second=5,
                       max_site_questions=2, reconnect_wait=10.0)


class FakeLink:
    """A link that answers when the test wants it to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_up = True
        self.nodes = (a_node("a1"),)
        self.asked: list[tuple[bytes, Deferred[Snapshot]]] = []

    async def find(self, key: bytes) -> Snapshot:
        """Note who is asked for."""
        waiting: Deferred[Snapshot] = Deferred()
        self.asked.append((key, waiting))
        return await waiting


class LookupTests(SynchronousTestCase):
    """Two other sites."""

    def setUp(self) -> None:
        self.now = NOW
        self.ams, self.lon = FakeLink("ams"), FakeLink("lon")
        self.lookup = self.made(CONFIG)

    def made(self, config: ClusterConfig) -> Lookup:
        """Return a lookup at both."""
        return Lookup(cast("list[SiteLink]", [self.ams, self.lon]), config, lambda: self.now)

    def look(self, aor: str = ALICE) -> Deferred[Snapshot | None]:
        """Look for somebody."""
        return Deferred.fromCoroutine(self.lookup.lookup(aor))

    def answer(self, ams: Any = Snapshot(), lon: Any = Snapshot()) -> None:  # noqa: B008
        """Answer the last question of both."""
        for link, answer in ((self.ams, ams), (self.lon, lon)):
            waiting = link.asked[-1][1]
            if isinstance(answer, Exception):
                waiting.errback(answer)
            else:
                waiting.callback(answer)

    def outcomes(self) -> dict[str, int]:
        """Return what became of all."""
        return {outcome: number for outcome, number in self.lookup.outcomes.items() if number}

    def test_found(self) -> None:
        """Whoever has bindings is believed; nothing of it is remembered."""
        found = Snapshot(1, (a_bound(ALICE, 7),))
        for _ in range(2):
            looking = self.look()
            self.answer(Snapshot(0, (), NOW), found)
            self.assertEqual(self.successResultOf(looking), found)
        self.assertEqual(self.ams.asked[0][0], b"alice@example.com")
        self.assertEqual(self.outcomes(), {"found": 2})

    def test_once_at_a_time(self) -> None:
        """Who is asked for already is not asked for again: all get the same answer."""
        looking = [self.look() for _ in range(5)]
        self.assertEqual((len(self.ams.asked), self.lookup.waiting), (1, 1))
        found = Snapshot(1, (a_binding(source=THERE),))
        self.answer(found)
        self.assertEqual([self.successResultOf(each) for each in looking], [found] * 5)
        self.assertEqual(self.lookup.waiting, 0)

    def test_long_names(self) -> None:
        """Names longer than any that somebody has are not remembered: anybody may call them, each for kilobytes."""
        for _ in range(2):
            looking = self.look(f"sip:{'x' * 10_000}@example.com")
            self.answer()
            self.assertIsNone(self.successResultOf(looking))
        self.assertEqual(self.outcomes(), {"nobody": 2})

    def test_nobody(self) -> None:
        """Who is nowhere is remembered for a while, of so many the latest."""
        for number in range(3):
            looking = self.look(f"sip:{number}@example.com")
            self.answer()
            self.assertIsNone(self.successResultOf(looking))
        for number in (1, 2):
            self.assertIsNone(self.successResultOf(self.look(f"sip:{number}@example.com")))
        self.assertEqual(len(self.ams.asked), 3)
        self.assertNoResult(self.look("sip:0@example.com"))
        self.answer()
        self.now += 3.1
        self.assertNoResult(self.look("sip:2@example.com"))
        self.answer()
        self.assertEqual(self.outcomes(), {"nobody": 5, "remembered": 2})

    def test_lost(self) -> None:
        """Who was lost a moment ago is told so, and asked for again: he may be back at once. Later he is nobody."""
        for _ in range(2):
            looking = self.look()
            self.answer(Snapshot(1, (), NOW - 4))
            self.assertEqual(self.successResultOf(looking), Snapshot(1, (), NOW - 4))
        self.now += 10
        self.look()
        self.answer(Snapshot(1, (), NOW - 4))
        self.assertIsNone(self.successResultOf(self.look()))
        self.assertEqual(self.outcomes(), {"nobody": 3, "remembered": 1})

    def test_no_answer(self) -> None:
        """That a site did not answer is not remembered as if he were nowhere; that of another site counts."""
        looking = self.look()
        self.answer(Unanswered("closed"))
        self.assertIsNone(self.successResultOf(looking))
        looking = self.look()
        self.answer(Unanswered("closed"), found := Snapshot(1, (a_bound(ALICE, 7),)))
        self.assertEqual(self.successResultOf(looking), found)
        self.assertEqual(self.outcomes(), {"no_answer": 1, "found": 1})

    def test_not_reachable(self) -> None:
        """A site that does not answer is not asked; when none does the answer is there at once."""
        self.ams.is_up = False
        looking = self.look()
        self.lon.asked[-1][1].callback(Snapshot())
        self.assertIsNone(self.successResultOf(looking))
        self.lon.is_up = False
        self.assertIsNone(self.successResultOf(self.look("sip:bob@example.com")))
        self.assertEqual((len(self.ams.asked), self.outcomes()), (0, {"nobody": 1, "not_reachable": 1}))

    def test_too_many(self) -> None:
        """No more wait at a time, and are asked for in a second, than are allowed to; others are not found."""
        waiting = [self.look(f"sip:{number}@example.com") for number in range(2)]
        self.assertIsNone(self.successResultOf(self.look()))
        for link in (self.ams, self.lon):
            for _, each in link.asked:
                each.callback(Snapshot())
        self.assertEqual([self.successResultOf(each) for each in waiting], [None, None])
        for number in range(10, 13):
            self.look(f"sip:{number}@example.com")
            self.answer()
        self.assertIsNone(self.successResultOf(self.look("sip:20@example.com")))
        self.assertEqual(self.outcomes(), {"nobody": 5, "too_many": 2})
        self.now += 1
        self.assertNoResult(self.look("sip:20@example.com"))
        self.answer()

    def test_unknown_node(self) -> None:
        """A phone that uses UDP counts when its node is known, for that has to send; one with a Path always does."""
        there, elsewhere = a_binding(source=THERE), a_binding(source=evolve(OVER_UDP, node="a9"))
        by_path = evolve(elsewhere, path=("<sip:edge.example.com;lr>",))
        looking = self.look()
        self.answer(Snapshot(1, (there, elsewhere, by_path)))
        self.assertEqual(self.successResultOf(looking), Snapshot(1, (there, by_path)))

    def test_nothing_remembered(self) -> None:
        """With no time to remember for, nobody is."""
        self.lookup = self.made(evolve(CONFIG, site_negative_seconds=0.0))
        for _ in range(2):
            looking = self.look()
            self.answer()
            self.assertIsNone(self.successResultOf(looking))
        self.assertEqual(len(self.ams.asked), 2)
