"""Calls that are forwarded from phone to phone of different registrars, as commands have put it into MariaDB."""

import time

from rollcall.sip.message import Request
from tests.cluster.handset import Handset, Talk
from tests.cluster.mysql_lab import MysqlCase

KNOWN_SECONDS = 2.0
"""Registrars know of a change after a fifth of a second here, and of the very first after twice that."""


class ForwardedTests(MysqlCase):
    """Alice at the first registrar calls Bob at the second; Carol is at the third."""

    mysql = "single"
    users = 3
    sections = "[database]\ncache_seconds = 0.2\ndomains_seconds = 0.2\n"

    def setUp(self) -> None:
        self.alice, self.bob, self.carol = (
            self.enterContext(Handset(self.lab, user, node)) for node, user in enumerate(self.lab.users))
        self.talk = Talk(self.alice, self.carol)

    def set(self, *words: str) -> None:
        """Run a command at the third registrar, and let the others learn of it."""
        self.rollcall(self.lab.registrars[2], *words)
        time.sleep(KNOWN_SECONDS)

    def call(self, whom: str) -> None:
        """Let Alice call, and prove who she is."""
        phone = self.alice.phone
        asked = phone.make("INVITE", whom, [("Contact", f"<{phone.contact}>")])
        phone.send(asked)
        challenge = phone.final()
        phone.acknowledge(asked, challenge)
        self.talk.invite = phone.authorised(asked, challenge)
        phone.send(self.talk.invite)

    def provisional(self) -> int:
        """Return what Alice hears next beside 100."""
        while (response := self.alice.phone.response()).status == 100:
            pass
        return response.status

    def refused(self) -> Request:
        """Let Bob refuse his call; return it."""
        invite = self.bob.hears("INVITE")
        self.bob.phone.answer(invite, 486)
        self.bob.hears("ACK")
        return invite

    def test_busy(self) -> None:
        """A call that Bob refuses comes to Carol, who talks to Alice; either may hang up."""
        self.set("forward", "set", self.bob.aor, "busy", self.carol.aor)
        self.addCleanup(self.set, "forward", "remove", self.bob.aor)
        for hanging_up in (self.alice, self.carol):
            self.call(self.bob.aor)
            self.assertIsNone(self.refused().get("Diversion"))
            self.assertEqual(self.provisional(), 181)
            self.talk.ring()
            self.assertEqual(self.talk.received.get("Diversion"),
                             f"<{self.bob.aor}>;reason=user-busy;privacy=off;counter=1")
            self.talk.answer()
            self.talk.exchange("INVITE", self.carol)
            self.talk.exchange("BYE", hanging_up)

    def test_alias(self) -> None:
        """A number is an alias at every registrar, and so is a name of a domain of the table."""
        self.set("domain", "add", "numbers.example")
        self.set("alias", "add", "sip:4930123@numbers.example", self.carol.aor)
        self.call("sip:4930123@numbers.example")
        self.talk.ring()
        self.talk.answer()
        self.talk.exchange("BYE", self.carol)
        self.assertIn("numbers.example", self.talk.received.get("To") or "")
