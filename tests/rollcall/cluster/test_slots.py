"""Which node serves which key, with what the Redis Cluster specification gives as examples."""

from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.redis import RedisUnavailable
from rollcall.cluster.slots import read_slots, redirected_to, slot_of

INFO = b"cluster_state:ok\r\ncluster_current_epoch:6\r\n"
ONE = [0, 8191, [b"192.0.2.1", 7000, b"id1", []], [b"192.0.2.2", 7001, b"id2", []]]
TWO = [8192, 16383, [b"2001:db8::3", 7002, b"id3"]]


class SlotTests(SynchronousTestCase):
    """Keys and their slots."""

    def test_examples(self) -> None:
        """Slots are as CLUSTER KEYSLOT of a real server says."""
        known = {
            b"123456789": 12739,
            b"": 0,
            b"foo": 12182,
            b"{user1000}.following": 3443,
            b"foo{}{bar}": 8363,
            b"foo{{bar}}zap": 4015,
            b"foo{bar}{zap}": 5061,
            b"foo{bar": 15278,
        }
        self.assertEqual({key: slot_of(key) for key in known}, known)


class MapTests(SynchronousTestCase):
    """What CLUSTER SLOTS answers."""

    def test_read(self) -> None:
        """Masters serve the slots; replicas are known, too; the epoch is that of the node's configuration."""
        seen = read_slots([ONE, TWO], INFO, "192.0.2.9")
        self.assertEqual(seen.epoch, 6)
        self.assertEqual(seen.masters, {"192.0.2.1:7000", "[2001:db8::3]:7002"})
        self.assertEqual(seen.nodes, seen.masters | {"192.0.2.2:7001"})
        owners = dict(seen)
        self.assertEqual((owners[0], owners[8192]), ("192.0.2.1:7000", "[2001:db8::3]:7002"))
        self.assertEqual(len(owners), 16384)

    def test_no_address(self) -> None:
        """A node that does not know its address means the one that it was asked at."""
        for unknown in (b"", None, b"?"):
            seen = read_slots([[0, 1, [unknown, 7000, b"id"]]], INFO, "192.0.2.9")
            self.assertEqual(seen.masters, {"192.0.2.9:7000"})

    def test_nonsense(self) -> None:
        """What nobody should answer is told, and breaks nothing."""
        beyond, no_port = [[0, 99999, [b"h", 1, b"id"]]], [[0, 1, [b"h", b"x", b"id"]]]
        for answer in (None, b"OK", [[0, 1]], beyond, no_port, [[0, "a", []]]):
            with self.assertRaises(RedisUnavailable):
                read_slots(answer, INFO, "192.0.2.9")
        with self.assertRaises(RedisUnavailable):
            read_slots([ONE], b"cluster_state:ok\r\n", "192.0.2.9")

    def test_redirections(self) -> None:
        """MOVED and ASK name a slot and an address, which may lack the host."""
        self.assertEqual(redirected_to("MOVED 3999 192.0.2.7:6381", "192.0.2.9"), (3999, "192.0.2.7:6381"))
        self.assertEqual(redirected_to("ASK 3999 2001:db8::7:6381", "192.0.2.9"), (3999, "[2001:db8::7]:6381"))
        self.assertEqual(redirected_to("MOVED 3999 :6381", "192.0.2.9"), (3999, "192.0.2.9:6381"))
        for wrong in ("MOVED", "MOVED x 192.0.2.7:6381", "MOVED 99999 192.0.2.7:6381", "MOVED 1 nowhere"):
            with self.assertRaises(ValueError):
                redirected_to(wrong, "192.0.2.9")
