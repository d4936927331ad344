"""baresip, a real phone, calls somebody whose calls go elsewhere, and is talked to at the second phone."""

import subprocess
import sys
import time
from pathlib import Path

from tests.interop.case import ALICE, BOB, InteropCase

ROLLCALL = str(Path(sys.executable).with_name("rollcall"))
COMMAND_SECONDS = 30
KNOWN_SECONDS = 1.0
"""Registrars know of a change after a tenth of a second here."""
CAROL = ("carol", "carpenter")


class ForwardingTests(InteropCase):
    """Bob's calls go to Carol."""

    transports = ("udp", "tcp")
    sections = "[database]\ncache_seconds = 0.1\ndomains_seconds = 0.1\n"

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.registrar.add_users([CAROL])
        cls.rollcall("db", "upgrade")

    @classmethod
    def rollcall(cls, *words: str) -> None:
        """Run the command as an operator does."""
        subprocess.run([ROLLCALL, *words, "--config", str(cls.registrar.config)], check=True, capture_output=True,
                       timeout=COMMAND_SECONDS)

    def forward(self, *words: str) -> None:
        """Have Bob's calls go elsewhere."""
        self.rollcall("forward", "set", "bob", *words)
        time.sleep(KNOWN_SECONDS)

    def test_no_answer(self) -> None:
        """It rings at Bob's, then Carol has the call, with sound both ways, and nothing is left at Bob's."""
        self.forward("no-answer", "carol", "--seconds", "1")
        alice, bob, carol = self.phone(ALICE, "tcp"), self.phone(BOB, "udp", answers=False), self.phone(CAROL, "tcp")
        for phone in (alice, bob, carol):
            phone.wait_registered()
        alice.call("bob")
        bob.wait_event("CALL_INCOMING")
        alice.wait_in_call()
        carol.wait_in_call()
        bob.wait_idle()
        alice.wait_rtp()
        carol.wait_rtp()
        carol.hangup()
        alice.wait_idle()
        self.rollcall("forward", "remove", "bob")

    def test_busy(self) -> None:
        """Who refuses a call with 486 sends it on."""
        self.forward("busy", "carol")
        alice, bob, carol = self.phone(ALICE, "udp"), self.phone(BOB, "tcp", answers=False), self.phone(CAROL, "udp")
        for phone in (alice, bob, carol):
            phone.wait_registered()
        alice.call("bob")
        bob.wait_event("CALL_INCOMING")
        bob.hangup()
        alice.wait_in_call()
        carol.wait_in_call()
        alice.hangup()
        carol.wait_idle()
        self.rollcall("forward", "remove", "bob")
