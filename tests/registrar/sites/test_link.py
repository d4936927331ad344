"""One other site: asked every second, one member after the other, and left alone while nobody answers."""

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.contract import Snapshot
from registrar.sites.asking import Place, Unanswered
from registrar.sites.link import SiteLink
from registrar.sites.words import Question, nodes_answer, record_answer
from rollcall.cluster.config import ClusterConfig, SiteConfig
from rollcall.net.wheel import TimerWheel
from tests.registrar.examples import NOW, a_binding
from tests.registrar.sites.test_words import a_node

ONE, TWO = ("192.0.2.7", 5070), ("2001:db8::8", 5070)
THREE = ("192.0.2.9", 5071)
NODES = (a_node("a1"), a_node("a3", host=THREE[0], port=THREE[1]))
FOUND = Snapshot(1, (a_binding(),))
SORRY = Unanswered("503 Service Unavailable", is_answer=True)
REFUSED, SILENT = Unanswered("refused"), Unanswered("no answer in time", is_silent=True)


class LinkTests(SynchronousTestCase):
    """A site with two members that are configured, and a third node."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.answers: dict[Place, Any] = {}
        """What each place says; it lives there when nothing stands here."""
        self.asked: list[tuple[Place, bytes | None]] = []
        self.changes = 0
        self.link = self.made()

    def made(self, first: int = 0) -> SiteLink:
        """Return a link that has not begun yet."""
        site = SiteConfig(name="ams", members=("192.0.2.7:5070", "[2001:db8::8]:5070"))
        config = ClusterConfig(site="fra", site_poll_seconds=1.0, site_dead_seconds=3.0, site_question_seconds=0.5)
        wheel = TimerWheel(self.clock, 0.0625)
        link = SiteLink(site, config, self.ask, lambda name, nodes: tuple(nodes), wheel, self.clock.seconds, first)
        link.on_change.append(self.changed)
        return link

    def changed(self) -> None:
        """Count a change."""
        self.changes += 1

    async def ask(self, site: str, place: Place, question: Question, seconds: float) -> bytes:
        """Note a question, and answer it as the test wants; silence takes its time."""
        self.asked.append((place, question.aor))
        answer = self.answers.get(place, nodes_answer(NODES) if question.aor is None else record_answer(FOUND))
        if answer is SILENT:
            waited: Deferred[None] = Deferred()
            self.clock.callLater(seconds, waited.callback, None)
            await waited
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, bytes)
        return answer

    def find(self) -> Deferred[Snapshot]:
        """Ask what is bound there."""
        return Deferred.fromCoroutine(self.link.find(b"bob@example.com"))

    def begin(self) -> None:
        """Let it be known."""
        self.link.start()
        self.addCleanup(self.link.stop)
        self.asked.clear()

    def let_pass(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.pump([0.0625] * round(seconds / 0.0625))

    def state(self) -> tuple[bool, bool, int]:
        """Return whether it is reachable, answers, and how many nodes are known."""
        return self.link.state.reachable, self.link.is_up, len(self.link.state.nodes)

    def test_known(self) -> None:
        """It is asked at once and then every second; always the same member while that answers."""
        self.assertEqual(self.state(), (False, False, 0))
        self.assertEqual(self.link.state.heard_at, 0.0)
        self.begin()
        self.assertEqual(self.state(), (True, True, 2))
        self.let_pass(3.5)
        self.assertEqual(self.asked, [(ONE, None)] * 3)
        self.assertEqual(self.link.state.nodes, NODES)
        self.assertEqual(self.changes, 1)

    def test_first(self) -> None:
        """Not all nodes begin with the same member."""
        self.link = self.made(3)
        self.link.start()
        self.link.stop()
        self.assertEqual(self.asked, [(TWO, None)])
        self.let_pass(5)
        self.assertEqual(len(self.asked), 1)

    def test_next_member(self) -> None:
        """When one refuses the next is asked in the same turn, in the end one that is not configured; it stays that."""
        self.begin()
        self.answers = {ONE: REFUSED, TWO: REFUSED}
        self.assertEqual(self.successResultOf(self.find()), FOUND)
        self.assertEqual([place for place, _ in self.asked], [ONE, TWO, THREE])
        self.let_pass(1.5)
        self.assertEqual(self.asked[3:], [(THREE, None)])
        self.assertEqual(self.state(), (True, True, 2))

    def test_silence(self) -> None:
        """A question to who is silent takes its time and no more; after it nobody waits until somebody has answered."""
        self.begin()
        self.answers = dict.fromkeys((ONE, TWO, THREE), SILENT)
        first = self.find()
        self.let_pass(0.375)
        self.assertNoResult(first)
        self.let_pass(0.25)
        self.failureResultOf(first, Unanswered)
        self.failureResultOf(self.find(), Unanswered)
        self.assertEqual([place for place, aor in self.asked if aor], [ONE])
        self.assertEqual(self.state(), (True, False, 2))
        self.let_pass(4)
        self.assertEqual(self.state(), (False, False, 2))
        self.assertEqual(self.link.nodes, ())
        self.answers = {}
        self.let_pass(2)
        self.assertEqual(self.state(), (True, True, 2))
        self.assertEqual(self.successResultOf(self.find()), FOUND)

    def test_one_silent_host(self) -> None:
        """A silent member is left for the next one as soon as it was asked who lives there."""
        self.begin()
        self.answers = {ONE: SILENT}
        self.let_pass(2)
        self.assertEqual(self.state(), (True, True, 2))
        self.assertEqual(self.successResultOf(self.find()), FOUND)

    def test_all_refuse(self) -> None:
        """When all refuse to speak nobody lives there: that is known at once, and a change."""
        self.begin()
        self.answers = dict.fromkeys((ONE, TWO, THREE), REFUSED)
        self.let_pass(1.125)
        self.assertEqual(self.state(), (False, False, 0))
        self.assertEqual(self.changes, 2)

    def test_no_redis_there(self) -> None:
        """Who answers that it cannot know just now is there: the next one is asked, and nothing is said of the site."""
        self.begin()
        self.answers = {ONE: SORRY}
        self.assertEqual(self.successResultOf(self.find()), FOUND)
        self.answers = dict.fromkeys((ONE, TWO, THREE), SORRY)
        with capturedLogs() as logged:
            for _ in range(5):
                self.assertIs(self.failureResultOf(self.find(), Unanswered).value, SORRY)
                self.assertEqual(self.state(), (True, True, 2))
        self.assertEqual([event for event in logged if event["log_level"] is LogLevel.warn], [])
        self.assertNotIn(None, [aor for _, aor in self.asked])

    def test_hurry(self) -> None:
        """When a connection with one of its nodes has ended it is asked at once, and then again every second."""
        self.begin()
        self.let_pass(0.5)
        self.link.hurry()
        self.let_pass(0.125)
        self.assertEqual(len(self.asked), 1)
        self.let_pass(1.0)
        self.assertEqual(len(self.asked), 2)
        self.link.stop()
        self.link.hurry()
        self.let_pass(2)
        self.assertEqual(len(self.asked), 2)

    def test_not_understood(self) -> None:
        """Who answers something else is not believed, and the next one is asked."""
        self.begin()
        self.answers = {ONE: b"{]"}
        self.let_pass(1.125)
        self.assertEqual(self.successResultOf(self.find()), FOUND)
        self.assertEqual([place for place, _ in self.asked], [ONE, TWO, TWO])
        self.answers = dict.fromkeys((ONE, TWO, THREE), msgspec.json.encode({"record": b"?", "nodes": [1]}))
        self.failureResultOf(self.find(), Unanswered)
        self.assertFalse(self.link.is_up)

    def test_said_once(self) -> None:
        """That nobody answers is said once, with why of each place, and that somebody does again; no more than that."""
        self.answers = dict.fromkeys((ONE, TWO, THREE), REFUSED)
        with capturedLogs() as logged:
            self.begin()
            self.let_pass(5)
            self.answers = {}
            self.let_pass(3)
        said = [event["log_format"].partition(" at ")[0] for event in logged if event["log_level"] > LogLevel.debug]
        self.assertEqual(said, [
            *["site {site} has not answered"] * 2,
            "site {site} does not answer: until it does nobody is asked for there",
            "site {site} answers: {number} nodes live there"])

    def test_no_members(self) -> None:
        """A site without members is not reachable, and nobody is asked."""
        self.link = SiteLink(SiteConfig(name="ams"), ClusterConfig(), self.ask, lambda name, nodes: tuple(nodes),
                             TimerWheel(self.clock, 0.0625), self.clock.seconds, 5)
        self.begin()
        self.let_pass(5)
        self.assertEqual((self.state(), self.asked), ((False, False, 0), []))
