"""What is believed of the ways to one node, from what phones report (docs/balancer.md, "What reports are worth").

A report is about two ways at once: a node relays RTCP as it comes, so what a phone has lost may have been lost before
the node or behind it. Each loss is divided among both ways in proportion to what is believed of them, and what is
believed follows from that, again and again: expectation and maximisation (Dempster, Laird and Rubin 1977). A way whose
calls lose whoever is at the other end gets the blame of all; one that loses only together with it is cleared.

Reports are forgotten by half-lives. A sum that halves every H seconds is kept without touching it, by counting what
comes later more (forward decay, Cormode et al. 2009): a report of moment t weighs 2^(t/H).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from attrs import define

from rollcall.media.snapshot import Quality

ROUNDS = 3
"""So many times blame is divided at a time, at most; it goes on from where it was."""
PHONE_PACKETS = 1000.0
"""No phone weighs more in a way than this: 20 s of speech, or half a call that has lasted long."""
DELAYS_SECONDS = 4.0
"""Delay and jitter, which change R little and slowly, are worked out less often than loss."""
FORGOTTEN_PACKETS = 20.0
"""A phone of which so little is left is forgotten."""
PRIOR_PACKETS = 1000.0
"""A prior weighs like one phone."""
DISTRUSTED_SHARE = 0.1
"""At least so many of a way's phones are left out at the upper end, where there are more of them than distrusted."""
PHONES_PER_LIAR = 3
"""Among so few phones one is distrusted; for each further one there have to be as many more."""
LEAST_LOSS = 0.0005
"""Nobody is believed to lose less than this when blame is divided: who never gets blame could never be guilty."""
LEAST_JITTER_MS = 0.5
PLAYOUT_JITTERS = 2.0
"""A receiver waits for so many times the mean jitter before it plays a packet."""
AGES = 30.0
"""After so many half-lives the sums are brought down again, so that they do not overflow."""

Said: TypeAlias = dict[str, list[float]]
"""What is said of one way: by source, [packets, amount lost or jittered]."""


@define
class Voice:
    """What one phone reported on the way between it and one far end; sums in forward decay."""

    source: str
    near: str
    """Its own access group."""
    far: str | None
    """That of the other end; None where the node does not relay: then there is no other way."""
    expected: float = 0.0
    lost: float = 0.0
    jitter: float = 0.0
    """Of all packets, in ms."""
    rtt: float = 0.0
    rtt_weight: float = 0.0


@define
class Way:
    """What is believed of one way: from an access group to the node."""

    loss: float
    jitter_ms: float
    rtt_ms: float | None = None
    phones: int = 0
    weight: float = 0.0
    """In phones that have reported for long."""
    heard_at: float = 0.0


@define
class Reported:
    """One report, as it goes into a voice."""

    at: float
    source: str
    near: str
    far: str | None
    expected: float
    lost: float
    jitter_ms: float | None = None
    rtt_ms: float | None = None


class NodeBeliefs:
    """The ways to one node."""

    def __init__(self, half_life: float, distrusted: int, prior: Callable[[str], Quality], now: float) -> None:
        self.ways: dict[str, Way] = {}
        """By access group."""
        self.solved_at = now
        self._half_life = half_life
        self._distrusted = distrusted
        self._prior = prior
        self._voices: dict[tuple[str, str, str | None], Voice] = {}
        self._began_at = now
        self._delays_solved_at = 0.0

    def __len__(self) -> int:
        return len(self._voices)

    def knows(self, reported: Reported) -> bool:
        """Say whether this phone has a voice here already."""
        return (reported.source, reported.near, reported.far) in self._voices

    def heard(self, reported: Reported) -> None:
        """Add a report to what its phone has said."""
        key = (reported.source, reported.near, reported.far)
        voice = self._voices.get(key)
        if voice is None:
            voice = self._voices[key] = Voice(*key)
        weight = self._weight(reported.at)
        voice.expected += weight * reported.expected
        voice.lost += weight * reported.lost
        if reported.jitter_ms is not None:
            voice.jitter += weight * reported.expected * reported.jitter_ms
        if reported.rtt_ms is not None:
            voice.rtt += weight * reported.rtt_ms
            voice.rtt_weight += weight
        for group in (reported.near,) if reported.far is None else (reported.near, reported.far):
            way = self.ways.get(group)
            if way is None:
                prior = self._prior(group)
                way = self.ways[group] = Way(max(prior.loss, LEAST_LOSS), LEAST_JITTER_MS)
            way.heard_at = max(way.heard_at, reported.at)

    def solve(self, now: float) -> None:
        """Work out anew what is believed of each way."""
        self.solved_at = now
        scale = 1.0 / self._weight(now)
        self._forget(scale)
        voices = [(voice, min(voice.expected * scale, PHONE_PACKETS)) for voice in self._voices.values()]
        for _ in range(ROUNDS):
            if not self._divide_loss(voices):
                break
        if now - self._delays_solved_at >= DELAYS_SECONDS:
            self._delays_solved_at = now
            self._divide_jitter(voices)
            self._round_trips()
        if now - self._began_at > AGES * self._half_life:
            self._begin_anew(now, scale)

    def _weight(self, at: float) -> float:
        return float(2.0 ** ((at - self._began_at) / self._half_life))

    def _forget(self, scale: float) -> None:
        """Drop phones of which little is left, and ways that nobody speaks of any more."""
        gone = [key for key, voice in self._voices.items() if voice.expected * scale < FORGOTTEN_PACKETS]
        for key in gone:
            del self._voices[key]
        if gone:
            spoken = {group for _, near, far in self._voices for group in (near, far)}
            for group in [group for group in self.ways if group not in spoken]:
                del self.ways[group]

    def _begin_anew(self, now: float, scale: float) -> None:
        for voice in self._voices.values():
            voice.expected *= scale
            voice.lost *= scale
            voice.jitter *= scale
            voice.rtt *= scale
            voice.rtt_weight *= scale
        self._began_at = now

    def _divide_loss(self, voices: Sequence[tuple[Voice, float]]) -> bool:
        """Say whether that has changed anything."""
        beliefs = {group: max(way.loss, LEAST_LOSS) for group, way in self.ways.items()}
        divided = _divided(((voice, packets, voice.lost / voice.expected) for voice, packets in voices), beliefs)
        changed = False
        for group, way in self.ways.items():
            trusted = self._trusted(divided[group])
            way.phones = len(divided[group])
            way.weight = sum(packets for _, packets in trusted) / PHONE_PACKETS
            loss = _shrunk(trusted, self._prior(group).loss)
            changed = changed or abs(loss - way.loss) > LEAST_LOSS
            way.loss = loss
        return changed

    def _divide_jitter(self, voices: Sequence[tuple[Voice, float]]) -> None:
        beliefs = {group: max(way.jitter_ms, LEAST_JITTER_MS) for group, way in self.ways.items()}
        divided = _divided(((voice, packets, voice.jitter / voice.expected) for voice, packets in voices), beliefs)
        for group, way in self.ways.items():
            way.jitter_ms = _shrunk(self._trusted(divided[group]), 0.0)

    def _round_trips(self) -> None:
        """Round trips are of one way alone; the lower middle one of those that are trusted counts."""
        measured: dict[str, Said] = {group: {} for group in self.ways}
        for voice in self._voices.values():
            if voice.rtt_weight > 0.0:
                measured[voice.near][voice.source] = [1.0, voice.rtt / voice.rtt_weight]
        for group, way in self.ways.items():
            trusted = self._trusted(measured[group])
            way.rtt_ms = trusted[(len(trusted) - 1) // 2][0] if trusted else None

    def _trusted(self, said: Said) -> list[tuple[float, float]]:
        """Return (amount per packet, packets) of all phones, the smallest amount first.

        Whoever has spoken on several calls, or for both ways, still is one phone. Those that are not trusted count as
        if they had said what the worst that is trusted says; where nobody is, nobody has said anything.
        """
        rows = sorted([(amount / packets, min(packets, PHONE_PACKETS)) for packets, amount in said.values()])
        few = min(self._distrusted, max(1, len(rows) // PHONES_PER_LIAR))
        trusted = len(rows) - (max(few, int(DISTRUSTED_SHARE * len(rows))) if self._distrusted else 0)
        if trusted <= 0:
            return []
        worst = rows[trusted - 1][0]
        return rows[:trusted] + [(worst, packets) for _, packets in rows[trusted:]]


def _divided(said: Iterable[tuple[Voice, float, float]], beliefs: dict[str, float]) -> dict[str, Said]:
    """Return what each phone blames each way for, by access group."""
    ways: dict[str, Said] = {group: {} for group in beliefs}
    for voice, packets, rate in said:
        near, far, amount = voice.near, voice.far, packets * rate
        if far is None:
            _add(ways[near], voice.source, packets, amount)
        elif far == near:  # there and back again: the same way twice
            _add(ways[near], voice.source, 2.0 * packets, amount)
        else:
            ours = amount * beliefs[near] / (beliefs[near] + beliefs[far])
            _add(ways[near], voice.source, packets, ours)
            _add(ways[far], voice.source, packets, amount - ours)
    return ways


def _add(said: Said, source: str, packets: float, amount: float) -> None:
    before = said.get(source)
    if before is None:
        said[source] = [packets, amount]
    else:
        before[0] += packets
        before[1] += amount


def _shrunk(trusted: Iterable[tuple[float, float]], prior: float) -> float:
    """Return the mean of what is trusted, drawn towards the prior as if one more phone had said that."""
    amount, packets = PRIOR_PACKETS * prior, PRIOR_PACKETS
    for rate, weight in trusted:
        packets += weight
        amount += weight * rate
    return amount / packets
