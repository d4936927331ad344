"""baresip, a real phone, on one node calls another on another node, over each transport, with RTP both ways."""

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.cluster.case import ClusterCase
from tests.interop.baresip import Account, Baresip, check_call

PAIRINGS = (("tcp", "tcp"), ("udp", "tcp"), ("tls", "udp"), ("udp", "udp"))


class BaresipTests(ClusterCase):
    """Two phones on different nodes."""

    registrars = 2
    users = 2

    def phone(self, number: int, transport: str, folder: Path) -> Baresip:
        """Start the phone of a user on the node of the same number, and return it once it is registered."""
        user, node = self.lab.users[number], self.lab.registrars[number]
        host, port = node.tcp[0], node.tls_port if transport == "tls" else node.sip_port
        account = Account(user.username, user.password, self.lab.domain, transport, f"{host}:{port}", answers=True)
        phone = Baresip(account, folder / f"{user.username}-{transport}")
        self.addCleanup(phone.finish)
        phone.wait_registered()
        (contact,) = [each for each in self.bindings(node)[user.username] if each["transport"] == transport.upper()]
        self.assertEqual(contact["node"], node.name)
        return phone

    def test_pairings(self) -> None:
        """In each pairing of transports they call each other, either hangs up, and both unregister everywhere."""
        for first, second in PAIRINGS:
            with TemporaryDirectory() as folder:
                alice, bob = self.phone(0, first, Path(folder)), self.phone(1, second, Path(folder))
                check_call(alice, bob, hanging_up=bob)
                check_call(bob, alice, hanging_up=bob)
                for phone in (alice, bob):
                    phone.stop()
                for node in self.lab.registrars:
                    self.assertEqual(self.bindings(node), {})
