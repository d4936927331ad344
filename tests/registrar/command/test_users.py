"""`rollcall user`: users come, change their passwords, and go."""

from unittest import mock

from registrar.auth import Subscriber
from registrar.command import settings
from registrar.subscribers.table import SubscriberTable
from rollcall.sip.digest import ha1
from tests.registrar.command.running import CommandCase


class UserTests(CommandCase):
    def subscriber(self, username: str, domain: str) -> Subscriber | None:
        """Return what the registrar would find."""
        with SubscriberTable(self.directory / "data" / "subscribers.sqlite") as table:
            return table.find(username, domain)

    def assert_password(self, username: str, domain: str, password: str) -> None:
        """Fail unless this is the user's password."""
        found = self.subscriber(username, domain)
        assert found is not None
        for algorithm, hash in found.ha1.items():
            self.assertEqual(hash, ha1(algorithm, username, domain, password))

    def test_add_asks_for_the_password(self) -> None:
        """The password is asked for twice, and not shown."""
        result = self.run_failing("user", "add", "alice", input="sesame\nsesame\n", exit_code=0)
        self.assertIn("Password", result)
        self.assertNotIn("sesame", result)
        self.assert_password("alice", "example.com", "sesame")

    def test_two_different_passwords(self) -> None:
        """Passwords that differ are asked for again."""
        self.run_failing("user", "add", "alice", input="sesame\nopen\nsesame\nsesame\n", exit_code=0)
        self.assert_password("alice", "example.com", "sesame")

    def test_password_from_stdin(self) -> None:
        """A script gives the password on the input, where no other process sees it."""
        output = self.run_ok("user", "add", "alice@example.org", "--password-stdin", input=" spaced out \r\nmore\n")
        self.assertEqual(output, "alice@example.org added\n")
        self.assert_password("alice", "example.org", " spaced out ")

    def test_random_password(self) -> None:
        """A random password is printed, differs each time, and is the user's."""
        passwords = set()
        for name in ("alice", "bob"):
            added = self.run_json("user", "add", name, "--random")
            self.assertEqual((added["username"], added["domain"], added["done"]), (name, "example.com", "added"))
            self.assert_password(name, "example.com", added["password"])
            passwords.add(added["password"])
        self.assertEqual(len(passwords), 2)
        self.assertGreaterEqual(min(map(len, passwords)), 16)
        self.assertIn("; the password is ", self.run_ok("user", "passwd", "alice", "--random"))

    def test_a_password_is_no_argument(self) -> None:
        """A password on the command line, which everybody on the machine could read, is not taken."""
        self.run_failing("user", "add", "alice", "sesame", exit_code=2)
        self.assertEqual(self.run_json("user", "list"), {"users": []})

    def test_both_ways(self) -> None:
        """A password is either read or made."""
        self.run_failing("user", "add", "alice", "--random", "--password-stdin", input="x\n", exit_code=2)

    def test_empty_password(self) -> None:
        """An empty input is no password."""
        self.assertIn("password", self.run_failing("user", "add", "alice", "--password-stdin", input=""))

    def test_passwd(self) -> None:
        """passwd changes the password of a user who is there."""
        self.run_ok("user", "add", "alice", "--password-stdin", input="old\n")
        output = self.run_ok("user", "passwd", "alice", "--password-stdin", input="new\n")
        self.assertEqual(output, "alice@example.com changed\n")
        self.assert_password("alice", "example.com", "new")
        self.assertIn("no subscriber", self.run_failing("user", "passwd", "bob", "--random"))

    def test_add_twice(self) -> None:
        """A user who is there is not added again, and keeps the password."""
        self.run_ok("user", "add", "alice", "--password-stdin", input="old\n")
        self.assertIn("exists", self.run_failing("user", "add", "alice", "--password-stdin", input="new\n"))
        self.assert_password("alice", "example.com", "old")

    def test_list(self) -> None:
        """list shows all users, by name, as a table or as JSON; without any it says so."""
        self.assertIn("no users", self.run_failing("user", "list", exit_code=0))
        for name in ("bob", "alice@example.org", "alice"):
            self.run_ok("user", "add", name, "--random")
        self.assertEqual(
            self.run_json("user", "list")["users"],
            [
                {"username": "alice", "domain": "example.com"},
                {"username": "alice", "domain": "example.org"},
                {"username": "bob", "domain": "example.com"},
            ],
        )
        lines = [line.split() for line in self.run_ok("user", "list").splitlines()]
        self.assertEqual(lines[:2], [["user", "domain"], ["alice", "example.com"]])

    def test_long_list(self) -> None:
        """A list that is too long for rich looks the same as a short one."""
        for name in ("alice", "bartholomew", "carol"):
            self.run_ok("user", "add", name, "--random")
        short = self.run_ok("user", "list")
        with mock.patch.object(settings, "MAX_STYLED", 2):
            self.assertEqual(self.run_ok("user", "list"), short)

    def test_looking_makes_nothing(self) -> None:
        """Only `add` makes a database: whoever looks as root leaves no file that the registrar may not open."""
        self.assertIn("no users", self.run_failing("user", "list", exit_code=0))
        for command in ("passwd", "remove"):
            words = ("--random",) if command == "passwd" else ()
            self.assertIn("subscribers.sqlite does not exist", self.run_failing("user", command, "alice", *words))
        self.assertFalse((self.directory / "data").exists())

    def test_remove(self) -> None:
        """remove removes a user, once."""
        self.run_ok("user", "add", "alice", "--random")
        self.assertEqual(self.run_ok("user", "remove", "alice"), "alice@example.com removed\n")
        self.assertIsNone(self.subscriber("alice", "example.com"))
        self.assertIn("no subscriber", self.run_failing("user", "remove", "alice"))

    def test_remove_from_a_domain_that_is_served_no_more(self) -> None:
        """Users of a domain that was taken out of the configuration can still be removed."""
        self.run_ok("user", "add", "alice@example.org", "--random")
        self.config.write_text(self.config.read_text().replace("example.org", "example.net"))
        self.assertEqual(self.run_json("user", "remove", "alice@example.org")["done"], "removed")

    def test_aliases(self) -> None:
        """A user added by an alias belongs to the domain itself, for that is the realm."""
        self.run_ok("user", "add", "alice@SIP.example.com", "--password-stdin", input="sesame\n")
        self.assert_password("alice", "example.com", "sesame")

    def test_foreign_domain(self) -> None:
        """A user of a domain that is not served could never register, and is not added."""
        stderr = self.run_failing("user", "add", "alice@example.net", "--random")
        self.assertIn("its domains: example.com, example.org", stderr)

    def test_impossible_names(self) -> None:
        """A name that no phone could use is refused in a sentence."""
        for name in ("al ice", "a:b", ""):
            self.assertTrue(self.run_failing("user", "add", name, "--random").startswith("Error: "))

    def test_forget(self) -> None:
        """Of a file the registrar sees every change by itself, so there is nothing more to do; a name is needed."""
        self.run_ok("user", "add", "alice", "--random")
        self.assertEqual(self.run_ok("user", "forget", "alice"), "alice@example.com is looked up again\n")
        self.assertEqual(self.run_json("user", "forget", "--all"), {"forgotten": "all"})
        self.run_failing("user", "forget", exit_code=2)
        self.run_failing("user", "forget", "alice", "--all", exit_code=2)
