"""The rule with parts of it left out, to see what each is worth."""

from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import frozen

from rollcall.media.emodel import r_factor
from rollcall.media.selection import PACKET_MS, Board, Chosen, NoNode, Placements, Random, Reason, Wanted, prior
from rollcall.media.snapshot import MediaNode, Quality, Snapshot


class Chooser(Protocol):
    """A snapshot made ready for choosing, such as rollcall.media.selection.Board."""

    def choose(self, wanted: Wanted, placements: Placements, random: Random) -> Chosen | NoNode:
        """Return the node for a call."""
        ...


@frozen
class Candidate:
    """A node within the margin, with its load u."""

    node: MediaNode
    load: float
    r: float


Pick = Callable[[Sequence[Candidate], Random], Candidate]


def any_of_them(candidates: Sequence[Candidate], random: Random) -> Candidate:
    """Return one at random."""
    return candidates[int(random() * len(candidates))]


def less_loaded_of_two(candidates: Sequence[Candidate], random: Random) -> Candidate:
    """Return the less loaded of two different ones at random: what the rule does."""
    first = any_of_them(candidates, random)
    others = [candidate for candidate in candidates if candidate is not first]
    return min(first, any_of_them(others, random), key=_load) if others else first


def least_loaded(candidates: Sequence[Candidate], random: Random) -> Candidate:
    """Return the least loaded of all."""
    return min(candidates, key=_load)


class PlainBoard:
    """The rule written down once more, without anything kept, and with the last step for the caller to say."""

    def __init__(self, snapshot: Snapshot, pick: Pick = less_loaded_of_two) -> None:
        self._snapshot = snapshot
        self._pick = pick

    def choose(self, wanted: Wanted, placements: Placements, random: Random) -> Chosen | NoNode:
        """Return the node for a call. States and node groups of nodes are not looked at: a world has one of each."""
        rule = self._snapshot.rule
        scored: list[tuple[float, Candidate]] = []
        for node in self._snapshot.nodes.values():
            load = (node.sessions + placements.count(node.id)) / node.capacity
            if node.id not in wanted.without and load < 1.0:
                r = self._rating(wanted, node)
                penalty = rule.load_penalty * max(0.0, load - rule.free_load) / (1.0 - rule.free_load)
                scored.append((r - penalty, Candidate(node, load, r)))
        if not scored:
            return NoNode(Reason.FULL)
        least = max(score for score, _ in scored) - rule.margin_r
        chosen = self._pick([candidate for score, candidate in scored if score >= least], random)
        return Chosen(chosen.node, chosen.r)

    def _rating(self, wanted: Wanted, node: MediaNode) -> float:
        legs = [self._believed(side, node) for side in wanted.sides]
        arrives = 1.0
        for leg in legs:
            arrives *= 1.0 - leg.loss
        return r_factor(1.0 - arrives, PACKET_MS + sum(leg.delay_ms for leg in legs))

    def _believed(self, side: str, node: MediaNode) -> Quality:
        return self._snapshot.paths.get((side, node.id)) or prior(self._snapshot.priors, side, node.site)


def board_with(pick: Pick) -> Callable[[Snapshot], Chooser]:
    """Return what makes boards whose last step is `pick`."""
    return lambda snapshot: PlainBoard(snapshot, pick)


RULE: Callable[[Snapshot], Chooser] = Board
"""What registrars use."""


def _load(candidate: Candidate) -> float:
    return candidate.load
