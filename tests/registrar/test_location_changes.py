"""Who is told of changes of records, and when."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.changes import Changes

ALICE, BOB = b"alice@example.com", b"bob@example.com"


class ChangesTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Listen to Alice's record."""
        self.clock = Clock()
        self.changes = Changes(lambda call: self.clock.callLater(0, call))
        self.told: list[str] = []
        self.cancel = self.changes.watch(ALICE, lambda: self.told.append("alice"))

    def tell(self, *keys: bytes) -> list[str]:
        """Tell of changes, and return who has heard of them a turn later."""
        self.told.clear()
        for key in keys:
            self.changes.tell(key)
        self.assertEqual(self.told, [])
        self.clock.advance(0)
        return self.told

    def test_only_what_is_watched(self) -> None:
        """A listener hears of its own record, in a later turn, once for all changes until then."""
        self.assertEqual(self.tell(BOB), [])
        self.assertEqual(self.tell(ALICE, ALICE, BOB), ["alice"])
        self.assertEqual(self.tell(ALICE), ["alice"])

    def test_several_listeners(self) -> None:
        """Each listener of a record hears, and ends alone; to end twice is harmless."""
        cancel = self.changes.watch(ALICE, lambda: self.told.append("gateway"))
        self.assertEqual(self.tell(ALICE), ["alice", "gateway"])
        self.cancel()
        self.cancel()
        self.assertEqual(self.tell(ALICE), ["gateway"])
        cancel()
        self.assertEqual((self.tell(ALICE), len(self.changes)), ([], 0))

    def test_everything_may_have_changed(self) -> None:
        """All listeners hear when nobody knows what has changed."""
        self.changes.watch(BOB, lambda: self.told.append("bob"))
        self.changes.tell_all()
        self.clock.advance(0)
        self.assertEqual(sorted(self.told), ["alice", "bob"])

    def test_a_listener_that_fails(self) -> None:
        """One that raises does not keep the others from hearing."""
        self.cancel()
        self.changes.watch(ALICE, lambda: self.fail("it is broken"))
        self.changes.watch(ALICE, lambda: self.told.append("alice"))
        self.assertEqual(self.tell(ALICE), ["alice"])
        self.assertEqual(len(self.flushLoggedErrors(self.failureException)), 1)

    def test_one_that_ends_another(self) -> None:
        """A listener that was ended in the meantime does not hear any more."""
        self.changes.tell(ALICE)
        self.cancel()
        self.clock.advance(0)
        self.assertEqual(self.told, [])
