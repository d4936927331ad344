"""Hears reports and says how good each way between an access group and a node is believed to be."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from ipaddress import ip_address

from attrs import frozen

from balancer.quality.beliefs import PLAYOUT_JITTERS, NodeBeliefs, Reported, Way
from balancer.quality.config import QualityConfig
from balancer.quality.streams import MOST_JITTER_MS, MOST_LOSS, Call
from rollcall.media.emodel import r_factor
from rollcall.media.reports import CallFacts, CallOver, PhoneReport, Report, RtcpReport
from rollcall.media.selection import PACKET_MS, prior
from rollcall.media.snapshot import UNKNOWN, MediaNode, PathKey, Quality

SOLVE_SECONDS = 1.0
"""What is believed of a node's ways is worked out anew so often, while it has no more than VOICES_A_SECOND."""
VOICES_A_SECOND = 1000
"""With more it is worked out more rarely, so that this never takes more than a hundredth of a core per node."""
UNHEARD_SECONDS = 600.0
"""A call that nobody has reported on for so long is forgotten; it may be over."""
OVER_SECONDS = 30.0
"""A call that is over is kept for so long: some phones report only then."""
GRACE_SECONDS = 8.0
"""Silence begins after so long without a report: phones report every 5 s, give or take a half (RFC 3550 §6.2)."""
LEAST_TRUST = 0.05
"""What is believed less than this much is left to the prior."""
PHONE_REPORT_PACKETS = 500.0
"""A phone that tells figures of its own counts like 10 s of speech, however long its call was: they are of the past."""
LOSS_STEP, DELAY_STEP_MS = 0.0005, 2.0
"""Figures are published in such steps, so that what has hardly changed is not sent to everybody."""
LOWEST_CLOCK, HIGHEST_CLOCK = 8000, 192_000
IPV6_SITE = 64
"""Whoever has one IPv6 address has all that begin with the same bits."""


@frozen
class Shown:
    """A way as operators see it."""

    group: str
    node: str
    loss: float
    jitter_ms: float
    rtt_ms: float | None
    r: float
    """Of one leg."""
    weight: float
    """In phones that have reported for long, after those that are not trusted are left out."""
    phones: int
    trust: float
    """1 while it is reported on; less the longer nobody does."""


class Hearing:
    """Keeps what was reported, for as long as it is worth something."""

    def __init__(
        self, config: QualityConfig, group_of: Callable[[str], str], node_of: Callable[[str], MediaNode | None]
    ) -> None:
        self.priors: Mapping[PathKey, Quality] = {
            (each.region, each.site): Quality(each.loss, each.delay_ms) for each in config.priors}
        self.refused: dict[str, int] = {}
        """How many reports, or figures in them, did not count, by the reason in a word."""
        self.counted = 0
        """How many did."""
        self._config = config
        self._group_of = group_of
        self._node_of = node_of
        # in the order in which they were last heard
        self._calls: OrderedDict[str, Call] = OrderedDict()
        self._nodes: dict[str, NodeBeliefs] = {}
        self._voices = 0

    def heard(self, report: Report, now: float) -> None:
        """Take a report that comes now; `now` is in seconds since the epoch."""
        if isinstance(report, RtcpReport):
            self._rtcp(report, now)
        elif isinstance(report, PhoneReport):
            self._phone(report, now)
        elif isinstance(report, CallFacts):
            self._facts(report, now)
        elif isinstance(report, CallOver):
            self._over(report, now)

    def paths(self, now: float) -> dict[PathKey, Quality]:
        """Return what is believed of each way that was reported on."""
        self._catch_up(now)
        found: dict[PathKey, Quality] = {}
        for node_id, beliefs in self._nodes.items():
            for group, way in beliefs.ways.items():
                trust = self._trust(way, now)
                if trust >= LEAST_TRUST:
                    found[group, node_id] = _rounded(self._believed(group, node_id, way, trust))
        return found

    def shown(self, now: float) -> list[Shown]:
        """Return the same for operators, by access group and node."""
        self._catch_up(now)
        rows = []
        for node_id, beliefs in self._nodes.items():
            for group, way in beliefs.ways.items():
                trust = self._trust(way, now)
                quality = self._believed(group, node_id, way, trust)
                rows.append(Shown(
                    group, node_id, quality.loss, way.jitter_ms, way.rtt_ms,
                    r_factor(quality.loss, quality.delay_ms + PACKET_MS), way.weight, way.phones, trust))
        return sorted(rows, key=lambda row: (row.group, row.node))

    # --- reports

    def _rtcp(self, report: RtcpReport, now: float) -> None:
        if not self._is_timely(report.at, now):
            return self._count("time")
        node = self._node_of(report.node)
        if node is None:
            return self._count("node")
        call = self._call(report.call_id, report.node, now)
        if not call.admits(report.source, report.at):
            return self._count("sources")
        for evidence in call.heard(report, self.refused):
            other = call.streams.get(evidence.about)
            sides = self._sides(node, report.source, call, None if other is None else other.source)
            if sides is None:
                return self._count("stranger")
            self._add(report.node, now, Reported(
                report.at, _voter(report.source), *sides,
                evidence.expected, evidence.lost, evidence.jitter_ms, evidence.rtt_ms))

    def _phone(self, report: PhoneReport, now: float) -> None:
        known = self._calls.get(report.call_id)
        node = self._node_of(report.node or (known.node if known is not None else ""))
        if not self._is_timely(report.at, now):
            return self._count("time")
        if node is None:
            return self._count("node")
        if report.loss is None or not 0.0 <= report.loss + (report.discarded or 0.0) <= 1.0:
            return self._count("phone")
        loss = min(report.loss + (report.discarded or 0.0), MOST_LOSS)
        packets = PHONE_REPORT_PACKETS if report.packets is None else min(report.packets, PHONE_REPORT_PACKETS)
        jitter_ms = report.jitter_ms
        if jitter_ms is not None and not 0.0 <= jitter_ms <= MOST_JITTER_MS:
            jitter_ms = None
        call = self._call(report.call_id, node.id, now)
        # anybody may send a PUBLISH about any call: where its phones are known it has to come from one of them
        if len(call.hosts) == 2 and report.source not in call.hosts:
            return self._count("stranger")
        if not call.admits(report.source, report.at):
            return self._count("sources")
        sides = self._sides(node, report.source, call, None)
        if packets > 0 and sides is not None:
            self._add(node.id, now, Reported(
                report.at, _voter(report.source), *sides, packets, packets * loss, jitter_ms))

    def _facts(self, facts: CallFacts, now: float) -> None:
        call = self._call(facts.call_id, facts.node, now)
        call.hosts = facts.hosts[:2]
        if LOWEST_CLOCK <= facts.clock_rate <= HIGHEST_CLOCK:
            call.clock_rate = facts.clock_rate

    def _over(self, over: CallOver, now: float) -> None:
        call = self._calls.get(over.call_id)
        if call is not None:
            call.heard_at = now - UNHEARD_SECONDS + OVER_SECONDS
            self._calls.move_to_end(over.call_id, last=False)

    def _sides(self, node: MediaNode, source: str, call: Call, other: str | None) -> tuple[str, str | None] | None:
        """Return the access groups of the reporter and of the other end, as far as it is known.

        There is no other end where the node does not relay. None when the reporter is in neither side's group: calls
        are placed by the groups that signalling comes from, and nobody may speak for further ones.
        """
        near = self._group_of(source)
        if len(call.hosts) < 2:
            far = UNKNOWN if other is None else self._group_of(other)
        else:
            groups = [self._group_of(host) for host in call.hosts]
            if groups[0] == groups[1]:
                near = groups[0]
            elif near not in groups:
                return None
            far = groups[1] if groups[0] == near else groups[0]
        return near, far if node.kind == "rtpengine" else None

    def _is_timely(self, at: float, now: float) -> bool:
        return now - self._config.stale_seconds <= at <= now + self._config.ahead_seconds

    def _call(self, call_id: str, node: str, now: float) -> Call:
        """Return this call, as the one heard last; a call that has gone to another node begins anew."""
        call = self._calls.get(call_id)
        if call is None:
            call = self._calls[call_id] = Call(node, now)
            while len(self._calls) > self._config.max_calls:
                self._calls.popitem(last=False)
        elif call.node != node:
            call = self._calls[call_id] = Call(node, now, call.clock_rate, call.hosts)
        call.heard_at = now
        self._calls.move_to_end(call_id)
        return call

    def _add(self, node_id: str, now: float, reported: Reported) -> None:
        beliefs = self._nodes.get(node_id)
        if beliefs is None:
            beliefs = self._nodes[node_id] = NodeBeliefs(
                self._config.half_life_seconds, self._config.distrusted,
                lambda group: self._prior(group, node_id), now)
        if not beliefs.knows(reported):
            if self._voices >= self._config.max_voices:
                return self._count("voices")
            self._voices += 1
        self.counted += 1
        beliefs.heard(reported)
        if now - beliefs.solved_at >= max(SOLVE_SECONDS, len(beliefs) / VOICES_A_SECOND):
            self._solve(beliefs, now)

    def _count(self, why: str) -> None:
        self.refused[why] = self.refused.get(why, 0) + 1

    # --- beliefs

    def _catch_up(self, now: float) -> None:
        """Work out the ways to nodes that nobody has reported on for a while, and forget what is not needed."""
        for node_id, beliefs in list(self._nodes.items()):
            if now - beliefs.solved_at >= 2 * SOLVE_SECONDS:
                self._solve(beliefs, now)
            if not len(beliefs) or self._node_of(node_id) is None:
                self._voices -= len(beliefs)
                del self._nodes[node_id]
        while self._calls and next(iter(self._calls.values())).heard_at <= now - UNHEARD_SECONDS:
            self._calls.popitem(last=False)

    def _solve(self, beliefs: NodeBeliefs, now: float) -> None:
        before = len(beliefs)
        beliefs.solve(now)
        self._voices += len(beliefs) - before

    def _trust(self, way: Way, now: float) -> float:
        if not way.weight:
            return 0.0
        silence = max(0.0, now - way.heard_at - GRACE_SECONDS)
        return float(0.5 ** (silence / self._config.silence_half_life_seconds))

    def _believed(self, group: str, node_id: str, way: Way, trust: float) -> Quality:
        assumed = self._prior(group, node_id)
        delay_ms = assumed.delay_ms if way.rtt_ms is None else way.rtt_ms / 2
        delay_ms += PLAYOUT_JITTERS * way.jitter_ms
        return Quality(assumed.loss + trust * (way.loss - assumed.loss),
                       assumed.delay_ms + trust * (delay_ms - assumed.delay_ms))

    def _prior(self, group: str, node_id: str) -> Quality:
        node = self._node_of(node_id)
        return prior(self.priors, group, node.site if node is not None else "")


def _rounded(quality: Quality) -> Quality:
    return Quality(round(round(quality.loss / LOSS_STEP) * LOSS_STEP, 6),
                   round(quality.delay_ms / DELAY_STEP_MS) * DELAY_STEP_MS)


def _voter(source: str) -> str:
    """Return who a source address counts as."""
    if ":" not in source:
        return source
    try:
        return str(int(ip_address(source)) >> (128 - IPV6_SITE))
    except ValueError:
        return source
