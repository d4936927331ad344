"""Calls that end in silence, and what balancers are told of calls."""

from collections.abc import Mapping
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.media.config import MediaConfig
from registrar.media.counting import Counting, watch_sessions
from registrar.media.session import Session, Side
from registrar.media.sessions import Sessions
from registrar.media.timers import (
    GRACE_SECONDS,
    LONGEST_SECONDS,
    SECOND_LOOK_SECONDS,
    Refreshing,
    Timers,
    agreed,
    refreshing,
)
from rollcall.media.ng import NgRefused, NgUnreachable
from rollcall.media.reports import CallFacts, CallOver, Counts, Report
from rollcall.net.wheel import TimerWheel
from rollcall.ops.metrics import Metrics
from rollcall.sip.message import Request, Response
from tests.registrar.media.examples import NOW, OWNER, a_session

CONFIG = MediaConfig(check_seconds=60)


class Engine:
    """An rtpengine that says what the test wants."""

    def __init__(self) -> None:
        self.problem: Exception | None = None
        self.asked: list[str] = []

    async def ask(self, address: str, command: str, arguments: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Note what is asked."""
        self.asked.append(f"{command} {arguments['call-id']}")
        if self.problem is not None:
            raise self.problem
        return {}


class TimersCase(SynchronousTestCase):
    """The calls of one registrar that has no Redis, and time that the test lets pass."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.engine = Engine()
        self.sessions = Sessions(None, OWNER, self.clock.seconds)
        self.timers = Timers(self.sessions, TimerWheel(self.clock), self.engine, CONFIG, self.clock.seconds)
        self.told: list[Report] = []
        self.counting = Counting(self.sessions, self.told.append, self.clock, self.clock.seconds)

    def pass_time(self, seconds: float) -> None:
        """Let it pass in steps, as it does."""
        self.clock.pump([1.0] * int(seconds))

    def change(self, **changed: Any) -> None:
        """Change the call."""
        self.successResultOf(Deferred.fromCoroutine(
            self.sessions.change("c1", lambda session: evolve(session, **changed))))


class TimersTests(TimersCase):
    """When a call is over."""

    def test_time_is_over(self) -> None:
        """A call whose time is over is deleted at its node and forgotten."""
        self.sessions.begin(a_session(expires_at=NOW + 30))
        self.pass_time(29)
        self.assertEqual((len(self.sessions), self.engine.asked), (1, []))
        self.pass_time(2)
        self.assertEqual((len(self.sessions), self.engine.asked, self.timers.expired), (0, ["delete c1"], 1))
        self.assertEqual(len(self.timers), 0)

    def test_refreshed(self) -> None:
        """A refresh moves the end."""
        self.sessions.begin(a_session(expires_at=NOW + 30))
        self.pass_time(20)
        self.change(expires_at=NOW + 50)
        self.pass_time(25)
        self.assertEqual(len(self.sessions), 1)
        self.pass_time(6)
        self.assertEqual(len(self.sessions), 0)

    def test_asked_after(self) -> None:
        """The node of a call is asked for it now and then; while it knows it, or says nothing, the call goes on."""
        self.sessions.begin(a_session())
        self.pass_time(125)
        self.assertEqual(self.engine.asked, ["query c1"] * 2)
        self.engine.problem = NgUnreachable("gone")
        self.pass_time(120)
        self.assertEqual((self.engine.asked, len(self.sessions)), (["query c1"] * 4, 1))

    def test_let_go(self) -> None:
        """A call that its node does not know, and does not know a little later either, is over."""
        self.sessions.begin(a_session())
        self.engine.problem = NgRefused("Unknown call-id", False)
        self.pass_time(61)
        self.assertEqual(len(self.sessions), 1)
        self.pass_time(SECOND_LOOK_SECONDS)
        self.assertEqual((len(self.sessions), self.timers.let_go, len(self.timers)), (0, 1, 0))

    def test_moved_meanwhile(self) -> None:
        """A call that has got another node before the second look goes on."""
        self.sessions.begin(a_session())
        self.engine.problem = NgRefused("Unknown call-id", False)
        self.pass_time(61)
        self.change(node="m2")
        self.engine.problem = None
        self.pass_time(100)
        self.assertEqual((len(self.sessions), len(self.timers)), (1, 1))

    def test_not_asked(self) -> None:
        """A call that is not answered, or at a node of another kind, is only timed."""
        self.sessions.begin(a_session(call_id="c1", id="1", answered_at=0.0))
        self.sessions.begin(a_session(call_id="c2", id="2", kind="freeswitch", expires_at=NOW + 100))
        self.pass_time(99)
        self.assertEqual(self.engine.asked, [])
        self.pass_time(2)
        self.assertEqual((self.engine.asked, len(self.sessions)), ([], 1))

    def test_node_is_gone(self) -> None:
        """A call whose time is over ends, too, when its node does not answer."""
        self.sessions.begin(a_session(expires_at=NOW + 30))
        self.engine.problem = NgUnreachable("gone")
        self.pass_time(31)
        self.assertEqual(len(self.sessions), 0)

    def test_stop(self) -> None:
        """After the stop nothing is left with the reactor."""
        self.sessions.begin(a_session())
        self.timers.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SessionTimerTests(SynchronousTestCase):
    """RFC 4028."""

    def test_refreshing(self) -> None:
        """What a Session-Expires says, in all its spellings; what cannot be understood says nothing."""
        for text, wanted in (
            ("1800;refresher=uas", Refreshing(1800, False)), ("90 ; refresher=UAC", Refreshing(90, True)),
            ("90", Refreshing(90, True)), ("90;x=1;refresher=\"uas\"", Refreshing(90, False)), ("0", None),
            ("", None), ("soon", None), ("99999999999", None),
        ):
            headers = (("x" if not text else "Session-Expires", text),)
            self.assertEqual(refreshing(Response.new(200, None, headers)), wanted, text)

    def test_agreed(self) -> None:
        """The answer decides for how long the call lasts, and which side refreshes it."""
        request = Request.new("INVITE", "sip:a@192.0.2.1", (("From", "<sip:bob@example.com>;tag=b"),))
        response = Response.new(200, None, (("Session-Expires", "90;refresher=uac"),))
        session = agreed(a_session(), request, response, NOW, 3600)
        self.assertEqual((session.interval, session.refresher, session.expires_at),
                         (90, "callee", NOW + 90 + GRACE_SECONDS))
        long = Response.new(200, None, (("Session-Expires", "9999999999"),))
        self.assertEqual(agreed(a_session(), request, long, NOW, 3600).expires_at,
                         NOW + LONGEST_SECONDS + GRACE_SECONDS)
        session = agreed(session, request, Response.new(200), NOW + 50, 3600)
        self.assertEqual((session.interval, session.refresher, session.expires_at), (0, "", NOW - 10 + 3600))


class CountingTests(TimersCase):
    """Counts, facts and ends."""

    def of(self, kind: type[Any]) -> list[Any]:
        """Return what was told of one kind."""
        return [each for each in self.told if isinstance(each, kind)]

    def test_counts(self) -> None:
        """Each second the calls of each node are told, and once more at the end that there are none."""
        self.counting.start()
        self.sessions.begin(a_session())
        self.sessions.begin(a_session(call_id="c2", id="s2", node="m2"))
        self.pass_time(2)
        self.change(node="m2")
        self.pass_time(1)
        self.counting.stop()
        self.assertEqual([each.calls for each in self.of(Counts)],
                         [{}, {"m1": 1, "m2": 1}, {"m1": 1, "m2": 1}, {"m2": 2}, {}])
        self.assertEqual({each.registrar for each in self.of(Counts)}, {OWNER})

    def test_facts(self) -> None:
        """Facts are told at the answer, and when another node or codec is used; not at each refresh."""
        self.sessions.begin(a_session(answered_at=0.0, callee=Side()))
        self.assertEqual(self.of(CallFacts), [])
        self.change(answered_at=NOW, callee=a_session().callee)
        self.change(expires_at=NOW + 50)
        self.change(node="m2")
        first, second = self.of(CallFacts)
        self.assertEqual((first.node, first.codec, first.clock_rate, first.hosts),
                         ("m1", "PCMA", 8000, ("192.0.2.1", "192.0.2.2")))
        self.assertEqual(second.node, "m2")

    def test_over(self) -> None:
        """The end is told once."""
        session = a_session()
        self.sessions.begin(session)
        for _ in range(2):
            self.successResultOf(Deferred.fromCoroutine(self.sessions.end(session)))
        self.assertEqual(self.of(CallOver), [CallOver(call_id="c1")])

    def test_long_names(self) -> None:
        """Of a call whose Call-ID is longer than balancers read only the count is told."""
        session = a_session(call_id="c" * 10_000)
        self.sessions.begin(session)
        self.assertEqual(self.counting.calls, {"m1": 1})
        self.successResultOf(Deferred.fromCoroutine(self.sessions.end(session)))
        self.assertEqual((self.counting.calls, self.told), ({}, []))

    def test_a_listener_fails(self) -> None:
        """Whoever is told and fails is logged; others are told all the same."""

        def failing(before: Session | None, after: Session | None) -> None:
            raise ZeroDivisionError

        self.sessions.on_change.insert(0, failing)
        self.sessions.begin(a_session())
        self.assertEqual(self.counting.calls, {"m1": 1})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_metrics(self) -> None:
        """Operators see the counts."""
        metrics = Metrics(process=False)
        watch_sessions(metrics, self.sessions, self.counting, self.timers)
        self.sessions.begin(a_session(expires_at=NOW + 30))
        self.assertIn(b'rollcall_media_calls{node="m1"} 1.0', metrics.render())
        self.pass_time(31)
        self.assertIn(b'rollcall_media_calls_silent_total{by="time"} 1.0', metrics.render())
