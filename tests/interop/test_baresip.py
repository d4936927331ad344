"""baresip, a real phone, registers with digest over UDP, TCP and TLS, and calls another over each of them."""

from itertools import combinations_with_replacement

from tests.interop.baresip import Account, Baresip, check_call
from tests.interop.case import ALICE, BOB, InteropCase

TRANSPORTS = ("udp", "tcp", "tls")


class PairingTests(InteropCase):
    """Two phones, every pairing of their transports, each calling the other."""

    transports = TRANSPORTS

    def check_pairing(self, first: str, second: str) -> None:
        alice, bob = self.phone(ALICE, first), self.phone(BOB, second)
        for phone, user, transport in ((alice, "alice", first), (bob, "bob", second)):
            phone.wait_registered()
            (contact,) = self.registrar.wait_contacts(user, 1)
            self.assertEqual(contact["transport"], transport.upper())
        check_call(alice, bob, hanging_up=alice)
        check_call(bob, alice, hanging_up=alice)
        for phone, user in ((alice, "alice"), (bob, "bob")):
            phone.stop()
            self.registrar.wait_contacts(user, 0)

    def test_all(self) -> None:
        """In each pairing both register, call each other with RTP both ways, hang up, and unregister."""
        pairings = list(combinations_with_replacement(TRANSPORTS, 2))
        self.assertEqual(len(pairings), 6)
        for first, second in pairings:
            self.check_pairing(first, second)


class PhoneTests(InteropCase):
    """What a person with a phone sees beyond the call that succeeds."""

    transports = TRANSPORTS

    def test_wrong_password(self) -> None:
        """A phone with a wrong password is not registered."""
        account = Account("alice", "guess", self.registrar.address("udp"), "udp")
        phone = Baresip(account, self.folder / "guess")
        self.addCleanup(phone.finish)
        phone.process.wait_for_text("401 Unauthorized")
        self.assertEqual(self.registrar.contacts("alice"), [])

    def test_unknown_user(self) -> None:
        """Calling somebody who does not exist ends with 404."""
        alice = self.registered(ALICE, "udp")
        alice.call("nobody")
        self.assertIn("404", alice.closing_reason())

    def test_away(self) -> None:
        """Calling somebody whose phone is off ends with 480."""
        alice = self.registered(ALICE, "tcp")
        alice.call("bob")
        self.assertIn("480", alice.closing_reason())

    def test_cancel(self) -> None:
        """A caller who gives up stops the ringing."""
        alice, bob = self.registered(ALICE, "udp"), self.registered(BOB, "tls", answers=False)
        alice.call("bob")
        alice.wait_event("CALL_RINGING")
        bob.wait_event("CALL_INCOMING")
        alice.hangup()
        bob.wait_idle()
        alice.wait_idle()

    def test_reject(self) -> None:
        """A callee who rejects the call is heard by the caller."""
        alice, bob = self.registered(ALICE, "tls"), self.registered(BOB, "udp", answers=False)
        alice.call("bob")
        bob.wait_event("CALL_INCOMING")
        bob.hangup()
        self.assertIn("486", alice.closing_reason())

    def test_message(self) -> None:
        """A MESSAGE reaches a phone on another transport."""
        alice = self.registered(ALICE, "udp", "bob")
        bob = self.registered(BOB, "tls")
        alice.message("bob", "lunch at noon?")
        self.assertIn("sip:alice@", bob.wait_shown("lunch at noon?"))

    def test_connection_lost(self) -> None:
        """A phone on TCP whose process dies is forgotten at once, not when its registration would lapse."""
        bob = self.registered(BOB, "tcp")
        self.assertEqual(len(self.registrar.contacts("bob")), 1)
        bob.crash()
        self.registrar.wait_contacts("bob", 0)

    def test_two_phones_ring(self) -> None:
        """Two phones of one user both ring; when one answers, the other is told to stop."""
        alice = self.registered(ALICE, "udp")
        desk, mobile = self.registered(BOB, "tcp", answers=False), self.registered(BOB, "tls", answers=False)
        alice.call("bob")
        desk.wait_event("CALL_INCOMING")
        mobile.wait_event("CALL_INCOMING")
        mobile.accept()
        alice.wait_in_call()
        desk.wait_idle()
        mobile.wait_rtp()
        alice.hangup()
        mobile.wait_idle()

    def registered(self, user: tuple[str, str], transport: str, *peers: str, answers: bool = True) -> Baresip:
        phone = self.phone(user, transport, *peers, answers=answers)
        phone.wait_registered()
        return phone


class RestartTests(InteropCase):
    """The registrar dies and comes back."""

    transports = TRANSPORTS

    def test_kill(self) -> None:
        """A UDP phone is called after the registrar was killed and started again, without registering anew."""
        bob = self.phone(BOB, "udp")
        bob.wait_registered()
        (before,) = self.registrar.contacts("bob")
        self.registrar.kill()
        self.assertRaises(OSError, self.registrar.get, "/healthz")
        self.restart()
        (after,) = self.registrar.contacts("bob")
        self.assertEqual((after["contact"], after["cseq"]), (before["contact"], before["cseq"]))
        alice = self.phone(ALICE, "tcp")
        alice.wait_registered()
        alice.dial("bob")
        bob.wait_rtp()
        alice.hangup()
        bob.wait_idle()

    def restart(self) -> None:
        self.registrar.start()
        self._log_before = 0
