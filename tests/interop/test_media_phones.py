"""Real phones call each other through real rtpengines: baresip, and browsers with WebRTC (RFC 8827)."""

import tempfile
from pathlib import Path
from typing import ClassVar

import pytest

from tests.interop.baresip import check_call
from tests.interop.browser_phone import Browser, BrowserPhone
from tests.interop.case import ALICE, BOB
from tests.interop.media_case import MediaCase
from tests.interop.process import wait_until

CAROL = ("carol", "singer")


class BaresipTests(MediaCase):
    """Two baresips."""

    transports: ClassVar[tuple[str, ...]] = ("udp", "tcp")

    def test_calls(self) -> None:
        """They hear each other through the node, whoever calls and over whatever; after each call it has none."""
        for caller, callee in (("udp", "udp"), ("udp", "tcp"), ("tcp", "udp")):
            alice, bob = self.phone(ALICE, caller), self.phone(BOB, callee)
            for phone in (alice, bob):
                phone.wait_registered()
            alice.dial("bob")
            bob.wait_in_call()
            self.assertEqual(self.calls_of(0), 1)
            for phone in (alice, bob):
                self.assertEqual(phone.wait_rtp().lost, 0)
            alice.hangup()
            for phone in (alice, bob):
                phone.wait_idle()
            self.wait_no_calls()
            check_call(bob, alice, hanging_up=bob)
            self.wait_no_calls()
            for phone in (alice, bob):
                phone.stop()


class BrowserTests(MediaCase):
    """Browsers and a baresip."""

    browser: ClassVar[Browser]
    _profile: ClassVar["tempfile.TemporaryDirectory[str]"]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.registrar.add_users([CAROL])
        cls._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        cls.browser = Browser(Path(cls._profile.name) / "browser")
        cls.browser.__enter__()
        cls.keys = cls.browser.keys

    @classmethod
    def tearDownClass(cls) -> None:
        cls.browser.__exit__(None)
        cls._profile.cleanup()
        super().tearDownClass()

    def setUp(self) -> None:
        super().setUp()
        self.desk = self.phone(CAROL, "udp")
        self.desk.wait_registered()

    def a_browser(self, user: tuple[str, str], library: str, transport: str) -> BrowserPhone:
        """Open a page with a registered phone."""
        phone = self.browser.phone(f"{user[0]}-{library}-{transport}", library)
        self.addCleanup(phone.close)
        server = f"{transport}://{self.registrar.address(transport)}"
        self.assertEqual(phone.register(server, f"sip:{user[0]}@{self.registrar.domain}", *user), "200")
        return phone

    def aor(self, user: tuple[str, str]) -> str:
        """Return a user's address-of-record."""
        return f"sip:{user[0]}@{self.registrar.domain}"

    def check_media(self, browser: BrowserPhone) -> None:
        """See that the browser and the desk phone hear each other through the node."""
        browser.wait_media()
        self.desk.wait_rtp()
        self.assertEqual(self.calls_of(0), 1)

    def test_browser_calls_phone(self) -> None:
        """JsSIP over WSS calls a phone that knows RTP only."""
        alice = self.a_browser(ALICE, "jssip", "wss")
        alice.call(self.aor(CAROL))
        self.check_media(alice)
        alice.hangup()
        self.desk.wait_idle()
        self.wait_no_calls()

    def test_phone_calls_browser(self) -> None:
        """A phone that knows RTP only calls SIP.js over WS."""
        bob = self.a_browser(BOB, "sipjs", "ws")
        self.desk.dial("bob")
        bob.wait_in_call()
        self.check_media(bob)
        self.desk.hangup()
        bob.wait_ended()
        self.wait_no_calls()

    @pytest.mark.long
    def test_browser_calls_browser(self) -> None:
        """Browsers hear each other through the node, too."""
        alice, bob = self.a_browser(ALICE, "jssip", "ws"), self.a_browser(BOB, "sipjs", "wss")
        alice.call(self.aor(BOB))
        bob.wait_in_call()
        for phone in (alice, bob):
            phone.wait_media()
        wait_until(lambda: self.calls_of(0) == 1 or None, "the call at the node")
        alice.hangup()
        bob.wait_ended()
        self.wait_no_calls()
