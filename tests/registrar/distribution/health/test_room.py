"""What there is room for, by the kernel's limit."""

from resource import RLIM_INFINITY

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.health import room as module
from registrar.distribution.health.room import KEPT, room, warn_when_short


class RoomTests(SynchronousTestCase):
    def limit(self, descriptors: int) -> None:
        """Have this process be given so many descriptors."""
        self.patch(module, "getrlimit", lambda which: (descriptors, RLIM_INFINITY))

    def test_room(self) -> None:
        """It is what the operator says, unless that and all else need more descriptors than there are."""
        for descriptors, wanted in ((RLIM_INFINITY, 5000), (100_000, 5000), (5000 + KEPT, 5000), (1024, 1024 - KEPT),
                                    (100, 1)):
            self.limit(descriptors)
            self.assertEqual(room(5000), wanted, descriptors)

    def test_warning(self) -> None:
        """Only who has too few of them hears of it."""
        self.limit(1024)
        with capturedLogs() as events:
            warn_when_short(768)
            warn_when_short(5000)
        self.assertEqual([(event["capacity"], event["room"]) for event in events], [(5000, 768)])
