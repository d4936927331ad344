"""Real phones call each other through real rtpengines: baresip, and browsers with WebRTC (RFC 8827)."""

from typing import ClassVar

import pytest

from tests.interop.baresip import check_call
from tests.interop.browser_phone import BrowserPhone
from tests.interop.browsers import CAROL, BrowserCase
from tests.interop.case import ALICE, BOB
from tests.interop.media_case import MediaCase
from tests.interop.process import wait_until


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


class BrowserTests(BrowserCase, MediaCase):
    """Browsers and a baresip."""

    def setUp(self) -> None:
        super().setUp()
        self.desk = self.phone(CAROL, "udp")
        self.desk.wait_registered()

    def check_media(self, browser: BrowserPhone) -> None:
        """See that the browser and the desk phone hear each other through the node."""
        browser.wait_media()
        self.desk.wait_rtp()
        self.assertEqual(self.calls_of(0), 1)

    @pytest.mark.long
    def test_browser_calls_phone(self) -> None:
        """JsSIP over WSS calls a phone that knows RTP only."""
        alice = self.registered(ALICE, "jssip", "wss")
        alice.call(self.aor(CAROL))
        self.check_media(alice)
        alice.hangup()
        self.desk.wait_idle()
        self.wait_no_calls()

    @pytest.mark.long
    def test_phone_calls_browser(self) -> None:
        """A phone that knows RTP only calls SIP.js over WS."""
        bob = self.registered(BOB, "sipjs", "ws")
        self.desk.dial("bob")
        bob.wait_in_call()
        self.check_media(bob)
        self.desk.hangup()
        bob.wait_ended()
        self.wait_no_calls()

    @pytest.mark.long
    def test_browser_calls_browser(self) -> None:
        """Browsers hear each other through the node, too."""
        alice, bob = self.registered(ALICE, "jssip", "ws"), self.registered(BOB, "sipjs", "wss")
        alice.call(self.aor(BOB))
        bob.wait_in_call()
        for phone in (alice, bob):
            phone.wait_media()
        wait_until(lambda: self.calls_of(0) == 1 or None, "the call at the node")
        alice.hangup()
        bob.wait_ended()
        self.wait_no_calls()
