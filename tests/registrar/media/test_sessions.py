"""Calls that several registrars know: whatever gets in the way, each ends everywhere, and none ends another."""

from collections.abc import Mapping
from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.media.config import MediaConfig
from registrar.media.counting import Counting
from registrar.media.kept import ENDED_SECONDS, call_key, read
from registrar.media.session import Session
from registrar.media.sessions import MOST_UNANSWERED, SET_UP_SECONDS, Sessions
from registrar.media.timers import SECOND_LOOK_SECONDS, Timers
from rollcall.media.ng import NgRefused
from rollcall.media.reports import CallOver, Report
from rollcall.net.wheel import TimerWheel
from tests.registrar.media.examples import NOW, a_session
from tests.registrar.media.redis_model import ModelRedis, ModelServer

TAGS = frozenset({"a", "b"})
CONFIG = MediaConfig(check_seconds=20, max_call_seconds=3600)


class Engine:
    """An rtpengine that knows the calls it was not told to delete, and no other."""

    def __init__(self) -> None:
        self.calls: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    async def ask(self, address: str, command: str, arguments: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Say whether a call is there, or end it."""
        call_id = arguments["call-id"]
        self.asked.append((command, call_id))
        if call_id not in self.calls:
            raise NgRefused("Unknown call-id", False)
        if command == "delete":
            self.calls.discard(call_id)
        return {"result": b"ok"}


class Registrar:
    """One registrar's part in this."""

    def __init__(self, name: str, clock: Clock, server: ModelServer, engine: Engine) -> None:
        self.redis = ModelRedis(server)
        self.told: list[Report] = []
        self.sessions = Sessions(self.redis, name, clock.seconds)
        self.timers = Timers(self.sessions, TimerWheel(clock), engine, CONFIG, clock.seconds)
        self.counting = Counting(self.sessions, self.told.append, clock, clock.seconds)

    def hear(self) -> None:
        """Let the oldest news of a change arrive."""
        if self.redis.told:
            key = self.redis.told.popleft()
            self.sessions.changed(None if key is None else [key])

    def come_back(self) -> None:
        """Let Redis be there again."""
        self.redis.problem = None
        self.sessions.connected()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is on its way."""
        return not (self.redis.asked or self.redis.replies or self.redis.told)


class SessionsCase(SynchronousTestCase):
    """Two registrars, a Redis, and time that the test lets pass."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.server = ModelServer(self.clock.seconds)
        self.engine = Engine()
        self.first, self.second = (Registrar(name, self.clock, self.server, self.engine) for name in ("n1:1", "n2:1"))

    def settle(self) -> None:
        """Let all arrive that is on its way."""
        for _ in range(2000):
            for each in (self.first, self.second):
                each.redis.reach_server()
                each.redis.reach_client()
                each.hear()
            if self.first.is_quiet and self.second.is_quiet:
                return
        self.fail("it never ends")

    def pass_time(self, seconds: float) -> None:
        """Let time pass in small steps, and everything arrive."""
        for _ in range(int(seconds)):
            self.clock.advance(1)
            self.settle()

    def found(self, registrar: Registrar, call_id: str = "c1") -> Session | None:
        """Return what a registrar finds of a call."""
        finding = Deferred.fromCoroutine(registrar.sessions.find(call_id))
        self.settle()
        return self.successResultOf(finding)

    def ends(self, registrar: Registrar, session: Session) -> None:
        """Let a registrar see the end of a call."""
        ending = Deferred.fromCoroutine(registrar.sessions.end(session))
        self.settle()
        self.successResultOf(ending)

    def begun(self, **changed: Any) -> Session:
        """Return a call that the first registrar has begun, and Redis knows."""
        session = a_session(**changed)
        self.engine.calls.add(session.call_id)
        self.assertTrue(self.first.sessions.begin(session))
        self.settle()
        return session


class SharingTests(SessionsCase):
    """What one does is seen by the other."""

    def test_found_elsewhere(self) -> None:
        """A call that one registrar has begun is found by another, which does not count it."""
        self.begun()
        found = self.found(self.second)
        self.assertEqual(found and found.id, "s1")
        self.assertEqual((self.first.counting.calls, self.second.counting.calls), ({"m1": 1}, {}))

    def test_ended_elsewhere(self) -> None:
        """A BYE at another registrar ends the count at the owner, who tells balancers of the end, once."""
        session = self.begun()
        self.ends(self.second, session)
        self.assertEqual((len(self.first.sessions), self.first.counting.calls), (0, {}))
        self.assertEqual([each for each in self.first.told if isinstance(each, CallOver)], [CallOver(call_id="c1")])
        self.assertIsNone(self.found(self.first))

    def test_changed_elsewhere(self) -> None:
        """What another registrar has changed, the owner knows."""
        self.begun()
        changing = Deferred.fromCoroutine(
            self.second.sessions.change("c1", lambda session: evolve(session, interval=90)))
        self.settle()
        self.successResultOf(changing)
        known = self.first.sessions.known("c1")
        self.assertEqual(known and known.interval, 90)

    def test_changed_at_once(self) -> None:
        """A change is known here before Redis has answered."""
        self.begun()
        start = Deferred.fromCoroutine(self.first.sessions.change("c1", lambda session: evolve(session, interval=60)))
        known = self.first.sessions.known("c1")
        self.assertEqual(known and known.interval, 60)
        self.settle()
        self.successResultOf(start)

    def test_changed_by_both(self) -> None:
        """Of two changes at the same time none is lost."""
        self.begun()
        self.found(self.second)
        both = [Deferred.fromCoroutine(self.first.sessions.change("c1", lambda found: evolve(found, interval=60))),
                Deferred.fromCoroutine(self.second.sessions.change("c1", lambda found: evolve(found, moves=5)))]
        self.settle()
        for each in both:
            self.successResultOf(each)
        for registrar in (self.first, self.second):
            session = self.found(registrar)
            self.assertEqual(session and (session.interval, session.moves), (60, 5))

    def test_other_call(self) -> None:
        """Who knows only the Call-ID of a call cannot end or replace it with one of his own."""
        self.begun()
        strange = a_session(id="strange", owner="n2:1")
        self.second.sessions.begin(strange)
        self.settle()
        self.ends(self.second, strange)
        kept = read(self.server.get(call_key("c1")))
        self.assertEqual((kept and kept.id, len(self.first.sessions)), ("s1", 1))
        self.assertFalse(self.first.sessions.begin(strange))

    def test_taken_over(self) -> None:
        """Who takes over a call counts it; its old owner, if it should live after all, counts it no more."""
        self.begun()
        self.found(self.second)
        taking = Deferred.fromCoroutine(self.second.sessions.take_over("c1", lambda owner: owner == "n1:1"))
        self.settle()
        self.assertTrue(self.successResultOf(taking))
        self.assertEqual((self.first.counting.calls, self.second.counting.calls), ({}, {"m1": 1}))
        self.assertEqual([each for each in self.first.told if isinstance(each, CallOver)], [])


    def test_taken_over_while_it_rings(self) -> None:
        """Nobody hears what becomes of a call whose registrar has ended while it rang: it lapses soon."""
        self.first.sessions.begin(a_session(answered_at=0.0, expires_at=NOW + 14400))
        self.settle()
        taking = Deferred.fromCoroutine(self.second.sessions.take_over("c1", lambda owner: owner == "n1:1"))
        self.settle()
        self.assertTrue(self.successResultOf(taking))
        taken = self.second.sessions.known("c1")
        self.assertEqual(taken and taken.expires_at, self.clock.seconds() + SET_UP_SECONDS)


class RedisAwayTests(SessionsCase):
    """While Redis is away, and when it comes back."""

    def test_begun_while_away(self) -> None:
        """A call that began without Redis is written when it is back."""
        self.first.redis.break_off()
        self.begun()
        self.assertEqual((self.first.sessions.unwritten, self.server.kept), (1, {}))
        self.first.come_back()
        self.settle()
        self.assertEqual(self.first.sessions.unwritten, 0)
        self.assertIsNotNone(self.found(self.second))

    def test_many_begin_while_away(self) -> None:
        """Calls that begin without Redis take no place of those whose ends it has to learn."""
        self.first.redis.break_off()
        for number in range(MOST_UNANSWERED):
            self.assertIsNone(self.found(self.first, f"n{number}"))
            self.first.sessions.begin(a_session(call_id=f"n{number}", id=f"n{number}"))
        self.assertIsNone(self.found(self.first, "theirs"))
        before = self.first.sessions.unwritten
        self.first.sessions.owe_end("theirs", TAGS)
        self.assertEqual(self.first.sessions.unwritten, before + 1)

    def test_ended_while_away(self) -> None:
        """A call that ended without Redis is ended there when it is back."""
        session = self.begun()
        self.first.redis.break_off()
        self.ends(self.first, session)
        self.assertIsNotNone(self.found(self.second))
        self.first.come_back()
        self.settle()
        self.assertIsNone(self.found(self.second))
        self.assertEqual(self.first.sessions.unwritten, 0)

    def test_unknown_end(self) -> None:
        """A BYE of a call that could not be looked up ends it when Redis is back."""
        self.begun()
        self.second.redis.break_off()
        self.assertIsNone(self.found(self.second))
        self.second.sessions.owe_end("c1", TAGS)
        self.second.come_back()
        self.settle()
        self.assertEqual((len(self.first.sessions), self.second.sessions.unwritten), (0, 0))

    def test_end_by_a_stranger(self) -> None:
        """A BYE of somebody who knows no more than the Call-ID ends nothing then, either."""
        self.begun()
        self.second.redis.break_off()
        self.assertIsNone(self.found(self.second))
        self.second.sessions.owe_end("c1", frozenset({"a", "mallory"}))
        self.second.come_back()
        self.settle()
        self.assertEqual((len(self.first.sessions), self.second.sessions.unwritten), (1, 0))

    def test_end_of_no_call_of_ours(self) -> None:
        """The end of a call that Redis has denied to know is nobody's debt."""
        self.assertIsNone(self.found(self.second))
        self.second.sessions.owe_end("c1", TAGS)
        self.assertEqual(self.second.sessions.unwritten, 0)

    def test_ended_by_others_meanwhile(self) -> None:
        """An owner that was cut off learns afterwards which of its calls others have ended."""
        session = self.begun()
        self.first.redis.break_off()
        self.ends(self.second, session)
        self.assertEqual(len(self.first.sessions), 1)
        self.first.come_back()
        self.settle()
        self.assertEqual(self.first.counting.calls, {})

    def test_all_lost(self) -> None:
        """When Redis has lost everything the owner writes its calls again."""
        self.begun()
        self.server.lose()
        self.settle()
        self.assertIsNotNone(self.found(self.second))

    def test_copy_changed_while_away(self) -> None:
        """A change of another's call that could not be written is written later."""
        self.begun()
        self.found(self.second)
        self.second.redis.break_off()
        changing = Deferred.fromCoroutine(
            self.second.sessions.change("c1", lambda session: evolve(session, interval=90)))
        self.settle()
        self.successResultOf(changing)
        self.second.come_back()
        self.settle()
        known = self.first.sessions.known("c1")
        self.assertEqual(known and known.interval, 90)

    def test_bound_of_debts(self) -> None:
        """More ends than may be remembered are counted, and lapse."""
        sessions = Sessions(self.first.redis, "n3:1", self.clock.seconds, max_owed=1)
        self.first.redis.break_off()
        for number in range(3):
            self.successResultOf(Deferred.fromCoroutine(sessions.end(a_session(call_id=f"c{number}"))))
        self.assertEqual((sessions.unwritten, sessions.forgotten_ends), (1, 2))

    def test_bound_of_copies(self) -> None:
        """Of others' calls the oldest copies are forgotten; they are found again in Redis."""
        for number in range(3):
            self.begun(call_id=f"c{number}", id=f"s{number}")
        sessions = Sessions(self.second.redis, "n3:1", self.clock.seconds, max_copies=2)
        for number in range(3):
            finding = Deferred.fromCoroutine(sessions.find(f"c{number}"))
            self.settle()
            self.assertIsNotNone(self.successResultOf(finding))
        self.assertEqual([sessions.known(f"c{number}") is None for number in range(3)], [True, False, False])


class AnyOrderTests(SessionsCase):
    """Whatever comes in whatever order."""

    def test_no_count_leaks(self) -> None:
        """A thousand walks of begins, changes, BYEs, losses and pauses: in the end nobody counts a call that is over.

        Calls whose end was seen are uncounted as soon as everything has arrived, unless Redis had lost what it knew:
        then when the media node was asked for them, which does not know them any more. Others last until their time
        is over. And unless Redis has lost it no call is forgotten that goes on, though others come with its Call-ID.
        """
        for seed in range(1000):
            with self.subTest(seed=seed):
                self.setUp()
                self.walk(Random(seed))

    def walk(self, random: Random) -> None:
        """Do some things in some order, then see what is left."""
        living: dict[str, str] = {}
        self.lost, self.ended, self.short = False, set[str](), set[str]()
        for step in range(60):
            self.do(random, step, living)
        for registrar in (self.first, self.second):
            if registrar.redis.problem is not None:
                registrar.come_back()
        self.settle()
        if not self.lost:
            self.assertEqual(self.counted() & self.ended, set())
            self.assertEqual(set(living.values()) - self.counted() - self.short, set())
        self.pass_time(CONFIG.check_seconds + SECOND_LOOK_SECONDS + 2)
        self.assertEqual(self.counted() & self.ended, set())
        self.clock.advance(7200)
        self.pass_time(SECOND_LOOK_SECONDS)
        self.assertEqual(self.counted(), set())
        for registrar in (self.first, self.second):
            self.assertEqual((registrar.counting.calls, len(registrar.timers)), ({}, 0))

    def counted(self) -> set[str]:
        """Return the ids of all calls that anybody counts."""
        return {session.id for each in (self.first, self.second) for session in each.sessions.own}

    def do(self, random: Random, step: int, living: dict[str, str]) -> None:
        """Do one thing."""
        registrar = random.choice((self.first, self.second))
        what = random.choice(("begin", "bye", "bye", "change", "away", "back", "lose", "pause", "intrude",
                              *["arrive"] * 16))
        if what == "begin":
            lasts = random.choice((30, 3600))
            session = a_session(call_id=f"c{step}", id=f"{step}", owner=registrar.sessions.owner,
                                expires_at=self.clock.seconds() + lasts)
            self.engine.calls.add(session.call_id)
            living[session.call_id] = session.id
            self.short |= {session.id} if lasts == 30 else set()
            self.assertTrue(registrar.sessions.begin(session))
        elif what == "intrude" and living:
            self.intrude(registrar, random.choice(sorted(living)), living, random.random() < 0.5)
        elif what == "bye" and living:
            self.bye(registrar, random.choice(sorted(living)), living)
        elif what == "change" and living:
            self.carry_on(registrar.sessions.change(
                random.choice(sorted(living)), lambda session: evolve(session, moves=session.moves + 1)))
        elif what == "away" and random.random() < 0.3:
            registrar.redis.break_off()
        elif what == "back" and registrar.redis.problem is not None:
            registrar.come_back()
        elif what == "lose" and random.random() < 0.2:
            self.lost = True
            self.server.lose()
        elif what == "pause":
            self.clock.advance(random.choice((0.1, 5, 30)))
        else:
            random.choice((registrar.redis.reach_server, registrar.redis.reach_client, registrar.hear))()

    def intrude(self, registrar: Registrar, call_id: str, living: dict[str, str], hangs_up: bool) -> None:
        """Let another call come with the Call-ID of one that Redis has, and perhaps end."""
        kept = read(self.server.get(call_key(call_id)))
        if kept is None or kept.id != living[call_id] or registrar.redis.problem is not None:
            return
        intruder = a_session(call_id=call_id, id=f"not-{kept.id}", owner=registrar.sessions.owner,
                             expires_at=self.clock.seconds() + 30)
        if registrar.sessions.begin(intruder) and hangs_up:
            self.carry_on(registrar.sessions.end(intruder))

    def bye(self, registrar: Registrar, call_id: str, living: dict[str, str]) -> None:
        """Let a BYE pass; a call that is not known yet here goes on, for who hangs up that early asks elsewhere."""
        identity = living[call_id]

        async def hang_up() -> None:
            session = await registrar.sessions.find(call_id)
            if session is not None and session.id == identity:
                self.engine.calls.discard(call_id)
                self.ended.add(identity)
                living.pop(call_id, None)
                await registrar.sessions.end(session)

        self.carry_on(hang_up())

    def carry_on(self, coroutine: Any) -> None:
        """Let it go on; whatever it raises fails the test."""
        Deferred.fromCoroutine(coroutine).addErrback(lambda failure: failure.raiseException())


class TombstoneTests(SessionsCase):
    """What is left of a call in Redis."""

    def test_same_call_id_again(self) -> None:
        """A Call-ID may be used again once its call is over."""
        self.ends(self.first, self.begun())
        self.begun(id="s2")
        found = self.found(self.second)
        self.assertEqual(found and found.id, "s2")

    def test_late_write(self) -> None:
        """A change that was on its way when the call ended does not bring it back."""
        session = self.begun()
        self.found(self.second)
        changing = Deferred.fromCoroutine(self.second.sessions.change("c1", lambda found: evolve(found, moves=1)))
        ending = Deferred.fromCoroutine(self.first.sessions.end(session))
        self.first.redis.reach_server()
        self.settle()
        self.successResultOf(ending)
        self.assertIsNone(self.successResultOf(changing))
        self.assertIsNone(self.found(self.second))

    def test_it_lapses(self) -> None:
        """After a while nothing is left."""
        self.ends(self.first, self.begun())
        self.assertIsNotNone(self.server.get(call_key("c1")))
        self.clock.advance(ENDED_SECONDS + 1)
        self.assertIsNone(self.server.get(call_key("c1")))
