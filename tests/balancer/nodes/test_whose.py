"""Whose a report is."""

from ipaddress import IPv4Address

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from balancer.nodes.whose import REMEMBERED_ADDRESSES, Whose
from tests.balancer.nodes.examples import FS, M1, M2


class WhoseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.whose = Whose((M1, M2, FS))

    def test_whose_report(self) -> None:
        """A report is from the node whose capture id or name it bears, or whose address it came from, in this order."""
        for capture_id, name, host, node in (
            (1, "m2", "192.0.2.3", "m1"), (None, "m2", "192.0.2.1", "m2"), (7, "", "192.0.2.1", "m1"),
            (0, "nobody", "2001:db8::2", "m2"), (None, "", "198.51.100.77", "m2"), (0, "", "2001:db8:2::5", "m2"),
            (0, "", "203.0.113.9", None), (0, "", "no address", None), (99, "nobody", "", None),
        ):
            self.assertEqual(self.whose.find(capture_id, name, host), node)

    def test_spelling(self) -> None:
        """An address may be configured in any spelling."""
        whose = Whose((evolve(M2, address="[2001:DB8:0:0::2]:22222", media_hosts=()),))
        self.assertEqual(whose.at("2001:db8::2"), "m2")

    def test_bounds(self) -> None:
        """Made-up sources do not fill the memory, and change no answer."""
        for number in range(REMEMBERED_ADDRESSES + 10):
            self.assertIsNone(self.whose.at(str(IPv4Address(number))))
        self.assertLessEqual(len(self.whose._remembered), REMEMBERED_ADDRESSES)
        self.assertEqual(self.whose.at("198.51.100.77"), "m2")
