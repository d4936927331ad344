"""A phone's audio: its RTP and RTCP sockets, paced by a loop that it shares with all other phones.

What goes out is really held for as long as its line takes. What comes in is dated by the kernel, and its line is added
to that, so nothing waits for a busy machine twice.
"""

import socket
import time
from collections.abc import Callable
from random import Random
from select import EPOLLIN
from struct import unpack

from attrs import frozen

from tests.cluster.fleet_loop import Loop
from tools.laboratory.media_line import Line
from tools.laboratory.media_rtp import (
    PACKET_SECONDS,
    Ear,
    Mouth,
    is_rtcp,
    stamps_of,
)

RTCP_SECONDS = 5.0
"""Between reports on average; each time is drawn anew (RFC 3550 §6.2)."""
READ_BYTES = 2048
ANCILLARY_BYTES = 64
_TIMESTAMPNS = 35  # SO_TIMESTAMPNS of Linux, which Python does not name
_NANOSECONDS = 1e-9


class MediaPort:
    """A UDP socket whose packets are given to `take` with the moment at which the kernel had them."""

    def __init__(self, host: str, port: int, take: Callable[[bytes, float], None]) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
        self.socket.bind((host, port))
        self.port: int = self.socket.getsockname()[1]
        self._take = take

    def ready(self, events: int) -> None:
        """Read all that has come."""
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(READ_BYTES, ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:  # nobody is there any more where we send to
                continue
            seconds, nanoseconds = unpack("@qq", ancillary[0][2])
            self._take(data, seconds + nanoseconds * _NANOSECONDS)

    def send(self, data: bytes) -> None:
        """Send; nothing happens where nobody listens."""
        try:
            self.socket.send(data)
        except OSError:
            return


@frozen
class Lines:
    """Both directions between a phone and a node."""

    up: Line
    down: Line


class Audio:
    """What a phone says and hears in one call after the other."""

    def __init__(self, loop: Loop, host: str, rtp_port: int) -> None:
        """Open two ports that follow on each other, as phones do (RFC 3550 §11)."""
        self.host = host
        self._loop = loop
        self._rtp = MediaPort(host, rtp_port, self._take_rtp)
        self._rtcp = MediaPort(host, rtp_port + 1, self._take_rtcp)
        self.port = self._rtp.port
        self.mouth: Mouth | None = None
        self.ear: Ear | None = None
        self.when_reported: Callable[[Ear], None] = lambda ear: None
        """Called after each report that was sent."""
        self._lines: Lines | None = None
        self._random = Random()
        self._turn = 0
        for port in (self._rtp, self._rtcp):
            loop.watch(port.socket, port, EPOLLIN)

    def open(self, mouth: Mouth, ear: Ear, random: Random) -> None:
        """Begin a call: from now on packets of the other end are heard, once there is a line."""
        self.mouth, self.ear, self._random = mouth, ear, random

    def connect(self, remote: tuple[str, int], lines: Lines) -> None:
        """Send there, and hear what comes from there only; in the middle of a call as well."""
        self._rtp.socket.connect(remote)
        self._rtcp.socket.connect((remote[0], remote[1] + 1))
        self._lines = lines

    def talk(self) -> None:
        """Begin to speak."""
        self._turn += 1
        turn, begun_at = self._turn, time.time()
        self._say(turn, begun_at, 0, begun_at)
        # "the first packet after half of that" (§6.2)
        self._loop.later(self._report_seconds() / 2, lambda: self._report(turn))

    def hush(self) -> None:
        """Say nothing more, but go on hearing."""
        self._turn += 1

    def end(self) -> None:
        """Say by RTCP that it is over, and hear nothing more."""
        self.hush()
        if self.mouth is not None and self._lines is not None:
            self._rtcp.send(self._compound(self.mouth, time.time()) + self.mouth.goodbye())
        self.mouth = self.ear = self._lines = None

    def close(self) -> None:
        """Close its sockets; the loop has stopped, or this is its thread."""
        self.hush()
        for port in (self._rtp, self._rtcp):
            self._loop.forget(port.socket)
            port.socket.close()

    # --- what goes out

    def _say(self, turn: int, captured: float, number: int, due: float) -> None:
        """Send the packet that was captured then, and have the next one sent when its line lets it out."""
        mouth, lines = self.mouth, self._lines
        if turn != self._turn or mouth is None or lines is None:
            return
        now = time.time()
        if number:
            self._rtp.send(mouth.packet(captured, due, now))
        following = captured + PACKET_SECONDS
        out = lines.up.passed(following)
        self._loop.later(out - now, lambda: self._say(turn, following, number + 1, out))

    def _report(self, turn: int) -> None:
        mouth, lines = self.mouth, self._lines
        if turn != self._turn or mouth is None or lines is None:
            return
        now = time.time()
        held = lines.up.passed(now) - now
        self._loop.later(held, lambda: self._send_report(turn, held))
        self._loop.later(self._report_seconds(), lambda: self._report(turn))

    def _send_report(self, turn: int, held: float) -> None:
        if turn == self._turn and self.mouth is not None:
            self._rtcp.send(self._compound(self.mouth, time.time() - held))
            if self.ear is not None and self.ear.received:
                self.when_reported(self.ear)

    def _compound(self, mouth: Mouth, now: float) -> bytes:
        blocks = self.ear.block(now) if self.ear is not None else b""
        return mouth.report(now, blocks) + mouth.description(self.host.encode())

    def _report_seconds(self) -> float:
        return RTCP_SECONDS * self._random.uniform(0.5, 1.5)

    # --- what comes in

    def _take_rtp(self, data: bytes, arrived: float) -> None:
        if self.ear is None or self._lines is None:
            return
        if is_rtcp(data):
            self._take_rtcp(data, arrived)
            return
        try:
            captured, due, left = stamps_of(data)
        except ValueError:  # of a phone that is none of ours
            return
        # When it would have come if this machine had sent it in time.
        entered = due + (arrived - left)
        self.ear.take(data, self._lines.down.passed(entered) - captured)

    def _take_rtcp(self, data: bytes, arrived: float) -> None:
        if self.ear is not None and self._lines is not None:
            self.ear.take_report(data, self._lines.down.passed(arrived))
