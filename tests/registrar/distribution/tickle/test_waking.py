"""Which phones are woken, when, and how many at a time."""

from collections.abc import Sequence
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.tickle.config import TickleConfig
from registrar.distribution.tickle.keys import ends_key
from registrar.distribution.tickle.packets import unpack_records
from registrar.distribution.tickle.waking import LOOK_SECONDS, MAX_LOT, MAX_UNSENT, REPEAT_SECONDS, TICK_SECONDS, Waking
from rollcall.net.flow import pack_address
from tests.registrar.distribution.tickle.sets import SetsRedis

DEAD = ("n1", 7)
VIRTUAL, VIRTUAL6 = inet_pton(AF_INET, "192.0.2.1"), inet_pton(AF_INET6, "2001:db8::1")
OWN = inet_pton(AF_INET, "192.0.2.12")
ENDS, PHONES = b"flows:{n1:7}", b"flows:{n1:7}:192.0.2.1:5060"
PHONES6 = b"flows:{n1:7}:2001:db8::1:5060"


class FakeOutlet:
    """A sender that takes what the test lets it take."""

    def __init__(self) -> None:
        self.is_there = True
        self.records: list[bytes] = []
        self.most = 1_000_000

    def send(self, records: Sequence[bytes]) -> int:
        """See Outlet."""
        taken = list(records[:self.most]) if self.is_there else []
        self.records += taken
        return len(taken)

    def phones(self) -> list[int]:
        """Return the ports of all that were tickled."""
        return [target_port for record in self.records for _, _, _, target_port in unpack_records(record)]


class WakingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.redis = SetsRedis()
        self.outlet = FakeOutlet()
        self.held = frozenset({OWN})
        self.living = {DEAD}
        self.rate = 1000.0
        self.waking = self.a_waking(TickleConfig())

    def a_waking(self, config: TickleConfig) -> Waking:
        made = Waking(self.clock, cast(Any, self.redis), self, lambda: self.held, self.outlet, config,
                      lambda: self.rate)
        made.start()
        return made

    def is_living(self, node: str, epoch: int) -> bool:
        """See Lives."""
        return (node, epoch) in self.living

    def note(self, count: int, first: int = 10_000) -> None:
        """Have the dead node have had connections."""
        self.redis.sets.setdefault(ENDS, set()).add(b"192.0.2.1:5060")
        phones = {pack_address("198.51.100.7", first + number) for number in range(count)}
        self.redis.sets.setdefault(PHONES, set()).update(phones)

    def die(self) -> None:
        """Have the life end, as all nodes hear it."""
        self.living.discard(DEAD)
        self.waking.ended(frozenset({DEAD}))

    def take_over(self) -> None:
        """Have the address come here."""
        self.held |= {VIRTUAL}
        self.waking.look()

    def run_for(self, seconds: float) -> None:
        self.clock.pump([TICK_SECONDS / 2] * round(2 * seconds / TICK_SECONDS))


class WhenTests(WakingCase):
    def test_address_last(self) -> None:
        """A life has ended, but nobody is woken until its address is here."""
        self.note(3)
        self.die()
        self.run_for(5)
        self.assertEqual(self.outlet.records, [])
        self.take_over()
        self.run_for(0.5)
        self.assertEqual(sorted(self.outlet.phones()), [10_000, 10_001, 10_002])

    def test_address_first(self) -> None:
        """The address is here, but nobody is woken until the life has ended."""
        self.note(3)
        self.take_over()
        self.run_for(5)
        self.assertEqual(self.outlet.records, [])
        self.die()
        self.run_for(0.5)
        self.assertEqual(len(self.outlet.phones()), 3)

    def test_other_address(self) -> None:
        """Phones that were connected to an address that is not here stay as they are, and stay noted."""
        self.note(3)
        self.redis.sets[ENDS].add(b"192.0.2.99:5060")
        self.redis.sets[b"flows:{n1:7}:192.0.2.99:5060"] = {pack_address("198.51.100.8", 1)}
        self.die()
        self.take_over()
        self.run_for(5)
        self.assertEqual(set(self.outlet.phones()), {10_000, 10_001, 10_002})
        self.assertEqual(self.redis.sets, {ENDS: {b"192.0.2.99:5060"},
                                           b"flows:{n1:7}:192.0.2.99:5060": {pack_address("198.51.100.8", 1)}})

    def test_too_late(self) -> None:
        """An address that comes long after a node's end wakes nobody."""
        self.note(3)
        self.die()
        self.run_for(TickleConfig().remembered_seconds + LOOK_SECONDS)
        self.take_over()
        self.run_for(5)
        self.assertEqual((self.outlet.records, self.clock.getDelayedCalls()), ([], []))

    def test_nothing_noted(self) -> None:
        """A life that has noted nothing is looked for once, not each second: there may be very many of them."""
        self.waking.ended([("n2", epoch) for epoch in range(50)])
        self.run_for(5)
        self.assertEqual(len(self.redis.asked), 50)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waits(self) -> None:
        """Where a director has to notice first, nobody is woken before it can have done so."""
        self.waking = self.a_waking(TickleConfig(wait_seconds=15))
        self.note(3)
        self.take_over()
        self.die()
        self.run_for(14.9)
        self.assertEqual(self.outlet.records, [])
        self.run_for(LOOK_SECONDS + 0.5)
        self.assertEqual(set(self.outlet.phones()), {10_000, 10_001, 10_002})

    def test_lives_after_all(self) -> None:
        """As soon as a life turns out to go on none of its phones is tickled any more, not even once again."""
        self.note(1000)
        self.take_over()
        self.die()
        self.run_for(0.3)
        self.living.add(DEAD)
        self.run_for(REPEAT_SECONDS * 3)
        woken = len(self.outlet.phones())
        self.assertTrue(0 < woken < 500, woken)
        self.assertEqual(len(self.redis.sets[PHONES]), 1000 - woken)

    def test_address_goes(self) -> None:
        """An address that goes away again ends it, too; when it comes back the rest is woken."""
        self.note(500)
        self.take_over()
        self.die()
        self.run_for(0.3)
        self.held = frozenset({OWN})
        self.run_for(5)
        self.assertTrue(self.redis.sets[PHONES])
        self.take_over()
        self.run_for(5)
        self.assertEqual(set(self.outlet.phones()), set(range(10_000, 10_500)))

    def test_sender_away(self) -> None:
        """Without a sender nothing is taken from Redis; once it is there all are woken."""
        self.note(3)
        self.outlet.is_there = False
        self.die()
        self.take_over()
        self.run_for(5)
        self.assertEqual(len(self.redis.sets[PHONES]), 3)
        self.outlet.is_there = True
        self.run_for(LOOK_SECONDS + 0.5)
        self.assertEqual(set(self.outlet.phones()), {10_000, 10_001, 10_002})

    def test_redis_away(self) -> None:
        """While Redis is away nobody is woken; once it is back all are."""
        self.note(3)
        self.redis.is_away = True
        self.die()
        self.take_over()
        self.run_for(5)
        self.redis.is_away = False
        self.run_for(LOOK_SECONDS + 0.5)
        self.assertEqual(set(self.outlet.phones()), {10_000, 10_001, 10_002})

    def test_slow(self) -> None:
        """While phones are being woken nobody's time runs out, however slowly that goes and whatever comes between."""
        other = ("n2", 9)
        self.waking = self.a_waking(TickleConfig(repeats=1, remembered_seconds=20))
        self.rate = 20.0
        self.note(600)
        self.redis.sets[b"flows:{n2:9}"] = {b"192.0.2.1:5060"}
        self.redis.sets[b"flows:{n2:9}:192.0.2.1:5060"] = {pack_address("198.51.100.8", 50_000)}
        self.take_over()
        self.die()
        self.waking.ended({other})
        self.run_for(25)
        self.redis.is_away = True
        self.run_for(2)
        self.assertEqual(self.waking.waiting, 0)
        self.redis.is_away = False
        self.run_for(10)
        self.assertEqual(sorted(self.outlet.phones()), [*range(10_000, 10_600), 50_000])

    def test_stopped(self) -> None:
        """A process that ends wakes nobody any more, and leaves the rest to others."""
        self.note(1000)
        self.take_over()
        self.die()
        self.run_for(0.3)
        self.waking.stop()
        woken = len(self.outlet.phones())
        self.run_for(5)
        self.assertEqual(len(self.outlet.phones()), woken)
        self.assertEqual(len(self.redis.sets[PHONES]), 1000 - woken)


class HowTests(WakingCase):
    def test_repeated(self) -> None:
        """Each connection is tickled as often as is configured, a second apart."""
        self.note(3)
        self.take_over()
        self.die()
        self.run_for(REPEAT_SECONDS / 2)
        self.assertEqual(len(self.outlet.phones()), 3)
        self.run_for(REPEAT_SECONDS * 3)
        self.assertEqual(sorted(self.outlet.phones()), sorted([10_000, 10_001, 10_002] * 2))
        self.assertEqual(self.waking.sent, 6)

    def test_pace(self) -> None:
        """A thousand phones at three hundred a second take more than three seconds, each woken once in that time."""
        self.rate = 300.0
        self.waking = self.a_waking(TickleConfig(repeats=1))
        self.note(1000)
        self.take_over()
        self.die()
        self.run_for(1)
        self.assertTrue(250 <= len(self.outlet.phones()) <= 301, len(self.outlet.phones()))
        self.run_for(3)
        self.assertEqual(sorted(self.outlet.phones()), list(range(10_000, 11_000)))

    def test_pace_changes(self) -> None:
        """When this node can take less the pace falls at once; when it can take nothing nobody is woken."""
        self.waking = self.a_waking(TickleConfig(repeats=1))
        self.note(3000)
        self.take_over()
        self.die()
        self.run_for(1)
        self.rate = 0.0
        self.run_for(0.1)
        woken = len(self.outlet.phones())
        self.run_for(5)
        self.assertEqual(len(self.outlet.phones()), woken)

    def test_shared(self) -> None:
        """Two processes share the work, and nobody is woken by both."""
        self.waking = self.a_waking(TickleConfig(repeats=1))
        other = self.a_waking(TickleConfig(repeats=1))
        self.note(1000)
        self.take_over()
        self.die()
        other.ended({DEAD})
        self.run_for(2)
        self.assertEqual(sorted(self.outlet.phones()), list(range(10_000, 11_000)))
        self.assertTrue(self.waking.sent > 300 and other.sent > 300)

    def test_ipv6(self) -> None:
        """Phones on an IPv6 address are woken from that address."""
        self.redis.sets = {ENDS: {b"2001:db8::1:5060"}, PHONES6: {pack_address("2001:db8:1::7", 40_000)}}
        self.held = frozenset({VIRTUAL6})
        self.die()
        self.run_for(0.5)
        self.assertEqual(list(unpack_records(self.outlet.records[0])),
                         [(VIRTUAL6, 5060, inet_pton(AF_INET6, "2001:db8:1::7"), 40_000)])

    def test_strange_members(self) -> None:
        """What nobody of us can have written is passed over, and the others are woken."""
        self.note(1)
        self.redis.sets[ENDS] |= {b"", b"\xff:1", b"elsewhere:5060", b"192.0.2.1:0"}
        self.redis.sets[PHONES] |= {b"", b"x", pack_address("2001:db8:1::7", 1), pack_address("198.51.100.7", 0)}
        self.take_over()
        self.die()
        self.run_for(0.5)
        self.assertEqual(self.outlet.phones(), [10_000])

    def test_sender_slow(self) -> None:
        """What the sender does not take at once it is offered again, in order, but no more than may wait."""
        self.outlet.most = 10
        self.rate = 200.0
        self.note(100)
        self.take_over()
        self.die()
        self.run_for(3)
        self.assertEqual(sorted(self.outlet.phones()), sorted([*range(10_000, 10_100)] * 2))
        self.assertLess(100, MAX_UNSENT)

    def test_sender_hangs(self) -> None:
        """What the sender does not take stays in Redis, but for one lot, until it takes something again."""
        self.outlet.most = 0
        self.note(5000)
        self.take_over()
        self.die()
        self.run_for(20)
        self.assertGreaterEqual(len(self.redis.sets[PHONES]), 5000 - 2 * MAX_LOT)
        self.outlet.most = 1_000_000
        self.run_for(10)
        self.assertEqual(set(self.outlet.phones()), set(range(10_000, 15_000)))

    def test_odd_life(self) -> None:
        """A life whose keys are none of ours keeps nobody from waking the phones of another."""
        other = ("a", 1)
        self.living.add(other)
        self.redis.sets[ends_key(other)] = cast(Any, {1})
        self.note(3)
        self.take_over()
        self.living.clear()
        self.waking.ended([other, DEAD])
        self.run_for(1)
        self.assertEqual(len(set(self.outlet.phones())), 3)
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_metrics(self) -> None:
        """Operators see how many are still to be woken."""
        self.note(1000)
        self.take_over()
        self.die()
        self.run_for(0.5)
        self.assertTrue(0 < self.waking.waiting < 1000)
        self.run_for(3)
        self.assertEqual((self.waking.waiting, self.waking.sets, self.waking.sent), (0, 1, 2000))
