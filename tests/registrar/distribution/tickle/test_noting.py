"""What Redis is told of connections."""

from collections.abc import Sequence
from typing import Any, cast
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.tickle import noting
from registrar.distribution.tickle.keys import KEEP_SECONDS
from registrar.distribution.tickle.noting import RENEW_SECONDS, WRITE_SECONDS, FlowNotes
from rollcall.net.connection import ConnectionFlow
from tests.registrar.distribution.tickle.sets import FakeFlow, SetsRedis

LIFE = ("n1", 7)
HERE, HERE6 = ("192.0.2.1", 5060), ("2001:db8::1", 5060)
ENDS, PHONES = b"flows:{n1:7}", b"flows:{n1:7}:192.0.2.1:5060"
PHONES6 = b"flows:{n1:7}:2001:db8::1:5060"


def phone(number: int, local: tuple[str, int] = HERE, **rest: Any) -> FakeFlow:
    """Return a connection of some phone."""
    host = "198.51.100.7" if "." in local[0] else "2001:db8:1::7"
    return FakeFlow(local, (host, 40_000 + number), **rest)


class FlowNotesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.redis = SetsRedis()
        self.notes = FlowNotes(self.clock, cast(Any, self.redis), LIFE)
        self.notes.start()

    def confirm(self, *flows: FakeFlow) -> None:
        """Have first requests come."""
        for flow in flows:
            self.notes.confirmed(cast(ConnectionFlow, flow))

    def lose(self, *flows: FakeFlow) -> None:
        """Have connections close."""
        for flow in flows:
            flow.is_open = False
            self.notes.gone(cast(ConnectionFlow, flow))

    def write(self) -> None:
        """Let what waits be written."""
        self.clock.advance(WRITE_SECONDS)

    def noted(self, key: bytes = PHONES) -> set[bytes]:
        return self.redis.sets.get(key, set())

    def check(self, flows: Sequence[FakeFlow]) -> None:
        self.assertEqual(self.noted(), {flow.address for flow in flows})
        self.assertEqual(self.notes.noted, len(flows))

    def test_noted(self) -> None:
        """A connection is noted a moment after its first valid request, where others find it."""
        flow = phone(1)
        self.confirm(flow)
        self.assertEqual(self.noted(), set())
        self.write()
        self.check([flow])
        self.assertEqual(self.redis.sets[ENDS], {b"192.0.2.1:5060"})
        self.assertEqual(self.redis.sets[b"flows:n1"], {b"7"})
        self.assertEqual(self.redis.lasting, {PHONES, ENDS, b"flows:n1", b"flows:"})

    def test_many_at_a_time(self) -> None:
        """What comes within a moment is written by one command, and a thousand by two."""
        self.confirm(*map(phone, range(1000)))
        self.write()
        self.assertEqual(len(self.noted()), 1000)
        self.assertEqual([len(command) - 2 for command in self.redis.asked if command[:2] == (b"SADD", PHONES)],
                         [500, 500])

    def test_removed(self) -> None:
        """A connection that has closed is not to be woken any more."""
        flows = [phone(1), phone(2)]
        self.confirm(*flows)
        self.write()
        self.lose(flows[0])
        self.write()
        self.check(flows[1:])

    def test_short(self) -> None:
        """One that comes and goes within a moment leaves nothing; one that comes again from the same port is noted."""
        flow, again = phone(1), phone(1)
        self.confirm(flow)
        self.lose(flow)
        self.write()
        self.check([])
        self.confirm(flow := phone(1))
        self.lose(flow)
        self.confirm(again)
        self.write()
        self.check([again])

    def test_families(self) -> None:
        """IPv6 is noted, too; a connection that closes is removed at its own address only."""
        flow, six = phone(1), phone(1, HERE6)
        self.confirm(flow, six)
        self.write()
        self.lose(six)
        self.write()
        self.check([flow])
        self.assertEqual(self.noted(PHONES6), set())
        self.assertEqual([command[1] for command in self.redis.asked if command[0] == b"SREM"], [PHONES6])

    def test_not_ours_to_wake(self) -> None:
        """One that came through a proxy or that we opened is not noted, nor one on an address that cannot move."""
        self.confirm(phone(1, came_directly=False), phone(2, ("127.0.0.1", 5060)), phone(3, ("::1", 5060)),
                     phone(4, ("fe80::1%eth0", 5060)), phone(5, ("", 0)))
        self.write()
        self.assertEqual((self.redis.asked, self.notes.noted), ([], 0))

    def test_not_noted_closes(self) -> None:
        """The end of a connection that was not noted changes no number: a health check from this very host, say."""
        self.confirm(flow := phone(1))
        self.write()
        for number in range(3):
            self.confirm(check := FakeFlow(("127.0.0.1", 5060), ("127.0.0.1", 50_000 + number)))
            self.lose(check)
        self.write()
        self.check([flow])
        self.clock.advance(RENEW_SECONDS)
        self.write()
        self.assertNotIn("DEL", self.redis.names())

    def test_never_confirmed(self) -> None:
        """A stranger's connection that closes is nobody's business."""
        self.confirm(phone(1))
        self.write()
        before = len(self.redis.asked)
        stranger = phone(2, confirmed=False)
        self.lose(stranger)
        self.write()
        self.assertEqual((len(self.redis.asked), self.notes.noted), (before, 1))

    def test_redis_back(self) -> None:
        """When Redis is back all is noted anew, a part at a time; what was left over there goes."""
        flows = [phone(number) for number in range(1200)]
        self.confirm(*flows)
        self.write()
        self.redis.sets = {PHONES: {b"left over"}}
        self.redis.lasting.clear()
        self.notes.redis_connected()
        self.write()
        self.assertEqual(len(self.noted()), 500)
        self.lose(flows[0])
        for _ in range(3):
            self.write()
        self.check(flows[1:])
        self.assertEqual(self.redis.lasting, {PHONES, ENDS, b"flows:n1", b"flows:"})

    def test_redis_away(self) -> None:
        """While Redis is away nothing is kept; what came and went meanwhile is right when it is back."""
        first, second, third = phone(1), phone(2), phone(3)
        self.confirm(first, second)
        self.write()
        self.redis.is_away = True
        self.lose(first)
        self.confirm(third)
        self.write()
        self.redis.is_away = False
        self.notes.redis_connected()
        self.write()
        self.write()
        self.check([second, third])

    def test_too_many_wait(self) -> None:
        """When more wait to be written than may, all is noted anew."""
        flows = [phone(number) for number in range(10)]
        with patch.object(noting, "MAX_PENDING", 5):
            self.confirm(*flows)
            self.assertEqual(self.redis.names(), ["SADD", "EXPIRE"] * 3)
        self.write()
        self.write()
        self.check(flows)

    def test_renewed(self) -> None:
        """Keys are renewed long before they go, and that is all while Redis has as many phones as we have."""
        self.assertGreater(KEEP_SECONDS, 3 * RENEW_SECONDS)
        self.confirm(phone(1))
        self.write()
        self.redis.asked.clear()
        self.redis.lasting.clear()
        self.clock.advance(RENEW_SECONDS)
        self.assertEqual(self.redis.lasting, {PHONES, ENDS, b"flows:n1", b"flows:"})
        self.write()
        self.assertNotIn("DEL", self.redis.names())

    def test_compared(self) -> None:
        """When Redis has other phones than we have, whoever took them, all is noted anew."""
        flows = [phone(1), phone(2)]
        self.confirm(*flows)
        self.write()
        self.redis.sets[PHONES].pop()
        self.clock.advance(RENEW_SECONDS)
        self.write()
        self.write()
        self.check(flows)

    def test_stop(self) -> None:
        """A life that ends in order leaves nothing behind, and notes nothing more."""
        self.confirm(phone(1), phone(2, HERE6))
        self.write()
        stopped = Deferred.fromCoroutine(self.notes.stop())
        self.successResultOf(stopped)
        nothing = {b"flows:": {b"n1"}}
        self.assertEqual(self.redis.sets, nothing)
        self.confirm(phone(3))
        self.assertEqual((self.redis.sets, self.clock.getDelayedCalls()), (nothing, []))

    def test_stop_before_start(self) -> None:
        """One that never began asks nothing of a Redis that may not be there."""
        self.redis.is_away = True
        never = FlowNotes(self.clock, cast(Any, self.redis), LIFE)
        self.successResultOf(Deferred.fromCoroutine(never.stop()))
