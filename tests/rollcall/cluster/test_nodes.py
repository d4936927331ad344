"""How leases are written."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.nodes import Ended, Lease, Node, decode_lease, encode_lease

NODE = Node(node="a", epoch=1_700_000_000_000, host="192.0.2.1", port=5070, tls=True, draining=True,
            started_at=1_700_000_000.0, faces={"tcp": "192.0.2.1:5060"}, admin="http://192.0.2.1:8060")


class LeaseTests(SynchronousTestCase):
    def test_round_trip(self) -> None:
        """A lease and a tombstone are read as they were written."""
        for lease in (NODE, evolve(NODE, faces={}, draining=False), Ended(node="a", epoch=7, ended_at=8.5)):
            self.assertEqual(decode_lease(encode_lease(lease)), lease)

    def test_older_version(self) -> None:
        """A lease of a version that says nothing of sites and load is read: such a node wants its share."""
        old = b'{"node":"a","epoch":7,"host":"192.0.2.1","port":5070,"tls":false,"draining":false,"started_at":1.0}'
        self.assertEqual(decode_lease(old), Node(node="a", epoch=7, host="192.0.2.1", port=5070, started_at=1.0,
                                                 weight=100, capacity=0, connections=0, site=""))

    def test_newer_fields(self) -> None:
        """What a newer version says beyond what we know does not make its lease unreadable."""
        self.assertEqual(decode_lease(encode_lease(NODE).replace(b"{", b'{"mood":3,', 1)), NODE)

    def test_no_lease(self) -> None:
        """Whatever else is there is no lease, and breaks nothing."""
        for value in (b"", b"\xff", b"[]", b"{}", b'{"node":"a","epoch":"x","host":"h","port":1}', b'{"ended_at":1}'):
            self.assertRaises(ValueError, decode_lease, value)

    def test_what_nobody_can_be(self) -> None:
        """A lease whose words would do harm in a message, or that nobody could be reached by, is none."""
        faces = "192.0.2.1:5060\r\nContact: <sip:mallory@192.0.2.66>", "a:1>,<sip:mallory", ""
        leases: list[Lease] = [evolve(NODE, faces={"tcp": each}) for each in faces]
        leases += [evolve(NODE, host=host) for host in ("", "192.0.2.1\r\n", "a b")]
        leases += [evolve(NODE, port=port) for port in (-1, 70_000)]
        leases += [evolve(NODE, epoch=epoch) for epoch in (-1, 2**53)]
        leases += [evolve(NODE, started_at=moment) for moment in (-1.0, 1e300)]
        leases += [evolve(NODE, weight=weight) for weight in (-1, 101)]
        leases += [evolve(NODE, capacity=count) for count in (-1, 2**30 + 1)]
        leases += [evolve(NODE, connections=count) for count in (-1, 2**30 + 1)]
        leases += [Ended(node="a", epoch=7, ended_at=1e300), Ended(node="a", epoch=2**53, ended_at=8.5)]
        for odd in leases:
            self.assertRaises(ValueError, decode_lease, encode_lease(odd))
        for well in ("2001:db8::1", "fe80::1%eth0", "sip-1.example.com"):
            lease = evolve(NODE, host=well, faces={"tcp": "[2001:db8::1]:5060", "udp": "sip_1.example.com:5060"})
            self.assertEqual(decode_lease(encode_lease(lease)), lease)
