"""`rollcall bans` and `rollcall bans lift`, asking a real admin site on loopback."""

from registrar.bans import Bans, BansConfig
from registrar.bans_api import BansListed
from tests.registrar.command.test_nodes import AskingCase

NOW = 1_700_000_000.0
HERE = bytes([192, 0, 2, 7])


class BansTests(AskingCase):
    def mount(self) -> None:
        self.bans = Bans(BansConfig(per_user_and_source=1, per_source=2, ban_seconds=60))
        BansListed(self.bans, lambda: NOW).mount(self.admin.routes)

    def fail_proof(self, user: str) -> None:
        self.bans.suspect(user, HERE, NOW)
        self.bans.fail(user, HERE, NOW)

    async def test_nobody(self) -> None:
        """That nobody is banned is said to people, not to programs."""
        result = await self.ask("bans")
        self.assertEqual((result.exit_code, result.stdout, result.stderr), (0, "", "Nobody is banned.\n"))
        self.assertEqual(await self.json("bans"), {"bans": []})

    async def test_table(self) -> None:
        """People get a table of who is banned, where, and for how long."""
        self.fail_proof("alice@example.com")
        self.fail_proof("bob@example.com")
        result = await self.ask("bans")
        _, *rows = [line.split() for line in result.stdout.splitlines()]
        self.assertEqual(rows, [
            ["alice@example.com", "192.0.2.7", "60", "s", "1"],
            ["bob@example.com", "192.0.2.7", "60", "s", "1"],
            ["any", "192.0.2.7", "60", "s", "2"],
        ])

    async def test_lift(self) -> None:
        """A ban is lifted by the name of the user, with or without the domain, or by the address."""
        domain = "example.com"
        self.fail_proof(f"alice@{domain}")
        self.assertEqual((await self.ask("bans", "lift", f"alice@{domain}")).stdout,
                         f"alice@{domain}: 1 ban lifted.\n")
        self.fail_proof(f"alice@{domain}")
        self.fail_proof(f"bob@{domain}")
        self.assertEqual((await self.ask("bans", "lift", "192.0.2.7")).stdout, "192.0.2.7: 3 bans lifted.\n")
        self.assertEqual((await self.ask("bans", "lift", "192.0.2.7")).stdout, "192.0.2.7 was not banned.\n")
        self.assertEqual(await self.json("bans", "lift", "carol"), {"lifted": 0})

    async def test_no_domain(self) -> None:
        """A user without a domain is one of the registrar's first domain."""
        name = (await self.ask("bans", "lift", "alice")).stdout
        self.assertEqual(name, "alice was not banned.\n")
