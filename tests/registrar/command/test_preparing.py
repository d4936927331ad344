"""The demonstration: everything is made once, and kept as long as it fits."""

import json
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from registrar.command.certificates import describe
from registrar.command.checking import check
from registrar.command.ports import Wanted
from registrar.command.preparing import Demo, DemoError, DemoUser, look_ahead, prepare
from registrar.subscribers.table import SubscriberTable
from rollcall.ops.config import ConfigError
from rollcall.sip.digest import ha1

NOW = datetime.now(UTC)


class PrepareTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.enterContext(TemporaryDirectory())) / "run"

    def prepare(self, address: str = "127.0.0.1", port_offset: int = 0) -> Demo:
        """Make ready."""
        return prepare(self.directory, address, port_offset, NOW)

    def demo_json(self) -> dict[str, object]:
        """Return what scripts read."""
        found: dict[str, object] = json.loads((self.directory / "demo.json").read_text())
        return found

    def test_for_scripts(self) -> None:
        """demo.json tells scripts the domain, every address and the users; only its owner may read it."""
        demo = self.prepare()
        self.assertEqual(
            self.demo_json(),
            {
                "domain": "127.0.0.1",
                "udp": "127.0.0.1:5060",
                "tcp": "127.0.0.1:5060",
                "tls": "127.0.0.1:5061",
                "ws": "127.0.0.1:5080",
                "wss": "127.0.0.1:5443",
                "admin": "http://127.0.0.1:8060",
                "ca": str(self.directory / "tls" / "ca.pem"),
                "users": [{"username": each.username, "password": each.password} for each in demo.users],
            },
        )
        self.assertEqual((self.directory / "demo.json").stat().st_mode & 0o777, 0o600)

    def test_the_configuration_is_good(self) -> None:
        """The written configuration passes the check, certificates and all."""
        self.assertEqual(check(self.prepare().config, NOW).findings, ())

    def test_users_can_register(self) -> None:
        """The users are in the database that the registrar will read, with the printed passwords."""
        demo = self.prepare()
        self.assertEqual([user.username for user in demo.users], ["alice", "bob"])
        with SubscriberTable(self.directory / "data" / "subscribers.sqlite") as table:
            for user in demo.users:
                found = table.find(user.username, "127.0.0.1")
                assert found is not None
                self.assertEqual(found.ha1["MD5"], ha1("MD5", user.username, "127.0.0.1", user.password))

    def test_passwords(self) -> None:
        """Passwords differ, and are easy to type: groups of letters and digits that look different."""
        alice, bob = self.prepare().users
        self.assertNotEqual(alice.password, bob.password)
        for user in (alice, bob):
            self.assertRegex(user.password, r"^[a-hjkmnp-z2-9]{4}(-[a-hjkmnp-z2-9]{4}){2}$")

    def test_again(self) -> None:
        """A second start changes nothing: users, passwords, certificates, and a configuration that somebody edited."""
        first = self.prepare()
        edited = first.config_file.read_text().replace("5080", "5081")
        first.config_file.write_text(edited)
        authority = first.authority.read_bytes()
        second = self.prepare()
        self.assertEqual(second.users, first.users)
        self.assertEqual(second.config_file.read_text(), edited)
        self.assertEqual(second.authority.read_bytes(), authority)
        self.assertEqual(self.demo_json()["ws"], "127.0.0.1:5081")

    def test_other_ports(self) -> None:
        """An offset moves every port; the users stay."""
        first = self.prepare()
        wanted = [
            Wanted("udp", "127.0.0.1", 5160),
            Wanted("tcp", "127.0.0.1", 5160),
            Wanted("tcp", "127.0.0.1", 5161),
            Wanted("tcp", "127.0.0.1", 5180),
            Wanted("tcp", "127.0.0.1", 5543),
            Wanted("tcp", "127.0.0.1", 8160),
        ]
        self.assertEqual(look_ahead(self.directory, "127.0.0.1", 100), wanted)
        second = self.prepare(port_offset=100)
        self.assertEqual(second.users, first.users)
        self.assertEqual(second.endpoint("udp"), "127.0.0.1:5160")
        self.assertEqual(second.config.admin.port, 8160)
        self.assertEqual(look_ahead(self.directory, "127.0.0.1", 100), wanted)

    def test_looking_ahead(self) -> None:
        """What will be listened on is known before anything is written, edited ports included."""
        self.assertEqual(look_ahead(self.directory, "192.0.2.7", 0)[0], Wanted("udp", "192.0.2.7", 5060))
        self.assertFalse(self.directory.exists())
        config = self.prepare().config_file
        config.write_text(config.read_text().replace("5080", "5081").replace("8060", "8061"))
        ports = [wanted.port for wanted in look_ahead(self.directory, "127.0.0.1", 0)]
        self.assertEqual(ports, [5060, 5060, 5061, 5081, 5443, 8061])

    def test_an_edition_is_kept_aside(self) -> None:
        """What somebody edited is kept when another address is asked for, and is not lost by going back and forth."""
        config = self.prepare().config_file
        edited = config.read_text().replace("5080", "5081")
        config.write_text(edited)
        old = config.with_suffix(".toml.old")
        for address in ("192.0.2.7", "192.0.2.8", "127.0.0.1", "192.0.2.7"):
            self.prepare(address)
            self.assertEqual(old.read_text(), edited)
        config.write_text("# my own\n" + config.read_text())
        self.prepare()
        self.assertTrue(old.read_text().startswith("# my own\n# Written by"))

    def test_another_address(self) -> None:
        """Another address changes the domain and the certificate; the passwords stay, and are good in the new realm."""
        first = self.prepare()
        second = self.prepare(address="192.0.2.7")
        self.assertEqual(second.domain, "192.0.2.7")
        self.assertEqual(second.endpoint("tls"), "192.0.2.7:5061")
        self.assertEqual(second.config.domains[0].aliases, ())
        self.assertEqual(second.config.admin.url, "http://127.0.0.1:8060")
        names = describe(self.directory / "tls" / "server.pem").names
        self.assertEqual(set(names), {"192.0.2.7", "127.0.0.1", "localhost"})
        self.assertEqual(second.users, first.users)
        with SubscriberTable(self.directory / "data" / "subscribers.sqlite") as table:
            found = table.find("bob", "192.0.2.7")
        assert found is not None
        self.assertEqual(found.ha1["SHA-256"], ha1("SHA-256", "bob", "192.0.2.7", second.users[1].password))

    def test_lost_passwords(self) -> None:
        """When demo.json is lost or spoilt, the users get new passwords."""
        first = self.prepare()
        for content in (None, "", "[]", '{"users": [{"username": "alice"}]}'):
            if content is None:
                (self.directory / "demo.json").unlink()
            else:
                (self.directory / "demo.json").write_text(content)
            again = self.prepare()
            self.assertNotEqual(again.users, first.users)
            with SubscriberTable(self.directory / "data" / "subscribers.sqlite") as table:
                found = table.find("alice", "127.0.0.1")
            assert found is not None
            self.assertEqual(found.ha1["MD5"], ha1("MD5", "alice", "127.0.0.1", again.users[0].password))

    def test_a_user_who_stayed(self) -> None:
        """A password in demo.json is the one that counts."""
        self.prepare()
        written = self.demo_json()
        written["users"] = [{"username": "alice", "password": "sesame"}]
        (self.directory / "demo.json").write_text(json.dumps(written))
        self.assertEqual(self.prepare().users[0], DemoUser("alice", "sesame"))

    def test_addresses_that_nobody_can_dial(self) -> None:
        """An address that phones cannot use is refused before anything is written."""
        for address in ("localhost", "0.0.0.0", "::1", "224.0.0.1", "", "300.1.1.1"):
            self.assertRaises(DemoError, self.prepare, address=address)
            self.assertRaises(DemoError, look_ahead, self.directory, address, 0)
        self.assertFalse(self.directory.exists())

    def test_spoilt_files(self) -> None:
        """Files that were spoilt by hand are named."""
        demo = self.prepare()
        demo.authority.write_text("spoilt")
        error = self.assertRaises(DemoError, self.prepare)
        self.assertIn(str(self.directory / "tls"), str(error))
        demo.authority.unlink()
        demo.config_file.write_text(demo.config_file.read_text() + "[unknown]\n")
        self.assertRaises(ConfigError, self.prepare)
