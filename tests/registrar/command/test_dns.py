"""`rollcall dns`, asking a real admin site on loopback."""

from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.internet.task import Clock

from registrar.distribution.dns.keeping import Keeping
from registrar.distribution.dns.listing import DnsListed
from registrar.distribution.dns.serials import Serials
from tests.registrar.command.test_nodes import AskingCase
from tests.registrar.distribution.dns.sites import NOW, KnownSites, a_config, a_layout, a_state


class DnsTests(AskingCase):
    def mount(self) -> None:
        """Have a name server with two living sites of three listed."""
        clock, folder = Clock(), self.enterContext(TemporaryDirectory())
        clock.advance(NOW)
        sites = KnownSites(a_state("fra"), a_state("ams", 100), a_state("nyc", 50, 50, 50))
        keeping = Keeping(clock, a_config(), a_layout(), sites, self.group, Serials(Path(folder) / "dns.serial"),
                          lambda snapshot: None, 20_000)
        keeping.start()
        self.addCleanup(keeping.stop)
        DnsListed(keeping, sites, self.group, clock.seconds).mount(self.admin.routes)

    def group(self, host: str) -> str:
        """Return the access group of a host."""
        return "att/US" if host.startswith("198.") else ""

    def name_server(self) -> None:
        """Have the configuration say that there is one."""
        text = self.config.read_text() + '[dns]\nlisten = ["127.0.0.1:5353"]\naddresses = ["192.0.2.1"]\n'
        self.config.write_text(text)

    async def test_table(self) -> None:
        """Sites stand with their state and weight, and each access group with what it is told."""
        self.name_server()
        lines = (await self.ask("dns")).stdout.splitlines()
        self.assertEqual(lines[1].split(), ["fra", "empty", "0", "0", "-", "192.0.2.10,", "2001:db8::10"])
        self.assertIn("telekom/DE, all others", next(line for line in lines if "telekom" in line))
        self.assertIn("5 s", lines[-4])
        self.assertIn("ams 10/200, nyc 20/300", "\n".join(lines))
        self.assertEqual(lines[-1], f"Serial number {int(NOW)} of example.com")

    async def test_one_address(self) -> None:
        """For one address only what is told there is shown, and why."""
        self.name_server()
        text = (await self.ask("dns", "--address", "198.51.100.7")).stdout
        self.assertIn("of the access group att/US", text)
        self.assertIn("nyc 10/300, ams 20/200", text)
        self.assertNotIn("telekom", text)
        refused = await self.ask("dns", "--address", "nowhere")
        self.assertEqual(refused.exit_code, 1)
        self.assertIn("IPv4 or IPv6", refused.stderr)

    async def test_json(self) -> None:
        """Programs get what the admin site says."""
        self.name_server()
        answer = await self.json("dns")
        self.assertEqual([site["fitness"] for site in answer["sites"]], ["empty", "well", "well"])

    async def test_no_name_server(self) -> None:
        """Without one that is said."""
        result = await self.ask("dns")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("no name server", result.stderr)
