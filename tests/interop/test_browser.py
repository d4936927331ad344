"""JsSIP and SIP.js in headless Chromium, over WS and WSS (RFC 7118): registering, calling each other, writing."""

from tests.interop.browser_phone import BrowserPhone
from tests.interop.browsers import CAROL, BrowserCase
from tests.interop.case import ALICE, BOB
from tests.interop.process import InteropError


class BrowserTests(BrowserCase):
    """Phones in the pages of one Chromium, and a baresip."""

    def registered(self, user: tuple[str, str], library: str, transport: str) -> BrowserPhone:
        """Open a page with a registered phone; its binding is one of a browser."""
        phone = super().registered(user, library, transport)
        (contact,) = self.registrar.wait_contacts(user[0], 1)
        self.assertEqual(contact["transport"], transport.upper())
        self.assertIn(".invalid", contact["contact"])
        return phone

    def check_call(self, caller: BrowserPhone, callee: BrowserPhone, target: str) -> None:
        caller.call(target)
        callee.wait_in_call()
        caller.wait_media()
        callee.wait_media()

    def test_jssip_and_sipjs_over_ws(self) -> None:
        """They call each other over WS with WebRTC media both ways; each can hang up; both unregister."""
        self.check_both_ways("ws")

    def test_jssip_and_sipjs_over_wss(self) -> None:
        """The same over WSS."""
        self.check_both_ways("wss")

    def check_both_ways(self, transport: str) -> None:
        alice, bob = self.registered(ALICE, "jssip", transport), self.registered(BOB, "sipjs", transport)
        self.check_call(alice, bob, self.aor(BOB))
        alice.hangup()
        bob.wait_ended()
        self.check_call(bob, alice, self.aor(ALICE))
        alice.hangup()
        bob.wait_ended()
        for phone, user in ((alice, "alice"), (bob, "bob")):
            phone.unregister()
            self.registrar.wait_contacts(user, 0)

    def test_ws_calls_wss(self) -> None:
        """A phone on WS calls one on WSS, each of the other library than before."""
        alice, bob = self.registered(ALICE, "sipjs", "ws"), self.registered(BOB, "jssip", "wss")
        self.check_call(alice, bob, self.aor(BOB))
        alice.hangup()
        bob.wait_ended()

    def test_messages(self) -> None:
        """Browser phones and a baresip write to each other; the browsers hear that it was delivered."""
        desk = self.phone(CAROL, "tcp", "alice", "bob")
        desk.wait_registered()
        for user, library, transport in ((ALICE, "jssip", "ws"), (BOB, "sipjs", "wss")):
            browser = self.registered(user, library, transport)
            self.assertEqual(browser.message(self.aor(CAROL), f"from {library}"), "200")
            self.assertIn(self.aor(user), desk.wait_shown(f"from {library}"))
            desk.message(user[0], f"to {library}")
            received = browser.next_message()
            self.assertEqual(received["text"], f"to {library}")
            self.assertIn("carol@", received["from"])

    def test_wrong_password(self) -> None:
        """A browser phone with a wrong password hears it, and is not registered."""
        phone = self.page(ALICE, "jssip", "ws")
        server = f"ws://{self.registrar.address('ws')}"
        refusal = self.assertRaises(InteropError, phone.register, server, self.aor(ALICE), "alice", "guess")
        self.assertIn("401", str(refusal))
        self.assertEqual(self.registrar.contacts("alice"), [])

    def test_page_closed(self) -> None:
        """A closed page is forgotten at once: its binding goes with its connection."""
        phone = self.registered(BOB, "jssip", "ws")
        phone.close()
        self.registrar.wait_contacts("bob", 0)
