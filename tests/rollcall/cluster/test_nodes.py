"""How leases are written."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.nodes import Ended, Node, decode_lease, encode_lease

NODE = Node(node="a", epoch=1_700_000_000_000, host="192.0.2.1", port=5070, tls=True, draining=True,
            started_at=1_700_000_000.0, faces={"tcp": "192.0.2.1:5060"}, admin="http://192.0.2.1:8060")


class LeaseTests(SynchronousTestCase):
    def test_round_trip(self) -> None:
        """A lease and a tombstone are read as they were written."""
        for lease in (NODE, evolve(NODE, faces={}, draining=False), Ended(node="a", epoch=7, ended_at=8.5)):
            self.assertEqual(decode_lease(encode_lease(lease)), lease)

    def test_newer_fields(self) -> None:
        """What a newer version says beyond what we know does not make its lease unreadable."""
        self.assertEqual(decode_lease(encode_lease(NODE).replace(b"{", b'{"weight":3,', 1)), NODE)

    def test_no_lease(self) -> None:
        """Whatever else is there is no lease, and breaks nothing."""
        for value in (b"", b"\xff", b"[]", b"{}", b'{"node":"a","epoch":"x","host":"h","port":1}', b'{"ended_at":1}'):
            self.assertRaises(ValueError, decode_lease, value)
