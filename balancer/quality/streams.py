"""What the RTCP reports of one call say, each by the difference to the one before (RFC 3550 §6.4).

Phones may be broken or lie: each figure is believed only where it is possible. What is not is told by a word, for
counting.
"""

from attrs import define, field

from rollcall.media.reports import Block, RtcpReport, Sender

MOST_STREAMS = 8
"""So many SSRCs a call may have: two phones, a few that forked or began anew."""
SOURCES_AT_ONCE, SOURCES_EVER = 2, 4
"""So many addresses may report on a call: its two phones, and two more after networks have changed. Media nodes take
RTCP from anywhere, and who forges addresses would otherwise have any number of voices in one call."""
MOST_SENT = 4
"""Of each stream the moments of so many sender reports are kept for round trips; phones answer to the last."""
LONGEST_GAP_SECONDS = 20.0
"""A difference over more time says too little about now: only a new beginning is made."""
PACKETS_PER_SECOND = 200
"""No phone sends more: packets of 5 ms."""
PACKETS_AT_ONCE = 200
"""So many more may come at once after a gap in the network."""
FIRST_PACKETS = 50
"""A first report tells a fraction of an unknown number of packets: it counts like a second of speech."""
NO_FRACTION = 255
"""Broken phones say so: it would be all that was sent, but of that no report can come."""
MOST_LOSS = 0.5
"""A way that loses more is not worse for anybody."""
MOST_JITTER_MS = 1000.0
MOST_RTT_MS = 5000.0


@define
class Evidence:
    """What one block says of the way from a stream's sender over the node to the reporter."""

    about: int
    """The stream's SSRC."""
    expected: float
    """Packets since the last report."""
    lost: float
    jitter_ms: float | None
    rtt_ms: float | None
    """Between the node and the reporter, there and back."""


@define
class _Received:
    highest: int
    lost: int
    at: float


@define
class Stream:
    """One SSRC of a call: who sends it, and what its sender reported of others."""

    source: str
    received: dict[int, _Received] = field(factory=dict)
    sent: dict[int, float] = field(factory=dict)
    """When sender reports passed the node, by the middle of their NTP timestamp."""


@define
class Call:
    """What was last reported in a call at one node."""

    node: str
    heard_at: float
    clock_rate: int = 8000
    hosts: tuple[str, ...] = ()
    streams: dict[int, Stream] = field(factory=dict)
    _sources: dict[str, float] = field(factory=dict)
    """Who has reported on it, and when last."""

    def admits(self, source: str, at: float) -> bool:
        """Say whether this address may report on the call: an old one has to be silent before it is replaced."""
        if source not in self._sources:
            speaking = sum(1 for heard_at in self._sources.values() if heard_at > at - LONGEST_GAP_SECONDS)
            if speaking >= SOURCES_AT_ONCE or len(self._sources) >= SOURCES_EVER:
                return False
        self._sources[source] = at
        return True

    def heard(self, report: RtcpReport, refused: dict[str, int]) -> list[Evidence]:
        """Return what is new; count in `refused` what cannot be."""
        stream = self.streams.get(report.ssrc)
        if stream is None:
            if len(self.streams) >= MOST_STREAMS:
                _count(refused, "streams")
                return []
            stream = self.streams[report.ssrc] = Stream(report.source)
        elif stream.source != report.source:
            # one who speaks for another, or whose address has changed: neither has a past here
            stream = self.streams[report.ssrc] = Stream(report.source)
        evidence = [self._of(block, stream, report, refused) for block in report.blocks[:MOST_STREAMS]]
        if report.sender is not None:
            _sent(stream, report.sender, report.at)
        return [each for each in evidence if each is not None]

    def _of(self, block: Block, stream: Stream, report: RtcpReport, refused: dict[str, int]) -> Evidence | None:
        before = stream.received.get(block.ssrc)
        if before is not None and report.at <= before.at:
            _count(refused, "twice")  # or in the wrong order, over UDP: the later one has it all
            return None
        if before is None and len(stream.received) >= MOST_STREAMS:
            _count(refused, "streams")
            return None
        stream.received[block.ssrc] = _Received(block.highest, block.lost, report.at)
        if before is None and block.ssrc not in self.streams and len(self.hosts) < 2:
            return None  # the other phone will be heard soon, and then we know whose way this is as well
        counted = _first(block, refused) if before is None else _difference(before, block, report.at, refused)
        if counted is None:
            return None
        return Evidence(block.ssrc, *counted, self._jitter(block, refused), self._rtt(block, report.at, refused))

    def _jitter(self, block: Block, refused: dict[str, int]) -> float | None:
        jitter_ms = 1000.0 * block.jitter / self.clock_rate
        if 0.0 <= jitter_ms <= MOST_JITTER_MS:
            return jitter_ms
        _count(refused, "jitter")
        return None

    def _rtt(self, block: Block, at: float, refused: dict[str, int]) -> float | None:
        """Return the round trip between the node and the reporter.

        The sender report that the block answers passed the node on its way there, and the block on its way back.
        """
        sender = self.streams.get(block.ssrc)
        passed_at = None if sender is None or not block.lsr else sender.sent.get(block.lsr)
        if passed_at is None:
            return None
        rtt_ms = 1000.0 * (at - passed_at - block.dlsr / 65536)
        # the phone's clock has ticks of its own: a little below 0 is 0
        if -5.0 <= rtt_ms <= MOST_RTT_MS:
            return max(0.0, rtt_ms)
        _count(refused, "rtt")
        return None


def _sent(stream: Stream, sender: Sender, at: float) -> None:
    stream.sent.pop(sender.ntp_middle, None)
    stream.sent[sender.ntp_middle] = at
    if len(stream.sent) > MOST_SENT:
        del stream.sent[next(iter(stream.sent))]


def _first(block: Block, refused: dict[str, int]) -> tuple[float, float] | None:
    if not 0 <= block.fraction < NO_FRACTION or block.lost < 0:
        _count(refused, "first")
        return None
    return FIRST_PACKETS, FIRST_PACKETS * min(block.fraction / 256, MOST_LOSS)


def _difference(before: _Received, block: Block, at: float, refused: dict[str, int]) -> tuple[float, float] | None:
    """Return how many packets were expected and lost between two reports, where that is possible."""
    seconds = at - before.at
    expected, lost = block.highest - before.highest, block.lost - before.lost
    if seconds > LONGEST_GAP_SECONDS:
        return None
    if expected <= 0:  # silence, a hold, or a stream that began anew
        if expected < 0:
            _count(refused, "backwards")
        return None
    if expected > PACKETS_PER_SECOND * seconds + PACKETS_AT_ONCE:
        _count(refused, "jump")
        return None
    # somebody has received the highest, so not all can be lost; packets that came twice or late count against lost ones
    if not -expected <= lost < expected:
        _count(refused, "lost")
        return None
    return expected, min(max(0, lost), MOST_LOSS * expected)


def _count(refused: dict[str, int], why: str) -> None:
    refused[why] = refused.get(why, 0) + 1
