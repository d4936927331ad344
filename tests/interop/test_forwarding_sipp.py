"""Aliases and forwarded calls, with sipp as every phone and the commands that set them."""

import subprocess
import sys
import time
from pathlib import Path

from tests.interop.script import DOMAIN, Script, has, literal
from tests.interop.sipp_case import EVERYBODY, EXACT, SippCase

ROLLCALL = str(Path(sys.executable).with_name("rollcall"))
COMMAND_SECONDS = 30
KNOWN_SECONDS = 1.0
"""Registrars know of a change after a tenth of a second here."""


class ForwardingCase(SippCase):
    """Alice calls Bob; Carol has a phone, too."""

    sections = EVERYBODY + EXACT + "[database]\ncache_seconds = 0.1\ndomains_seconds = 0.1\n"

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, self.carol = (self.script(name) for name in ("alice", "bob", "carol"))

    def rollcall(self, *words: str) -> None:
        """Run the command as an operator does."""
        command = [ROLLCALL, *words, "--config", str(self.registrar.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def forward(self, *words: str) -> None:
        """Make the tables where they are missing, and have Bob's calls go elsewhere."""
        self.rollcall("db", "upgrade")
        self.rollcall("forward", "set", self.bob.user, *words)
        time.sleep(KNOWN_SECONDS)

    def a_phone(self, script: Script, *checks: str) -> Script:
        """Let a phone register, and be called."""
        script.registered()
        script.receive("INVITE", *checks)
        return script

    def aor(self, script: Script) -> str:
        """Return somebody's address-of-record."""
        return f"sip:{script.user}@{DOMAIN}"

    def talk(self, callee: Script) -> None:
        """Let Carol take the call, and Alice end it."""
        callee.answer(180)
        callee.accept()
        callee.hung_up()
        self.alice.expect(180)
        self.alice.expect(200)
        self.alice.acknowledge()
        self.alice.hang_up()

    def told(self, reason: str, cause: int) -> list[str]:
        """Return checks of what Carol's phone is told: for whom the call was, and why it comes to her."""
        return [
            has("Diversion", literal(f"<{self.aor(self.bob)}>;reason={reason};privacy=off;counter=1")),
            has("History-Info", literal(f"<{self.aor(self.bob)}?Reason=SIP%3Bcause%3D{cause}>;index=1")),
            has("History-Info", literal(f"<{self.aor(self.carol)}>;index=1.1;mp=1")),
        ]

    def finish(self, *phones: tuple[Script, str], caller: str = "udp") -> None:
        """Let each phone register over its transport, then Alice call; all have to come to their ends."""
        called = [self.serve(phone, transport) for phone, transport in phones]
        self.play(self.alice, caller)
        for sipp in called:
            sipp.check()


class ForwardingTests(ForwardingCase):
    def test_always(self) -> None:
        """Calls go to the other one at once; the user's phone hears nothing."""
        self.forward("always", self.carol.user)
        self.bob.registered()
        self.a_phone(self.carol, *self.told("unconditional", 302))
        self.alice.invite(self.bob.user)
        self.talk(self.carol)
        self.finish((self.bob, "udp"), (self.carol, "tcp"))

    def test_busy(self) -> None:
        """A busy phone's calls go on, and the caller hears of it."""
        self.forward("busy", self.carol.user)
        self.a_phone(self.bob)
        self.bob.refuse(486)
        self.a_phone(self.carol, *self.told("user-busy", 486))
        self.alice.invite(self.bob.user)
        self.alice.expect(181)
        self.talk(self.carol)
        self.finish((self.bob, "tcp"), (self.carol, "udp"), caller="tcp")

    def test_no_answer(self) -> None:
        """A phone that rings in vain is told to stop, and the other one rings."""
        self.forward("no-answer", self.carol.user, "--seconds", "1")
        self.a_phone(self.bob)
        self.bob.answer(180)
        self.bob.cancelled()
        self.a_phone(self.carol, *self.told("no-answer", 408))
        self.alice.invite(self.bob.user)
        self.alice.expect(180)
        self.alice.expect(181)
        self.talk(self.carol)
        self.finish((self.bob, "udp"), (self.carol, "udp"))

    def test_unreachable(self) -> None:
        """Calls for who is not registered go to who is."""
        self.forward("unreachable", self.carol.user)
        self.a_phone(self.carol, *self.told("unavailable", 480))
        self.alice.invite(self.bob.user)
        self.talk(self.carol)
        self.finish((self.carol, "tcp"))

    def test_cancelled(self) -> None:
        """A caller who gives up after all ends the call at the second phone."""
        self.forward("busy", self.carol.user)
        self.a_phone(self.bob)
        self.bob.refuse(486)
        self.a_phone(self.carol)
        self.carol.answer(180)
        self.carol.cancelled()
        self.alice.invite(self.bob.user)
        self.alice.expect(181)
        self.alice.expect(180)
        self.alice.cancel()
        self.alice.expect(200)
        self.alice.refused(487)
        self.finish((self.bob, "udp"), (self.carol, "tcp"))

    def test_alias(self) -> None:
        """An alias is called like the user, and its phone sees which name was called."""
        self.rollcall("db", "upgrade")
        alias = f"4930-{self.bob.user}"
        self.rollcall("alias", "add", alias, self.bob.user)
        time.sleep(KNOWN_SECONDS)
        self.a_phone(self.bob, has("To", literal(f"<sip:{alias}@{DOMAIN}>")))
        self.alice.invite(alias)
        self.talk(self.bob)
        self.finish((self.bob, "udp"))
