"""Real phones whose rtpengine is killed during their call hear each other again through another one: baresip, browsers.

They get re-INVITEs that nobody of them has sent, and go on with the call as they know it.
"""

import time
from collections.abc import Callable
from typing import ClassVar

import pytest

from tests.interop.baresip import Baresip
from tests.interop.browser_phone import BrowserPhone
from tests.interop.browsers import CAROL, BrowserCase
from tests.interop.case import ALICE, BOB
from tests.interop.media_case import MediaCase
from tests.interop.process import wait_until

PACKETS = 50
"""A second of audio."""
HOLD_SECONDS = 0.5

Received = Callable[[], int]


class ReanchoringCase(MediaCase):
    """Two rtpengines; calls go through the first."""

    def dies(self, *received: Received) -> None:
        """Kill the node of the call; return when everybody hears audio through the other one."""
        self.nodes[0].kill()
        self.publish(self.nodes[0].name)
        wait_until(lambda: self.calls_of(1) == 1 or None, "the call at the other node")
        self.hear(*received)

    def hear(self, *received: Received) -> None:
        """Return when everybody has heard a second of audio."""
        before = [look() for look in received]
        wait_until(lambda: all(look() - count >= PACKETS for look, count in zip(received, before, strict=True)) or None,
                   f"audio at all phones, which had heard {before}", 15)

    def rings_true(self, phone: Baresip) -> Received:
        """Return how to count what a baresip hears."""
        return lambda: phone.rtp().received


class BaresipTests(ReanchoringCase):
    """Two baresips."""

    transports: ClassVar[tuple[str, ...]] = ("udp", "tcp")

    def call(self, *transports: str) -> list[Baresip]:
        """Return two phones that talk through the second node, because the first was killed."""
        phones = [self.phone(user, transport) for user, transport in zip((ALICE, BOB), transports, strict=True)]
        for phone in phones:
            phone.wait_registered()
        phones[0].dial("bob")
        for phone in phones:
            phone.wait_in_call()
            phone.wait_rtp()
        self.dies(*map(self.rings_true, phones))
        return phones

    def end(self, phones: list[Baresip], hanging_up: Baresip) -> None:
        """Let one of them hang up; nothing is left."""
        hanging_up.hangup()
        for phone in phones:
            phone.wait_idle()
        self.wait_no_calls()

    def test_goes_on(self) -> None:
        """They hear each other again; then each puts the other on hold and takes it back, and the caller hangs up."""
        phones = self.call("udp", "tcp")
        for phone in phones:
            phone.hold()
            time.sleep(HOLD_SECONDS)
            phone.resume()
            time.sleep(HOLD_SECONDS)
            self.hear(*map(self.rings_true, phones))
        self.end(phones, phones[0])

    @pytest.mark.long
    def test_callee_hangs_up(self) -> None:
        """The callee, who has sent no request before, hangs up."""
        phones = self.call("tcp", "udp")
        self.end(phones, phones[1])


class BrowserTests(BrowserCase, ReanchoringCase):
    """Browsers and a baresip."""

    def setUp(self) -> None:
        super().setUp()
        self.desk = self.phone(CAROL, "udp")
        self.desk.wait_registered()

    def counted(self, browser: BrowserPhone) -> Received:
        """Return how to count what a browser hears."""
        return lambda: int(browser.ask("media")["received"])

    def test_browser_calls_phone(self) -> None:
        """A browser and a phone that knows RTP only: ICE and DTLS begin anew with the other node."""
        alice = self.registered(ALICE, "jssip", "wss")
        alice.call(f"sip:carol@{self.registrar.domain}")
        alice.wait_media()
        self.desk.wait_rtp()
        self.dies(self.counted(alice), self.rings_true(self.desk))
        self.desk.hangup()
        alice.wait_ended()
        self.wait_no_calls()

    @pytest.mark.long
    def test_browser_calls_browser(self) -> None:
        """Both ends are browsers, of two libraries."""
        alice, bob = self.registered(ALICE, "jssip", "ws"), self.registered(BOB, "sipjs", "wss")
        alice.call(f"sip:bob@{self.registrar.domain}")
        bob.wait_in_call()
        for phone in (alice, bob):
            phone.wait_media()
        self.dies(self.counted(alice), self.counted(bob))
        alice.hangup()
        bob.wait_ended()
        self.wait_no_calls()
