"""`rollcall demo`, which is what `make run` starts: what it tells scripts is enough for real phones."""

import json
import os
import signal
import socket
import ssl
import sys
import tempfile
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.baresip import Account, Baresip
from tests.interop.process import Process, are_free, free_ports

PORTS = (5060, 5061, 5080, 5443, 8060)  # the demo's, which it shifts


class DemoTests(SynchronousTestCase):
    """One demo, left as it is by its users."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.demo = self.start("first")

    def start(self, log: str) -> Process:
        command = [str(Path(sys.executable).with_name("rollcall")), "demo", "--dir", str(self.folder / "run")]
        process = Process([*command, "--port-offset", str(free_offset())], self.folder / log)
        self.addCleanup(process.end)
        process.wait_for_text("ready: node", 30)
        return process

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.folder / "run" / "demo.json").read_text())
        return facts

    def phone(self, facts: dict[str, Any], user: int, transport: str) -> Baresip:
        credentials = facts["users"][user]
        account = Account(credentials["username"], credentials["password"], facts[transport], transport, answers=True)
        folder = self.folder / f"{credentials['username']}-{transport}-{len(list(self.folder.iterdir()))}"
        phone = Baresip(account, folder)
        self.addCleanup(phone.finish)
        return phone

    def test_phones(self) -> None:
        """Its two users call each other over UDP, TCP and TLS; one log line for each registration and call."""
        facts = self.facts()
        for first, second in combinations_with_replacement(("udp", "tcp", "tls"), 2):
            alice, bob = self.phone(facts, 0, first), self.phone(facts, 1, second)
            for phone in (alice, bob):
                phone.wait_registered()
            alice.dial(bob.account.username)
            alice.wait_rtp()
            bob.wait_rtp()
            alice.hangup()
            for phone in (alice, bob):
                phone.wait_idle()
                phone.stop()
        lines = self.demo.text().splitlines()
        for transport in ("UDP", "TCP", "TLS"):
            registered = [line for line in lines if f" new over {transport} " in line]
            self.assertEqual(len(registered), 4, self.demo.text())
        calls = [line for line in lines if "alice" in line and "bob" in line and "got 200" in line]
        self.assertEqual(len(calls), 6, self.demo.text())

    def test_certificate(self) -> None:
        """Who trusts its authority is content with its certificate, over TLS and WSS; others are not."""
        facts = self.facts()
        trusting, strict = ssl.create_default_context(cafile=facts["ca"]), ssl.create_default_context()
        for transport in ("tls", "wss"):
            host, _, port = facts[transport].rpartition(":")
            with (
                socket.create_connection((host, int(port)), 10) as connection,
                trusting.wrap_socket(connection, server_hostname=host) as secured,
            ):
                self.assertEqual(secured.version(), "TLSv1.3")
            with socket.create_connection((host, int(port)), 10) as connection:
                self.assertRaises(ssl.SSLCertVerificationError, strict.wrap_socket, connection, server_hostname=host)

    def test_second_start(self) -> None:
        """Started again it has the same users with the same passwords, and ends cleanly when told to."""
        before = self.facts()
        self.assertIn(self.demo.end(signal.SIGTERM, 10), (0, -signal.SIGTERM))
        self.assertIn("stopped", self.demo.text())
        self.start("second")
        after = self.facts()
        self.assertEqual(after["users"], before["users"])
        self.assertEqual(len({user["password"] for user in after["users"]}), 2)
        self.assertEqual(os.stat(self.folder / "run" / "demo.json").st_mode & 0o077, 0)


def free_offset() -> int:
    """Return how far to shift the demo's ports so that nobody has them."""
    while True:
        offset = free_ports()[0] - PORTS[0]
        if are_free(port + offset for port in PORTS):
            return offset
