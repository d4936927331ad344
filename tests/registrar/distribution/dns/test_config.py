"""Where the name server may listen, and whom it may tell."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns.config import DnsConfig
from rollcall.ops.allowed import NotAllowed


class PlaceTests(SynchronousTestCase):
    def test_places(self) -> None:
        """It listens on addresses that are named one by one: neither on names nor on all addresses at once."""
        DnsConfig(listen=("192.0.2.1:53", "[2001:db8::1]:53"))
        for place in ("ns.example.com:53", "0.0.0.0:53", "[::]:53", "192.0.2.1", "192.0.2.1:0"):
            self.assertRaises(NotAllowed, DnsConfig, listen=(place,))

    def test_secondaries(self) -> None:
        """Secondaries are named by address, too, for they are known by it."""
        DnsConfig(secondaries=("192.0.2.53:53",), transfer_networks=("192.0.2.0/28",))
        self.assertRaises(NotAllowed, DnsConfig, secondaries=("ns.example.com:53",))
        self.assertRaises(NotAllowed, DnsConfig, transfer_networks=("192.0.2.1/28",))
