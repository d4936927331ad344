"""Where connections of nodes are kept."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.tickle.keys import address_of, end_of, ends_key, epochs_key, phones_key


class KeysTests(SynchronousTestCase):
    def test_together(self) -> None:
        """All keys of a life have the same hash tag, so that one server of Redis Cluster has them."""
        life = ("n1", 7)
        self.assertEqual(ends_key(life), b"flows:{n1:7}")
        self.assertEqual(phones_key(life, ("192.0.2.1", 5060)), b"flows:{n1:7}:192.0.2.1:5060")
        self.assertEqual(epochs_key("n1"), b"flows:n1")

    def test_ends(self) -> None:
        """An address is read as it was written, IPv6 too."""
        for local in (("192.0.2.1", 5060), ("2001:db8::1", 5061)):
            self.assertEqual(address_of(end_of(local)), local)

    def test_rubbish(self) -> None:
        """What nobody of us has written is no address."""
        for end in (b"", b"192.0.2.1", b":5060", b"192.0.2.1:0", b"192.0.2.1:65536", b"192.0.2.1:x", b"\xff:1x",
                    b"192.0.2.1:999999999999999999999", b"192.0.2.1:0000015060000", b"192.0.2.1\0:5060", b"host:5060"):
            self.assertIsNone(address_of(end), end)
