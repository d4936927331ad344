"""How fit each site is for more phones, and in which order sites are told to whom. Pure: states and `now` come in.

A site leaves the answers at once when no node lives there, or nothing is heard of it. It comes after the next one while
its nodes want nobody, or hardly anything is free there and until much has been free for a while: two marks and a time,
so that answers do not go to and fro. A site that is back begins with a small share of the phones of the one that stood
in for it. When no site at all lives as far as we know, all are told: who cannot be reached by us may well be reached by
phones.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

from attrs import define, frozen

from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.preferences import Preference
from rollcall.cluster.sites import SiteState

CONNECTIONS_PER_WEIGHT = 100
"""The weight of a site is its free capacity in hundreds of connections; so there is room for 6.5 million (RFC 2782)."""

MOST_WEIGHT = 65_535

FIRST_PRIORITY, PRIORITY_STEP = 10, 10
"""Of the best sites, and from these to the next; operators can put records of their own between them."""

CHANGE = 0.1
"""A weight is told anew when it has changed by more than this part of it: a finer one would be news all the time."""

LEAST_SHARE = 0.1
"""What a site that is back begins with, of the whole; it grows in steps of as much."""

UNHEARD_SECONDS = 5.0
"""For so long after our start, a site that was not heard of yet counts as well: links to it are being made."""


class Fitness(Enum):
    """How a site is."""

    WELL = "well"
    RETURNING = "returning"
    OVERLOADED = "overloaded"
    CLOSED = "closed"
    """None of its nodes wants phones, though not for lack of room: they are drained, or not ready yet."""
    EMPTY = "empty"
    """No node lives there."""
    SILENT = "silent"
    """Nothing is heard of it: it is lost, or the link is cut, which looks the same from here."""

    @property
    def is_told(self) -> bool:
        """Whether it is in the answers."""
        return self not in (Fitness.EMPTY, Fitness.SILENT)

    @property
    def is_behind(self) -> bool:
        """Whether it comes after the next site that is not."""
        return self in (Fitness.OVERLOADED, Fitness.CLOSED)


@frozen
class Standing:
    """A site as it is told."""

    fitness: Fitness
    weight: int
    """What is free there, see CONNECTIONS_PER_WEIGHT."""
    share: float = 1.0
    """While it returns: which part of its phones it gets."""


@frozen
class Offer:
    """A site in an answer (RFC 2782)."""

    site: str
    priority: int
    weight: int


@define
class _Known:
    """What is remembered of a site from one look to the next."""

    standing: Standing
    back_at: float | None = None
    roomy_since: float | None = None


class Judging:
    """Judges sites, each time by what it remembers of the last."""

    def __init__(self, config: DnsConfig, places: Sequence[str], capacity: int, now: float) -> None:
        """`capacity` is that of a node that does not say what it carries."""
        self._config = config
        self._capacity = capacity
        self._started_at = now
        well = Standing(Fitness.WELL, _weight(capacity))
        self._known = {place: _Known(well) for place in places}

    def look(self, states: Mapping[str, SiteState], now: float) -> dict[str, Standing]:
        """Return how each place stands; all are well where nothing is known of sites, for there are none."""
        for place, known in self._known.items():
            if states:
                known.standing = self._standing(states.get(place), known, now)
        return {place: known.standing for place, known in self._known.items()}

    def _standing(self, state: SiteState | None, known: _Known, now: float) -> Standing:
        if state is None or not state.heard_at:
            # also when the clock has been put back
            is_new = 0 <= now - self._started_at < UNHEARD_SECONDS
            return known.standing if is_new else Standing(Fitness.SILENT, 0)
        if not state.nodes:
            return Standing(Fitness.EMPTY, 0)
        if not state.reachable:
            return Standing(Fitness.SILENT, 0)
        if not known.standing.fitness.is_told:
            known.back_at = now
        return self._of_living(state, known, now)

    def _of_living(self, state: SiteState, known: _Known, now: float) -> Standing:
        capacities = [node.capacity or self._capacity for node in state.nodes]
        whole = sum(capacities)
        free = sum(capacity * node.weight / 100 for capacity, node in zip(capacities, state.nodes, strict=True))
        weight = _steady(_weight(free), known.standing.weight)
        share = self._share(known, now)
        if not free and sum(node.connections for node in state.nodes) < whole * (1 - self._config.overloaded_below):
            return Standing(Fitness.CLOSED, weight, share)
        if self._is_overloaded(known, free / whole, now):
            return Standing(Fitness.OVERLOADED, weight, share)
        return Standing(Fitness.WELL if share >= 1.0 else Fitness.RETURNING, weight, share)

    def _share(self, known: _Known, now: float) -> float:
        if known.back_at is None:
            return 1.0
        passed = now - known.back_at
        if passed >= self._config.return_seconds:
            known.back_at = None
            return 1.0
        # also when the clock has been put back
        steps = max(1, int(passed / self._config.return_seconds / LEAST_SHARE) + 1)
        return min(1.0, steps * LEAST_SHARE)

    def _is_overloaded(self, known: _Known, free: float, now: float) -> bool:
        """Say whether it comes after others: `free` is a part of its capacity."""
        config = self._config
        if known.standing.fitness is not Fitness.OVERLOADED:
            known.roomy_since = None
            return free < config.overloaded_below
        if free < config.recovered_above:
            known.roomy_since = None
            return True
        if known.roomy_since is None or known.roomy_since > now:
            known.roomy_since = now
        return now - known.roomy_since < config.hold_seconds


def are_all_well(standings: Iterable[Standing]) -> bool:
    """Say whether nothing is about to change, as far as one can know."""
    return all(standing.fitness is Fitness.WELL for standing in standings)


def is_any_told(standings: Iterable[Standing]) -> bool:
    """Say whether any site is fit to be told; else all are."""
    return any(standing.fitness.is_told for standing in standings)


def offers(preference: Preference, standings: Mapping[str, Standing]) -> tuple[Offer, ...]:
    """Return the sites for who has this list, the best first, with priority and weight; never none."""
    if not is_any_told(standings.values()):
        standings = {place: Standing(Fitness.WELL, 1) for place in standings}
    told: list[Offer] = []
    for number, rank in enumerate(_ranks(preference, standings)):
        priority = FIRST_PRIORITY + number * PRIORITY_STEP
        told += [Offer(place, priority, weight) for place, weight in rank.items()]
    return tuple(told)


def _ranks(preference: Preference, standings: Mapping[str, Standing]) -> list[dict[str, int]]:
    """Return the weights of the sites at each place of the list."""
    ranks: list[dict[str, int]] = []
    waiting: list[dict[str, int]] = []
    returning: dict[str, Standing] = {}
    stands_in = any(standing.fitness is Fitness.WELL for standing in standings.values())
    for rank in preference:
        living = {place: standings[place] for place in rank if standings[place].fitness.is_told}
        fit = {place: each for place, each in living.items() if not each.fitness.is_behind}
        if behind := {place: each.weight for place, each in living.items() if place not in fit}:
            waiting.append(behind)
        if stands_in and fit and all(each.fitness is Fitness.RETURNING for each in fit.values()):
            returning |= fit
        elif fit:
            ranks += [_beside(returning, fit), *waiting]
            returning, waiting = {}, []
    last = [_beside(returning, {})] if returning else []
    return ranks + last + waiting


def _beside(returning: Mapping[str, Standing], others: Mapping[str, Standing]) -> dict[str, int]:
    """Return the weights of sites that return and of those that have stood in for them, in one rank.

    Together they have what they will have: the former their growing share of it, the latter the rest.
    """
    back = {place: each.weight * (each.share if others else 1.0) for place, each in returning.items()}
    rest = {place: each.weight * each.share for place, each in others.items()}
    if back and rest:
        left = sum(each.weight * (1.0 - each.share) for each in returning.values())
        whole = sum(rest.values()) or 1.0
        rest = {place: left * weight / whole for place, weight in rest.items()}
    return {place: max(1, min(MOST_WEIGHT, round(weight))) for place, weight in (back | rest).items()}


def _steady(weight: int, told: int) -> int:
    """Return the weight, or the one that is told already when it is about the same."""
    return told if told and abs(weight - told) <= told * CHANGE else weight


def _weight(connections: float) -> int:
    return max(1, min(MOST_WEIGHT, round(connections / CONNECTIONS_PER_WEIGHT)))
