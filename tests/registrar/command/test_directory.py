"""`rollcall domain`, `rollcall alias` and `rollcall forward`."""

from tests.registrar.command.running import CommandCase

BOB = "sip:bob@example.com"


class DirectoryCase(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.run_ok("db", "upgrade")


class DomainTests(DirectoryCase):
    def test_comes_and_goes(self) -> None:
        """A domain is added to those of the configuration, has users, and is removed."""
        self.assertEqual(self.run_ok("domain", "add", "Example.NET.", "--comment", "of Zoë"), "example.net added\n")
        listed = self.run_json("domain", "list")["domains"]
        self.assertEqual([each["domain"] for each in listed], ["example.com", "example.org", "example.net"])
        self.assertEqual(listed[-1], {"domain": "example.net", "from": "table", "comment": "of Zoë"})
        self.run_ok("user", "add", "alice@example.net", "--random")
        self.run_ok("domain", "remove", "example.net")
        self.assertIn("no domain of the table", self.run_failing("domain", "remove", "example.net"))
        self.assertIn("no domain of this registrar", self.run_failing("user", "add", "bob@example.net", "--random"))

    def test_served_already(self) -> None:
        """What the configuration serves, or its alias, is not added; neither is what is no domain."""
        for name in ("EXAMPLE.com", "sip.example.com"):
            self.assertIn("configuration", self.run_failing("domain", "add", name))
        for name in ("a b", "bob@example.net", "example.net:5060", "x" * 65, ""):
            self.run_failing("domain", "add", name)
        self.run_failing("domain", "add", "example.net", "--comment", "x" * 256)

    def test_without_tables(self) -> None:
        """Without tables there are the domains of the configuration."""
        (self.directory / "data" / "rollcall.sqlite").unlink()
        self.assertEqual(len(self.run_json("domain", "list")["domains"]), 2)
        self.assertIn("rollcall db upgrade", self.run_failing("domain", "add", "example.net"))


class AliasTests(DirectoryCase):
    def test_comes_and_goes(self) -> None:
        """An alias is written in any of the usual ways, and stands as the address that is called."""
        added = self.run_ok("alias", "add", "+4930123", "bob")
        self.assertEqual(added, f"sip:+4930123@example.com is an alias of {BOB}\n")
        self.run_ok("alias", "add", "sales@sip.example.com", "sip:sales@gw.example.net;transport=tcp")
        self.assertEqual(self.run_json("alias", "list")["aliases"], [
            {"alias": "sip:+4930123@example.com", "target": BOB},
            {"alias": "sip:sales@example.com", "target": "sip:sales@gw.example.net;transport=tcp"}])
        self.assertIn("already", self.run_failing("alias", "add", "sip:+4930123@example.com", "carol"))
        self.run_ok("alias", "remove", "+4930123")
        self.assertIn("no alias", self.run_failing("alias", "remove", "+4930123"))

    def test_refused(self) -> None:
        """An alias is of a domain of ours, and leads to a SIP URI."""
        self.assertIn("no domain of this registrar", self.run_failing("alias", "add", "x@example.net", "bob"))
        for name, target in (("x", "sip:"), ("x", "sip:a b"), ("x", "@"), ("sip:example.com", "bob"), ("@", "bob")):
            self.run_failing("alias", "add", name, target)
        self.assertEqual(self.run_json("alias", "list"), {"aliases": []})


class ForwardTests(DirectoryCase):
    def test_comes_and_goes(self) -> None:
        """Each case has one target; --seconds go with no-answer."""
        self.assertEqual(self.run_ok("forward", "set", "bob", "no-answer", "carol@example.org", "--seconds", "20"),
                         f"calls of {BOB} go to sip:carol@example.org: no-answer after 20 s\n")
        self.run_ok("forward", "set", "bob", "busy", "x@example.net")
        self.run_ok("forward", "set", "bob", "busy", "sip:+4917012345@gw.example.net")
        listed = self.run_json("forward", "list", "bob")["forwardings"]
        self.assertEqual([(each["kind"], each["target"], each["seconds"]) for each in listed], [
            ("busy", "sip:+4917012345@gw.example.net", None), ("no-answer", "sip:carol@example.org", 20)])
        self.assertEqual(self.run_json("forward", "list", "carol"), {"forwardings": []})
        self.run_ok("forward", "remove", "bob", "busy")
        self.assertIn("when it is busy", self.run_failing("forward", "remove", "bob", "busy"))
        self.run_ok("forward", "remove", "bob")
        self.assertEqual(self.run_json("forward", "list"), {"forwardings": []})

    def test_refused(self) -> None:
        """Another case there is not, and only who does not answer rings for some seconds."""
        self.run_failing("forward", "set", "bob", "sometimes", "carol", exit_code=2)
        self.assertIn("instead of himself", self.run_failing("forward", "set", "bob", "always", "bob"))
        self.assertIn("no-answer", self.run_failing("forward", "set", "bob", "busy", "carol", "--seconds", "20"))
        self.assertEqual(self.run_json("forward", "list"), {"forwardings": []})

    def test_shown(self) -> None:
        """For people there is a table, or a word that there is none."""
        self.assertIn("rollcall forward set", self.run_failing("forward", "list", exit_code=0))
        self.run_ok("forward", "set", "bob", "always", "carol")
        self.assertIn("always", self.run_ok("forward", "list"))
        self.run_ok("alias", "add", "sales", "bob")
        self.assertIn("sip:sales@example.com", self.run_ok("alias", "list"))
        self.assertIn("configuration", self.run_ok("domain", "list"))
