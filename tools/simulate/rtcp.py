"""What phones say: RTCP of running calls, as a media node tells it of (RFC 3550 §6.4), true or not.

A phone sends a sender report with a block on what it received. The node relays RTCP unchanged, so that a block is about
both legs: from the speaker to the node and from the node to the listener. RTCP is lost as RTP is.
"""

from collections.abc import Callable
from random import Random

from attrs import define, field

from rollcall.media.reports import Block, RtcpReport, Sender
from tools.simulate.control import EPOCH
from tools.simulate.demand import Call, Habit, Phone
from tools.simulate.running import Stage
from tools.simulate.truth import heard

INTERVAL_SECONDS = 5.0
PACKETS_PER_SECOND = 50.0
CLOCK_RATE = 8000
NTP_OFFSET = 2_208_988_800.0
"""NTP counts from 1900."""
DELIVERY_SECONDS = 0.02
"""From the node to the balancer."""

Hear = Callable[[float, RtcpReport], None]


@define(eq=False)
class _Stream:
    """What one phone of a call sends, and what is known of it where it is received."""

    phone: Phone
    ssrc: int
    first_sequence: int
    sent: float = 0.0
    """Packets so far."""
    lost: int = 0
    """Of those that were reported on."""
    reported: float = 0.0
    """Packets that the last report was about."""
    report_sent_at: float | None = None
    report_arrived_at: float = 0.0
    """Of its last sender report that reached the other phone."""


@define(eq=False)
class _Talk:
    """A call that is going on."""

    call: Call
    node: str
    begun_at: float
    streams: tuple[_Stream, _Stream]
    is_over: bool = field(default=False)


class Phones:
    """All phones that are in calls. What nodes have received goes to `hear`."""

    def __init__(self, stage: Stage, hear: Hear) -> None:
        self._stage = stage
        self._hear = hear
        self._random = Random(f"{stage.random.random()} phones")
        self._talks: dict[str, _Talk] = {}

    def placed(self, call: Call, node: str, now: float) -> None:
        """A call begins."""
        random = self._random
        streams = tuple(_Stream(phone, random.getrandbits(32), random.getrandbits(15))
                        for phone in (call.caller, call.callee))
        talk = self._talks[call.id] = _Talk(call, node, now, (streams[0], streams[1]))
        for own in (0, 1):
            if streams[own].phone.habit is not Habit.SILENT:
                self._later(now, talk, own)

    def ended(self, call: Call) -> None:
        """It is over."""
        self._talks.pop(call.id).is_over = True

    def _later(self, now: float, talk: _Talk, own: int) -> None:
        wait = INTERVAL_SECONDS * self._random.uniform(0.5, 1.5)
        self._stage.later(now + wait, self._report, talk, own)

    def _report(self, now: float, talk: _Talk, own: int) -> None:
        """Send a report of the phone at one end (RFC 3550 §6.3.1 for when)."""
        if talk.is_over:
            return
        epoch, random = self._stage.world.at(now), self._random
        ours, theirs = talk.streams[own], talk.streams[1 - own]
        way, far = epoch.ways[ours.phone.group, talk.node], epoch.ways[theirs.phone.group, talk.node]
        ours.sent = (now - talk.begun_at) * PACKETS_PER_SECOND
        block = self._block(now, talk, ours, theirs)
        if random.random() >= way.up:
            passed = now + (way.delay_ms + epoch.sick[talk.node].delay_ms) / 1000
            self._tell(passed, talk, ours, block, now)
            if random.random() >= far.down:
                ours.report_sent_at, ours.report_arrived_at = now, passed + far.delay_ms / 1000
        self._later(now, talk, own)

    def _block(self, now: float, talk: _Talk, ours: _Stream, theirs: _Stream) -> Block:
        """Return what our phone says of the other's stream since it last said something."""
        epoch, random = self._stage.world.at(now), self._random
        got = heard(epoch, theirs.phone.group, ours.phone.group, talk.node, self._stage.load(talk.node))
        sent = (now - talk.begun_at) * PACKETS_PER_SECOND
        packets = max(int(sent) - int(theirs.reported), 1)
        lost = _drawn(random, packets, got.loss)
        jitter = int(got.jitter_ms * random.uniform(0.7, 1.3) * CLOCK_RATE / 1000)
        lost, jitter = _said(ours.phone.habit, random, packets, lost, jitter)
        theirs.lost, theirs.reported = theirs.lost + lost, sent
        lsr, dlsr = 0, 0
        if theirs.report_sent_at is not None and theirs.report_arrived_at <= now:
            lsr = _ntp_middle(theirs.report_sent_at)
            dlsr = int((now - theirs.report_arrived_at) * 65536)
        return Block(ssrc=theirs.ssrc, fraction=min(max(256 * lost // packets, 0), 255), lost=theirs.lost,
                     highest=theirs.first_sequence + int(sent), jitter=jitter, lsr=lsr, dlsr=dlsr)

    def _tell(self, passed: float, talk: _Talk, ours: _Stream, block: Block, now: float) -> None:
        sender = Sender(ntp_middle=_ntp_middle(now), rtp=int(ours.sent) * 160, packets=int(ours.sent),
                        octets=int(ours.sent) * 160)
        report = RtcpReport(at=EPOCH + passed, node=talk.node, source=ours.phone.address, call_id=talk.call.id,
                            ssrc=ours.ssrc, sender=sender, blocks=(block,))
        arrives = passed + DELIVERY_SECONDS
        for node, begins, ends in self._stage.world.late:
            if node == talk.node and begins <= arrives < ends:
                arrives = ends
        self._stage.later(arrives, self._hear, report)


def _drawn(random: Random, packets: int, loss: float) -> int:
    """Return how many of them are lost. Losses come in bursts: an interval may be better or worse than the way is."""
    mean = packets * min(loss * random.uniform(0.5, 1.5), 1.0)
    return min(max(round(random.gauss(mean, mean ** 0.5)), 0), packets)


def _said(habit: Habit, random: Random, packets: int, lost: int, jitter: int) -> tuple[int, int]:
    """Return what a phone says that it has lost, and its jitter."""
    if habit is Habit.BAD:
        return int(packets * random.uniform(0.3, 0.9)), 1600
    if habit is Habit.GOOD:
        return 0, 0
    if habit is Habit.NONSENSE:
        return random.randint(-packets, 3 * packets), random.getrandbits(24)
    return lost, jitter


def _ntp_middle(at: float) -> int:
    return int((EPOCH + at + NTP_OFFSET) * 65536) & 0xFFFFFFFF
