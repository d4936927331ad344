"""Where somebody is registered who is not so here: asked for at the other sites, once at a time, and not too often."""

from collections import Counter
from collections.abc import Callable, Sequence

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from registrar.location.contract import Snapshot
from registrar.records import Binding, record_key
from registrar.routing import ByUri, next_hop
from registrar.sites.asking import Unanswered
from registrar.sites.link import SiteLink
from rollcall.cluster.config import ClusterConfig
from rollcall.sip.errors import ParseError

LONGEST_REMEMBERED = 256
"""Names with more bytes are not remembered: few people have one, and who calls many would have us keep them all."""


class Lookup:
    """Asks all other sites that answer."""

    _log = Logger()

    def __init__(self, links: Sequence[SiteLink], config: ClusterConfig, now: Callable[[], float]) -> None:
        self._links = links
        self._config = config
        self._now = now
        self._flights: dict[bytes, list[Deferred[Snapshot | None]]] = {}
        self._nobody: dict[bytes, float] = {}
        """Until when it is remembered that somebody is nowhere, in the order in which that was learnt."""
        self._second = 0
        self._left = 0
        self.outcomes: Counter[str] = Counter({
            "found": 0, "nobody": 0, "no_answer": 0, "remembered": 0, "not_reachable": 0, "too_many": 0})
        """What became of it."""

    @property
    def waiting(self) -> int:
        """How many addresses-of-record are asked for now."""
        return len(self._flights)

    async def lookup(self, aor: str) -> Snapshot | None:
        """Return what is bound at another site, or was lately; None when nothing is, or that cannot be learnt now.

        It takes no longer than one question may. Who asks for somebody who is asked for already gets the same answer.
        """
        key = record_key(aor)
        flight = self._flights.get(key)
        if flight is not None:
            same: Deferred[Snapshot | None] = Deferred()
            flight.append(same)
            return await same
        asked = [link for link in self._links if link.is_up]
        outcome = self._outcome_at_once(key, asked)
        if outcome:
            self.outcomes[outcome] += 1
            return None
        self._flights[key] = []
        found: Snapshot | None = None
        try:
            found = await self._ask(key, asked)
        finally:
            for waiting in self._flights.pop(key):
                waiting.callback(found)
        return found

    def _outcome_at_once(self, key: bytes, asked: Sequence[SiteLink]) -> str:
        """Say why nobody is to be asked; empty when somebody is."""
        now = self._now()
        until = self._nobody.get(key)
        if until is not None:
            if until > now:
                return "remembered"
            del self._nobody[key]
        if not asked:
            return "not_reachable"
        if int(now) != self._second:
            self._second, self._left = int(now), self._config.site_questions_per_second
        if not self._left or self.waiting >= self._config.max_site_questions:
            self._log.warn("too many questions to other sites: some of those who are called there are not found",
                           log_rationed=True)
            return "too_many"
        self._left -= 1
        return ""

    async def _ask(self, key: bytes, asked: Sequence[SiteLink]) -> Snapshot | None:
        """Ask all of them; where several know of something, what lives counts, and then what was lost last."""
        asking = [Deferred.fromCoroutine(self._found(link, key)) for link in asked]
        answers = await gatherResults(asking, consumeErrors=True)
        found = [answer for answer in answers if answer is not None]
        best = max(found, key=lambda each: (bool(each.bindings), each.lost_at), default=None)
        if best is not None and best.bindings:
            self.outcomes["found"] += 1
            return best
        self.outcomes["nobody" if len(found) == len(asked) else "no_answer"] += 1
        lost_at = best.lost_at if best is not None else 0.0
        # Who was lost a moment ago may be back at once.
        if len(found) == len(asked) and self._now() >= lost_at + self._config.reconnect_wait:
            self._remember(key)
        return best if lost_at else None

    async def _found(self, link: SiteLink, key: bytes) -> Snapshot | None:
        """Return what is bound at a site; None when it does not answer.

        What goes out by UDP has to be sent by its own node, which we have to know.
        """
        try:
            found = await link.find(key)
        except Unanswered as problem:
            self._log.debug("site {site} is not asked: {problem}", site=link.name, problem=str(problem))
            return None
        names = {node.node for node in link.nodes}
        there = tuple(each for each in found.bindings if _may_be_reached(each, names))
        return found if len(there) == len(found.bindings) else evolve(found, bindings=there)

    def _remember(self, key: bytes) -> None:
        if not self._config.site_negative_seconds or len(key) > LONGEST_REMEMBERED:
            return
        while len(self._nobody) >= self._config.max_site_negatives:
            del self._nobody[next(iter(self._nobody))]
        self._nobody[key] = self._now() + self._config.site_negative_seconds


def _may_be_reached(binding: Binding, nodes: set[str]) -> bool:
    """Say whether a binding is at one of these nodes, or needs none of them.

    One that lives on a connection counts all the same: its node may have begun a moment ago, and is heard of soon.
    """
    if binding.connection_bound or binding.source.node in nodes:
        return True
    try:
        return isinstance(next_hop(binding), ByUri)
    except ParseError:
        return False
