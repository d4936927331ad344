"""Has long-lived connections move to a node that has joined: whoever has more than its share closes some, at a pace.

A phone hears the end of its connection at once and comes back, and whoever spreads phones (DNS, LVS, HAProxy) leads it
to where there is room; calls go on meanwhile, as they do when a node is drained. Closed first are connections of phones
that have a second one (RFC 5626), then those on which the phone has been registered longest; never those on which
somebody waits for an answer, nor those of trunks.

Phones must not go round in circles. So nothing is closed before all has been quiet for a while, nor a phone that was
closed here, or has come here, less than an hour ago; and a node whose phones come back to it, because nobody spreads
them, or stay away, gives it up.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from enum import Enum
from typing import Any, Protocol

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.bound import keys_on
from registrar.distribution.candidates import Candidate, Candidates, Place, place_of
from registrar.distribution.surplus import hindrance, surplus
from registrar.draining import LOOK_SECONDS, Pace
from registrar.location.at_once import Location
from registrar.location.contract import LocationUnavailable
from registrar.records import aor_of_key
from rollcall.cluster.nodes import Node
from rollcall.net.flow import Flow
from rollcall.net.wheel import Timer, TimerWheel
from rollcall.ops.allowed import above, at_least, between

CHECK_SECONDS = 1.0
"""How often it is seen whether there is a surplus: leases are renewed about as often."""

READ_AT_ONCE = 250
"""Records that are read at each look while connections are chosen: about 5 ms of work."""

CHOOSE_AGAIN_SECONDS = 60.0
"""How soon connections are chosen again when none, or too few, might be closed."""

MOST_REMEMBERED = 100_000
"""Phones that were closed: so many are remembered, which at the default pace are those of nearly three hours."""

ENOUGH_KNOWN = 20
MOST_IN_VAIN = 0.75
"""When of at least 20 of the phones closed last more than three quarters are back here, or nowhere, nobody spreads
them. Where two nodes take turns half of them come back by chance."""

REMEMBERED = 50
"""So many of the phones closed last are looked at for that."""

REASON = "other nodes have more room"


@frozen(kw_only=True)
class RebalanceConfig:
    """[rebalance]: moving connections from nodes that have too many to those that have too few."""

    enabled: bool = False
    """Whether surplus connections are closed: only where phones come back by DNS or a director, not to one node."""

    flows_per_second: float = field(default=10.0, validator=above(0))
    """How many a node, each worker of it, closes in a second."""

    tolerance: float = field(default=0.1, validator=between(0.01, 1.0))
    """A node that has more than its share by this part of it gives away what it has too much."""

    settle_seconds: float = field(default=30.0, validator=at_least(1.0))
    """Nothing is closed until no node has come or gone for so long: the phones of a dead one are on their way."""

    again_seconds: float = field(default=3600.0, validator=at_least(0))
    """A phone that was closed, or has come, less than so long ago is left where it is."""

    back_seconds: float = field(default=20.0, validator=at_least(0.1))
    """After so long it is seen where a phone that was closed has gone."""


class Connected(Protocol):
    """Who has the connections."""

    def flows(self) -> Sequence[Flow]:
        """Return all connections of phones."""


class Cluster(Protocol):
    """Who knows the nodes."""

    @property
    def problem(self) -> str | None:
        """Why others may believe that this node is dead."""

    @property
    def is_member(self) -> bool:
        """Whether this life has had its lease."""

    def nodes(self) -> tuple[Node, ...]:
        """Return all that live, ourselves too."""


@frozen(kw_only=True)
class Around:
    """What a node that moves connections stands on."""

    wheel: TimerWheel
    transports: Connected
    location: Location
    waited_on: Callable[[], Set[Flow]]
    """Gives the connections on which somebody waits for an answer."""
    cluster: Cluster
    redis_problem: Callable[[], str | None]
    """Says why Redis cannot be asked; what leases say is old then."""
    node: str
    epoch: int
    site: str
    now: Callable[[], float]


class Stage(Enum):
    """What is being done."""

    WATCHING = "watching"
    CHOOSING = "choosing"
    CLOSING = "closing"
    STOPPED = "stopped"
    """Phones did not go to others; it is tried again when a node has come or gone."""


@define(eq=False)
class _Closed:
    """A phone that was closed, until it is seen where it has gone."""

    due_at: float
    key: bytes
    places: frozenset[Place]
    """Where it was bound then."""


class Rebalancing:
    """The part of one node in it. Every time is in seconds since the epoch."""

    _log = Logger()

    def __init__(self, around: Around, config: RebalanceConfig) -> None:
        self.stage = Stage.WATCHING
        self.surplus = 0
        """Connections that are too many now, as far as any may be moved; for metrics."""
        self.closed = self.returned = 0
        """Connections closed since the start, and phones of them that came back to this node."""
        self._around = around
        self._config = config
        self._pace = Pace(config.flows_per_second)
        self._lives: frozenset[tuple[str, int, bool]] = frozenset()
        self._changed_at = around.now()
        self._choose_at = 0.0
        self._unread: Iterator[Flow] = iter(())
        self._candidates = Candidates(around.location, around.node, around.epoch)
        self._chosen: list[Candidate] = []
        self._closed_at: dict[int, float] = {}
        self._on_their_way: deque[_Closed] = deque()
        self._in_vain: deque[bool] = deque(maxlen=REMEMBERED)
        self._closed_in_this = 0
        self._next_look: Timer | None = None

    def start(self) -> None:
        """Begin to look, unless it is not wanted."""
        if self._config.enabled and self._next_look is None:
            self._changed_at = self._around.now()
            self._look()

    def stop(self) -> None:
        """Close nothing any more."""
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None

    @property
    def is_closing(self) -> bool:
        """Whether connections are being closed, so that phones had better go elsewhere."""
        return self.stage is Stage.CLOSING

    # --- looking

    def _look(self) -> None:
        is_busy = self.stage in (Stage.CHOOSING, Stage.CLOSING)
        self._next_look = self._around.wheel.call_later(LOOK_SECONDS if is_busy else CHECK_SECONDS, self._look)
        now = self._around.now()
        nodes = self._nodes(now)
        self._see_where(now)
        why = self._hindrance(nodes, now)
        self.surplus = 0 if why else surplus(
            nodes, self._around.node, self._config.tolerance, self.stage is not Stage.WATCHING)
        if self.stage in (Stage.CHOOSING, Stage.CLOSING) and not self.surplus:
            self._end(why or "all nodes have their share")
        elif self.stage is Stage.WATCHING and self.surplus and now >= self._choose_at:
            self._begin(now)
        elif self.stage is Stage.CHOOSING:
            self._choose(now)
        elif self.stage is Stage.CLOSING:
            self._close_some(now)

    def _nodes(self, now: float) -> list[Node]:
        """Return the nodes of this site, and take note when one has come or gone; a drained one is as good as gone."""
        nodes = [node for node in self._around.cluster.nodes() if node.site == self._around.site]
        lives = frozenset((node.node, node.epoch, node.draining) for node in nodes)
        if lives != self._lives:
            self._lives, self._changed_at, self._choose_at = lives, now, now
            if self.stage is Stage.STOPPED:
                self.stage = Stage.WATCHING
                self._in_vain.clear()
        return nodes

    def _hindrance(self, nodes: Sequence[Node], now: float) -> str | None:
        cluster = self._around.cluster
        if self.stage is Stage.STOPPED:
            return "phones do not go to other nodes"
        if not cluster.is_member or cluster.problem is not None or self._around.redis_problem() is not None:
            return "Redis is away"
        if now < self._changed_at + self._config.settle_seconds:
            return "a node has come or gone"
        return hindrance(nodes)

    def _begin(self, now: float) -> None:
        self.stage = Stage.CHOOSING
        self._closed_in_this = 0
        self._unread, self._chosen = iter(tuple(self._around.transports.flows())), []
        while self._closed_at and next(iter(self._closed_at.values())) <= now - self._config.again_seconds:
            del self._closed_at[next(iter(self._closed_at))]

    def _end(self, why: str) -> None:
        was_closing = self.stage is Stage.CLOSING
        self.stage, self._unread, self._chosen = Stage.WATCHING, iter(()), []
        if was_closing:
            self._log.info("{closed} connections were closed to move to other nodes: {why}",
                           closed=self._closed_in_this, why=why)

    # --- choosing

    def _choose(self, now: float) -> None:
        before = now - self._config.again_seconds
        for _ in range(READ_AT_ONCE):
            flow = next(self._unread, None)
            if flow is None:
                self._have_chosen(now)
                return
            found = self._candidates.of(flow, before, self._was_closed)
            if found is not None:
                self._chosen.append(found)

    def _have_chosen(self, now: float) -> None:
        if not self._chosen:
            self._log.debug("{surplus} connections are more than this node's share, none may be closed yet",
                            surplus=self.surplus)
            self.stage, self._choose_at = Stage.WATCHING, now + CHOOSE_AGAIN_SECONDS
            return
        self._log.info("{surplus} connections are more than this node's share: {pace} are closed in a second",
                       surplus=self.surplus, pace=self._config.flows_per_second)
        # The last one is taken first.
        self._chosen.sort(key=lambda each: each.rank, reverse=True)
        self._pace.begin(now)
        self.stage = Stage.CLOSING

    # --- closing

    def _close_some(self, now: float) -> None:
        allowed = min(self._pace.look(now), self.surplus)
        waited_on = self._around.waited_on() if allowed else frozenset()
        while allowed and self._chosen:
            each = self._chosen.pop()
            is_idle = each.flow.is_open and not each.flow.holds and each.flow not in waited_on
            # The other connection of a phone that was closed just now stays, too.
            if is_idle and not self._was_closed(each.key) and not each.flow.has_unread():
                self._close(each, now)
                allowed -= 1
        if not self._chosen:
            self._choose_at = now + CHOOSE_AGAIN_SECONDS
            self._end("no further one may be closed yet")

    def _was_closed(self, key: bytes) -> bool:
        return hash(key) in self._closed_at

    def _close(self, each: Candidate, now: float) -> None:
        due_at = now + self._config.back_seconds
        self._on_their_way.append(_Closed(due_at, each.key, self._candidates.places(each.key)))
        for key in keys_on(each.flow):
            self._closed_at.pop(hash(key), None)
            self._closed_at[hash(key)] = now
        while len(self._closed_at) > MOST_REMEMBERED:
            del self._closed_at[next(iter(self._closed_at))]
        each.flow.close(REASON)
        self.closed += 1
        self._closed_in_this += 1
        self._pace.done(now)

    # --- where they have gone

    def _see_where(self, now: float) -> None:
        while self._on_their_way and self._on_their_way[0].due_at <= now:
            Deferred.fromCoroutine(self._look_for(self._on_their_way.popleft())).addErrback(self._failed)

    async def _look_for(self, phone: _Closed) -> None:
        try:
            bindings = (await self._around.location.load(aor_of_key(phone.key))).bindings
        except LocationUnavailable:
            return
        anew = [binding for binding in bindings if place_of(binding) not in phone.places]
        is_back = any(map(self._candidates.is_here, anew))
        self.returned += is_back
        self._in_vain.append(is_back or not anew)
        known, in_vain = len(self._in_vain), sum(self._in_vain)
        if known >= ENOUGH_KNOWN and in_vain > MOST_IN_VAIN * known and self.stage is not Stage.STOPPED:
            self._log.warn("{in_vain} of the {known} phones closed last came back here or stayed away: nobody spreads "
                           "them, so that no more are closed until a node comes or goes", in_vain=in_vain, known=known)
            self.stage, self._chosen = Stage.STOPPED, []

    def _failed(self, failure: Any) -> None:
        assert isinstance(failure, Failure)
        self._log.failure("while it was seen where a phone has gone", failure=failure)
