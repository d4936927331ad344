"""`rollcall contacts`, asking a real admin site on loopback."""

import json
from typing import Any

from attrs import evolve
from click.testing import Result
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread

from registrar.api import Contacts
from registrar.command import asking
from registrar.location.contract import Snapshot
from registrar.location.memory import MemoryLocation
from rollcall.net.wheel import TimerWheel
from rollcall.ops.admin import AdminConfig, AdminSite
from rollcall.ops.metrics import Metrics
from tests.registrar.command.running import CommandCase, run
from tests.registrar.examples import NOW, a_binding


class ContactsTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.location = MemoryLocation(TimerWheel(Clock()), lambda: NOW)
        self.addCleanup(self.location.stop)
        self.start("t0p")

    def start(self, token: str | None) -> None:
        """Start an admin site, and let the configuration point to it."""
        self.admin = AdminSite(reactor, AdminConfig(port=0, token=token), Metrics(process=False))
        Contacts(self.location, lambda: NOW, lambda: deferLater(reactor, 0)).mount(self.admin.routes)
        self.admin.startService()
        self.addCleanup(self.admin.stopService)
        self.port = self.admin.url.rpartition(":")[2]
        self.config.write_text(self.config.read_text() + f"[admin]\nport = {self.port}\ntoken = 't0p'\n")

    async def save(self, aor: str, *contacts: str) -> None:
        """Register these contacts."""
        bindings = tuple(a_binding(contact) for contact in contacts)
        await self.location.save(aor, Snapshot(1, bindings))

    async def ask(self, *arguments: str) -> Result:
        """Run `rollcall contacts` in a thread, so that the site can answer."""
        result: Result = await deferToThread(run, "contacts", *arguments, ROLLCALL_CONFIG=str(self.config))
        return result

    async def contacts(self, *arguments: str) -> list[dict[str, Any]]:
        """Return what it prints with --json."""
        result = await self.ask(*arguments, "--json")
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        found: list[dict[str, Any]] = json.loads(result.stdout)["contacts"]
        return found

    async def test_one(self) -> None:
        """The contacts of one user are shown, whichever way the user is named."""
        await self.save("sip:alice@example.com", "sip:alice@192.0.2.4", "sip:alice@192.0.2.5")
        await self.save("sip:bob@example.com", "sip:bob@192.0.2.6")
        for name in ("alice", "alice@example.com", "alice@SIP.example.com", "sip:alice@example.com"):
            found = await self.contacts(name)
            self.assertEqual([each["contact"] for each in found], ["sip:alice@192.0.2.4", "sip:alice@192.0.2.5"])
            self.assertEqual({each["aor"] for each in found}, {"sip:alice@example.com"})

    async def test_all(self) -> None:
        """Without a name all contacts are shown, over as many pages as it takes."""
        self.patch(asking, "PAGE_SIZE", 2)
        for name in "abcde":
            await self.save(f"sip:{name}@example.com", f"sip:{name}@192.0.2.4")
        found = await self.contacts()
        self.assertEqual([each["aor"] for each in found], [f"sip:{name}@example.com" for name in "abcde"])

    async def test_of_a_node(self) -> None:
        """Of one node only that is shown which came over its sockets."""
        self.patch(asking, "PAGE_SIZE", 2)
        for name in "abcde":
            binding = a_binding(f"sip:{name}@192.0.2.4")
            source = evolve(binding.source, node="n2" if name in "bd" else "n1")
            await self.location.save(f"sip:{name}@example.com", Snapshot(1, (evolve(binding, source=source),)))
        found = await self.contacts("--node", "n2")
        self.assertEqual([each["aor"] for each in found], [f"sip:{name}@example.com" for name in "bd"])
        self.assertEqual((await self.contacts("b", "--node", "n2"), await self.contacts("b", "--node", "n1")),
                         (found[:1], []))
        for arguments, said in ((("--node", "n3"), "Nobody is registered at n3.\n"),
                                (("b", "--node", "n1"), "b is not registered at n1.\n")):
            self.assertEqual((await self.ask(*arguments)).stderr, said)

    async def test_table(self) -> None:
        """People get a table."""
        await self.save("sip:alice@example.com", "sip:alice@192.0.2.4")
        result = await self.ask()
        heading, line = result.stdout.splitlines()
        self.assertEqual(heading.split(), ["address", "contact", "over", "from", "node", "expires", "agent"])
        self.assertEqual(
            line.split(),
            ["sip:alice@example.com", "sip:alice@192.0.2.4", "UDP", "192.0.2.4:5060", "n1", "3600", "s", "Phone/1"],
        )

    async def test_phones_draw_nothing(self) -> None:
        """What a phone says of itself is shown as it is, with control characters escaped: no styles, no emoji."""
        agent = "Phone [red]/1[/] [/] :bell: \x1b[31m\x07 Zoë"
        binding = evolve(a_binding("sip:alice@[fe80::1]:5060"), user_agent=agent)
        await self.location.save("sip:alice@example.com", Snapshot(1, (binding,)))
        result = await self.ask()
        self.assertEqual(result.exit_code, 0)
        self.assertIn(" sip:alice@[fe80::1]:5060 ", result.stdout)
        self.assertIn("Phone [red]/1[/] [/] :bell: \\x1b[31m\\x07 Zoë", result.stdout)

    async def test_nobody(self) -> None:
        """That nobody is there is said aside, and is no failure."""
        for arguments, said in (((), "Nobody is registered.\n"), (("alice",), "alice is not registered.\n")):
            result = await self.ask(*arguments)
            self.assertEqual((result.exit_code, result.stdout, result.stderr), (0, "", said))
        self.assertEqual(await self.contacts(), [])

    async def test_wrong_token(self) -> None:
        """A token that the registrar does not know is a failure with its reason."""
        self.config.write_text(self.config.read_text().replace("t0p", "other"))
        result = await self.ask()
        self.assertEqual(result.exit_code, 1)
        self.assertIn("answers 401: a bearer token is needed", result.stderr)
        self.assertNotIn("other", result.output)

    async def test_nobody_answers(self) -> None:
        """A registrar that does not run is a failure that says so."""
        await self.admin.stopService()
        result = await self.ask()
        self.assertEqual(result.exit_code, 1)
        self.assertIn(f"no registrar answers at http://127.0.0.1:{self.port}", result.stderr)
