"""What a phone says and hears: PCMU in RTP, what RTCP says of it, and what its user really had of it (RFC 3550).

Nothing here has a socket or a clock. Moments are in seconds since the epoch. In the place of a voice each packet
carries when it was captured, when it was to leave the phone's line, and when it really left this process. So what this
machine did late with its own hands is told from what the network did, and counts for nothing.
"""

import math
from array import array
from itertools import pairwise
from random import Random
from struct import Struct, pack, unpack_from

from attrs import define, field, frozen

from rollcall.media.emodel import r_factor

CLOCK_RATE = 8000
PACKET_SECONDS = 0.02
SAMPLES = 160
WINDOW_PACKETS = 250
"""A call is rated in windows of 5 s, for that is how a user hears it."""
PLAYOUT_SECONDS = 0.06
"""So much later than the fastest of its window a packet may come and still be played."""
NTP_EPOCH = 2_208_988_800
SENDER_REPORT, RECEIVER_REPORT, DESCRIPTION, GOODBYE = 200, 201, 202, 203

_HEADER = Struct("!BBHII")
_STAMPS = Struct("!ddd")
_BLOCK = Struct("!IBBHIIII")
_FILLING = b"\xff" * (SAMPLES - _STAMPS.size)
_SENDER = Struct("!BBHIIIIII")


@frozen
class Heard:
    """What the user at one end had of a call, or of a part of it."""

    packets: int
    """As many were sent to it."""
    lost: int
    late: int
    delay_ms: float
    """From mouth to ear, on average."""
    r: float
    """The rating of the E-model (G.107), on average over its windows."""


class Mouth:
    """The sender of one stream."""

    def __init__(self, random: Random) -> None:
        self.ssrc = random.getrandbits(32)
        self.sent = 0
        self.first_sequence = random.getrandbits(15)
        self._first_stamp = random.getrandbits(32)

    def packet(self, captured: float, due: float, left: float) -> bytes:
        """Return the next packet."""
        number = self.sent
        self.sent += 1
        return _HEADER.pack(
            0x80, 0 if number else 0x80, (self.first_sequence + number) & 0xFFFF,
            (self._first_stamp + number * SAMPLES) & 0xFFFFFFFF, self.ssrc,
        ) + _STAMPS.pack(captured, due, left) + _FILLING

    def report(self, now: float, blocks: bytes) -> bytes:
        """Return a sender report with report blocks (§6.4.1)."""
        seconds, part = divmod(now + NTP_EPOCH, 1.0)
        words = 6 + len(blocks) // 4
        return _SENDER.pack(
            0x80 | len(blocks) // _BLOCK.size, SENDER_REPORT, words, self.ssrc, int(seconds), int(part * 2**32),
            (self._first_stamp + self.sent * SAMPLES) & 0xFFFFFFFF, self.sent, self.sent * SAMPLES) + blocks

    def description(self, name: bytes) -> bytes:
        """Return what says who it is (§6.5)."""
        item = pack("!IBB", self.ssrc, 1, len(name)) + name + b"\0"
        item += b"\0" * (-len(item) % 4)
        return pack("!BBH", 0x81, DESCRIPTION, len(item) // 4) + item

    def goodbye(self) -> bytes:
        """Return what says that it is over (§6.6)."""
        return pack("!BBHI", 0x81, GOODBYE, 1, self.ssrc)


@define
class Ear:
    """The receiver of one stream: its statistics as in RFC 3550 appendix A, and every packet's delay."""

    ssrc: int
    """Whom it listens to."""
    begins: int
    """The sequence number that the other end has begun with."""
    first: int = -1
    highest: int = -1
    """Extended sequence numbers."""
    received: int = 0
    jitter: float = 0.0
    """In seconds."""
    told_fraction: int = 0
    """What the last report block said was lost, of 256."""
    delays: "array[float]" = field(factory=lambda: array("d"), repr=False)
    numbers: "array[int]" = field(factory=lambda: array("l"), repr=False)
    _last_delay: float = 0.0
    _told_expected: int = 0
    _told_received: int = 0
    _reports: tuple[tuple[float, int], ...] = ((0.0, 0),)
    """When the last two sender reports came, and the middle of their NTP timestamps."""

    def take(self, data: bytes, delay: float) -> None:
        """Count a packet that came `delay` seconds after it was captured."""
        _, _, sequence, _, ssrc = _HEADER.unpack_from(data)
        if ssrc != self.ssrc:
            return
        number = self._extended(sequence)
        if self.received:
            # Captured at even intervals, so delays differ by what transit times differ (§6.4.1).
            self.jitter += (abs(delay - self._last_delay) - self.jitter) / 16
        self._last_delay = delay
        self.received += 1
        self.delays.append(delay)
        self.numbers.append(number - self.begins)

    def take_report(self, data: bytes, heard_at: float) -> bool:
        """Remember when a sender report came, for LSR and DLSR; tell whether the packet says that all is over."""
        place, is_over = 0, False
        while place + 8 <= len(data):
            _, kind, words = unpack_from("!BBH", data, place)
            if kind == SENDER_REPORT and len(data) >= place + 28:
                _, seconds, part = unpack_from("!III", data, place + 4)
                self._reports = (self._reports[-1], (heard_at, (seconds & 0xFFFF) << 16 | part >> 16))
            is_over = is_over or kind == GOODBYE
            place += 4 * (words + 1)
        return is_over

    def block(self, now: float) -> bytes:
        """Return a report block (§6.4.1, A.3); nothing before the first packet."""
        if not self.received:
            return b""
        expected = self.highest - self.first + 1
        lost = expected - self.received
        new = expected - self._told_expected
        new_lost = new - (self.received - self._told_received)
        self._told_expected, self._told_received = expected, self.received
        fraction = min(255, (new_lost << 8) // new) if new > 0 and new_lost > 0 else 0
        self.told_fraction = fraction
        # One that its line still holds has not come yet.
        heard_at, middle = next((each for each in reversed(self._reports) if each[0] <= now), (now, 0))
        since = round((now - heard_at) * 65536) if middle else 0
        cumulative = max(-0x800000, min(0x7FFFFF, lost)) & 0xFFFFFF
        return _BLOCK.pack(self.ssrc, fraction, cumulative >> 16, cumulative & 0xFFFF, self.highest & 0xFFFFFFFF,
                           int(self.jitter * CLOCK_RATE), middle, since)

    def heard(self, sent: int) -> Heard:
        """Return what its user had of the `sent` packets of the other end."""
        windows: list[list[float]] = [[] for _ in range(max(1, math.ceil(sent / WINDOW_PACKETS)))]
        for number, delay in zip(self.numbers, self.delays, strict=True):
            if 0 <= number < sent:
                windows[number // WINDOW_PACKETS].append(delay)
        parts = [_window(min(WINDOW_PACKETS, sent - index * WINDOW_PACKETS), delays)
                 for index, delays in enumerate(windows)]
        return Heard(
            sent, sum(part.lost for part in parts), sum(part.late for part in parts),
            _mean([(part.delay_ms, part.packets - part.lost) for part in parts]),
            _mean([(part.r, part.packets) for part in parts]))

    def _extended(self, sequence: int) -> int:
        if self.first < 0:
            self.first = self.highest = sequence
            return sequence
        number = self.highest + (sequence - self.highest + 0x8000) % 0x10000 - 0x8000
        self.highest = max(self.highest, number)
        return number


def silence_between(ear: Ear) -> float:
    """Return the longest time in which nothing of what was sent has come, in seconds."""
    gaps = [later - earlier for earlier, later in pairwise(sorted(ear.numbers))]
    return (max(gaps, default=1) - 1) * PACKET_SECONDS


def stamps_of(data: bytes) -> tuple[float, float, float]:
    """Return when a packet was captured, was to leave and left. Raises ValueError when it is none of ours."""
    if len(data) != _HEADER.size + SAMPLES:
        raise ValueError(f"{len(data)} bytes of RTP")
    captured, due, left = _STAMPS.unpack_from(data, _HEADER.size)
    return captured, due, left


def is_rtcp(data: bytes) -> bool:
    """Tell RTCP from RTP that comes over the same port (RFC 5761 §4)."""
    return len(data) >= 8 and 192 <= data[1] <= 223


def _window(sent: int, delays: list[float]) -> Heard:
    if not delays:
        return Heard(sent, sent, 0, 0.0, 0.0)
    played_at = min(delays) + PLAYOUT_SECONDS
    late = sum(delay > played_at for delay in delays)
    lost = max(0, sent - len(delays))
    delay_ms = (played_at + PACKET_SECONDS) * 1000
    return Heard(sent, lost, late, delay_ms, r_factor((lost + late) / sent, delay_ms) if sent > 0 else 0.0)


def _mean(weighted: list[tuple[float, int]]) -> float:
    weights = sum(weight for _, weight in weighted)
    return sum(value * weight for value, weight in weighted) / weights if weights else 0.0
