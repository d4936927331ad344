"""When a descriptor is read: at each wake-up while there is little, by the clock under load."""

from errno import EBADF

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from rollcall.net.coalescing import Coalescing, Found

TICK = 0.001


class Watching(Clock):
    """A clock that knows which descriptors it would wake."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[object] = []

    def addReader(self, reader: object) -> None:
        if reader not in self.readers:
            self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        if reader in self.readers:
            self.readers.remove(reader)


class CoalescingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Watching()
        self.turns = 0
        self.found: list[Found | Exception] = []
        self.lost: list[Failure] = []
        self.stops_when_it_finds: Found | None = None
        self.reading = self.reading_every(TICK)

    def reading_every(self, coalesce_seconds: float) -> Coalescing:
        reading = Coalescing(self.reactor, 7, self.turn, self.lost.append, coalesce_seconds, "listener main")
        reading.start()
        return reading

    def turn(self) -> Found:
        self.turns += 1
        found = self.found.pop(0) if self.found else Found.NOTHING
        if isinstance(found, Exception):
            raise found
        if found is self.stops_when_it_finds:
            self.reading.stop()
        return found

    def wake(self, *found: Found | Exception) -> object:
        """The reactor sees something; what the turns find from now on is given."""
        self.found.extend(found)
        return self.reading.doRead()

    def load(self, *found: Found | Exception) -> None:
        """Two wake-ups in quick succession, so that the next turns come by the clock."""
        self.wake(Found.ALL)
        self.reactor.advance(TICK / 2)
        self.wake(Found.ALL)
        self.turns = 0
        self.found.extend(found)

    def is_watched(self) -> bool:
        return self.reading in self.reactor.readers

    def test_descriptor(self) -> None:
        """The reactor finds in it what it needs."""
        self.assertTrue(verifyObject(IReadDescriptor, self.reading))
        self.assertEqual((self.reading.fileno(), self.reading.logPrefix()), (7, "listener main"))

    def test_seldom_woken(self) -> None:
        """Wake-ups that lie apart set no timer: nothing comes late, and nothing runs in between."""
        for _ in range(3):
            self.wake(Found.ALL)
            self.assertEqual(self.reactor.getDelayedCalls(), [])
            self.assertTrue(self.is_watched())
            self.reactor.advance(TICK)
        self.assertEqual(self.turns, 3)

    def test_load(self) -> None:
        """After wake-ups in quick succession the reactor wakes us no more; each tick takes a turn."""
        self.load(Found.ALL, Found.ALL, Found.ALL)
        self.assertFalse(self.is_watched())
        self.reactor.advance(TICK / 2)
        self.assertEqual(self.turns, 0)
        self.reactor.advance(TICK / 2)
        self.assertEqual(self.turns, 1)
        self.reactor.pump([TICK, TICK])
        self.assertEqual(self.turns, 3)

    def test_load_is_over(self) -> None:
        """A tick that finds nothing is the last: the reactor wakes us again."""
        self.load(Found.ALL, Found.NOTHING)
        self.reactor.pump([TICK] * 5)
        self.assertEqual(self.turns, 2)
        self.assertTrue(self.is_watched())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_more_waits(self) -> None:
        """A turn that had to leave something is followed by another as soon as others had theirs."""
        self.load(Found.MORE, Found.MORE, Found.ALL)
        self.reactor.advance(TICK)
        self.reactor.pump([0, 0])
        self.assertEqual(self.turns, 3)
        self.reactor.pump([0, TICK / 2])
        self.assertEqual(self.turns, 3)

    def test_more_waits_at_a_wake_up(self) -> None:
        """It is the same when the wake-up itself begins the load."""
        self.wake(Found.ALL)
        self.wake(Found.MORE, Found.ALL)
        self.reactor.advance(0)
        self.assertEqual(self.turns, 3)

    def test_woken_for_nothing(self) -> None:
        """A wake-up without anything to read is no load."""
        for _ in range(3):
            self.wake(Found.NOTHING)
        self.assertTrue(self.is_watched())

    def test_without_ticks(self) -> None:
        """Without a time to coalesce every turn is the reactor's."""
        self.reading = self.reading_every(0)
        for _ in range(3):
            self.wake(Found.MORE)
        self.assertTrue(self.is_watched())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_kept(self) -> None:
        """What one wake-up after a long quiet has read and not done is taken on at once: it wakes nobody up again."""
        for reading in (self.reading, self.reading_every(0)):
            self.reading, self.turns = reading, 0
            self.reactor.advance(60)
            self.wake(Found.KEPT, Found.KEPT, Found.NOTHING)
            self.assertFalse(self.is_watched())
            self.reactor.pump([0, 0])
            self.assertEqual((self.turns, self.is_watched(), self.reactor.getDelayedCalls()), (3, True, []))

    def test_stop(self) -> None:
        """Once stopped, neither the reactor nor the clock takes a turn; stopping again is harmless."""
        self.reading.stop()
        self.assertEqual(self.reactor.readers, [])
        self.reading.start()
        self.load(Found.ALL)
        for _ in range(2):
            self.reading.stop()
        self.reactor.pump([TICK] * 3)
        self.assertEqual(self.turns, 0)
        self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), ([], []))

    def test_stopped_in_a_turn(self) -> None:
        """A turn may stop it, whoever began the turn."""
        self.stops_when_it_finds = Found.ALL
        self.wake(Found.ALL)
        self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), ([], []))
        self.reading.start()
        self.stops_when_it_finds = Found.MORE
        self.load(Found.MORE)
        self.reactor.advance(TICK)
        self.assertEqual(self.turns, 1)
        self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), ([], []))

    def test_of_no_more_use(self) -> None:
        """What a turn at a wake-up fails with goes to the reactor, which then gives the descriptor up."""
        error = OSError(EBADF, "Bad file descriptor")
        self.assertIs(self.wake(error), error)
        self.reading.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(len(self.lost), 1)
        self.assertEqual(self.reactor.readers, [])

    def test_of_no_more_use_at_a_tick(self) -> None:
        """What a turn by the clock fails with ends it likewise, be it the descriptor's fault or ours."""
        for error in (OSError(EBADF, "Bad file descriptor"), RuntimeError("bug")):
            self.load(error)
            self.reactor.advance(TICK)
            self.assertIs(self.lost.pop().value, error)
            self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), ([], []))
            self.reactor.advance(1)
            self.reading.start()
