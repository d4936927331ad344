"""Phones that have lost their connection: found where they are bound now, and waited for while they may be coming back.

A connection ends with the node that had it, or because the phone's network changed; the phone then registers anew, with
whatever node it reaches. What is for it meanwhile waits, as long as that can still be.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.forking import Groups
from registrar.gruu import NoSuchGruu
from registrar.location.contract import LocationStore, LocationUnavailable, Snapshot
from registrar.owners import Cluster, OneNode, is_within_reach, living
from registrar.records import Binding, record_key
from rollcall.net.tokens import Connection, FlowName
from rollcall.net.transactions import ServerTransaction
from rollcall.net.wheel import Timer, TimerWheel
from rollcall.ops.coroutines import start
from rollcall.ops.metrics import Metrics

FIRST_RECHECK_SECONDS = 0.1
RECHECK_SECONDS = 1.0
"""After so long a record is looked at without being told, first sooner, then always as late: a node that has just begun
may not be known yet, or Redis be away that tells."""

MAX_WAITS = 5
"""How often one request waits: a phone whose connections break again and again holds up nobody for long."""

RETRY_SECONDS = 1.0
"""How long a node is left alone that could not be spoken to; twice as long each time. One that has died is known by
then to have."""

MAX_WAITING_PER_RECORD = 100
"""How many requests wait for the phones of one record: a lost trunk, or who calls a lost phone without end, leaves the
others their share."""

Choose = Callable[[Sequence[Binding], float], Groups]
"""Makes ways to the phones that are meant out of the bindings of a record and the time."""


class Watched(Protocol):
    """Who tells of changes, see `registrar.location.changes`."""

    def watch(self, key: bytes, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` after each change of a record; return what ends that."""


class Elsewhere(Protocol):
    """The other sites, see `registrar.sites`."""

    async def lookup(self, aor: str) -> Snapshot | None:
        """Return what is bound at another site, or was lately; None when nothing is, or that cannot be learnt now."""


class _Unwatched:
    """The Watched of who keeps nothing that others change."""

    def watch(self, key: bytes, changed: Callable[[], None]) -> Callable[[], None]:
        """See Watched."""
        return lambda: None


class Reconnecting:
    """Knows which nodes live, and who waits for a phone."""

    log = Logger()

    def __init__(self, *, location: LocationStore, wheel: TimerWheel, now: Callable[[], float],
                 cluster: Cluster | None = None, changes: Watched | None = None, wait_seconds: float = 0.0,
                 max_waiting: int = 0, elsewhere: Elsewhere | None = None) -> None:
        """Phones are waited for `wait_seconds` since they were lost, by at most `max_waiting` requests at a time.

        Who is not here is asked for `elsewhere`; `cluster` knows those nodes, too, then.
        """
        self.location = location
        self.wheel = wheel
        self.now = now
        self.cluster = OneNode() if cluster is None else cluster
        self.changes = _Unwatched() if changes is None else changes
        self.wait_seconds = wait_seconds
        self.max_waiting = max_waiting
        self.elsewhere = elsewhere
        self.waiting: Counter[str] = Counter()
        """How many wait, by address-of-record."""
        self.outcomes: Counter[str] = Counter({
            "returned": 0, "stayed_away": 0, "cancelled": 0, "too_many": 0, "found": 0, "not_known": 0})
        """What became of waiting."""

    def phones(self, aor: str, choose: Choose, call_id: str, is_one: bool = False) -> "Phones":
        """Return the phones of a record that a request is for; `is_one`: one certain phone among them."""
        return Phones(self, aor, choose, call_id, is_one)


    def admits(self, aor: str) -> bool:
        """Count one more that waits, unless it is one too many."""
        if self.waiting.total() >= self.max_waiting or self.waiting[aor] >= MAX_WAITING_PER_RECORD:
            self.outcomes["too_many"] += 1
            return False
        self.waiting[aor] += 1
        return True

    def ended(self, aor: str, outcome: str) -> None:
        """Count one that waits no more."""
        self.outcomes[outcome] += 1
        self.waiting[aor] -= 1
        if not self.waiting[aor]:
            del self.waiting[aor]


class Phones:
    """Those of one request: looked up, and waited for when they are lost. See `registrar.forking.Return`."""

    def __init__(self, reconnecting: Reconnecting, aor: str, choose: Choose, call_id: str, is_one: bool) -> None:
        self._reconnecting = reconnecting
        self._choose = choose
        self._call_id = call_id
        self._is_one = is_one
        self._tried: dict[tuple[object, ...], float] = {}
        """What need not be tried before when."""
        self._waits = 0
        self._pause = FIRST_RECHECK_SECONDS
        self._since = self._until = 0.0
        self._found: Callable[[Groups], None] | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self._timer: Timer | None = None
        self._is_looking = self._looks_again = False
        self.aor = aor
        self.snapshot = Snapshot()
        """What was found last."""

    async def look(self) -> Groups:
        """Return the ways to those that are bound now and were not tried yet. Raises LocationUnavailable, NoSuchGruu.

        What lived on a connection of a node that has ended is not there any more. When there is none, other sites are
        asked.
        """
        self.snapshot, elsewhere = await self._reconnecting.location.load(self.aor), self._reconnecting.elsewhere
        if elsewhere is None:
            return self._untried(self.snapshot)
        problem: NoSuchGruu | None = None
        try:
            groups = self._untried(self.snapshot)
        except NoSuchGruu as no_such:
            groups, problem = [], no_such
        found = None if groups else await elsewhere.lookup(self.aor)
        if found is not None:
            groups = self._untried(found)
            if groups or not self.snapshot.bindings:
                self.snapshot = found
        if problem is not None and not groups:
            raise problem
        return groups

    def _untried(self, snapshot: Snapshot) -> Groups:
        cluster, now = self._reconnecting.cluster, self._reconnecting.now()
        there = [each for each in living(snapshot.bindings, cluster) if is_within_reach(each, cluster)]
        untried = [binding for binding in there if self._tried.get(_identity(binding), 0.0) <= now]
        groups = self._choose(untried, now) if untried else []
        if groups:
            self._tried.update(dict.fromkeys(map(_identity, untried), inf))
        return groups

    async def look_patiently(self, server: ServerTransaction | None = None) -> Groups:
        """Look, again and again while Redis is away, for as long as phones are waited for; see `look`.

        Another master is there in a few seconds. The caller, whose `server` this is, hears 100 meanwhile, and may end
        it.
        """
        try:
            return await self.look()
        except LocationUnavailable:
            reconnecting = self._reconnecting
            if not (reconnecting.wait_seconds and reconnecting.admits(self.aor)):
                raise
        if server is not None and server.request.method == "INVITE":
            server.refuse(100)
        outcome = "not_known"
        try:
            groups = await self._look_again(server)
            outcome = "found"
            return groups
        finally:
            reconnecting.ended(self.aor, outcome)

    async def _look_again(self, server: ServerTransaction | None) -> Groups:
        reconnecting, pause = self._reconnecting, FIRST_RECHECK_SECONDS
        ends_at = reconnecting.now() + reconnecting.wait_seconds
        while True:
            waited: Deferred[None] = Deferred()
            reconnecting.wheel.call_later(pause, waited.callback, None)
            await waited
            try:
                return await self.look()
            except LocationUnavailable:
                if reconnecting.now() >= ends_at or (server is not None and server.answered):
                    raise
            pause = min(2 * pause, RECHECK_SECONDS)

    def was_tried(self, name: FlowName) -> None:
        """Take note of a flow that leads to them, or does not any more."""
        if isinstance(name, Connection):
            self._tried[name.node, name.epoch, name.flow_id] = inf

    @property
    def lost_at(self) -> float:
        """When the last of them was lost, in seconds since the epoch; 0 when that is not known.

        A life of a node that we have not heard of has just begun: its phones come back when its lease is here.
        """
        cluster, lost = self._reconnecting.cluster, [self.snapshot.lost_at]
        for binding in self.snapshot.bindings:
            if not is_within_reach(binding, cluster):
                ended_at = cluster.ended_at(binding.source.node, binding.source.epoch)
                lost.append(binding.refreshed_at if ended_at is None else ended_at)
        # The clock of who wrote that may be ahead of ours: nobody was lost later than now.
        return min(max(lost), self._reconnecting.now())

    @property
    def may_return(self) -> bool:
        """Whether they were lost so short a time ago that they may be on their way back.

        When one phone was lost is not known while others of its record are there; it is waited for all the same.
        """
        reconnecting = self._reconnecting
        lost_at = reconnecting.now() if self._is_one_of_many else self.lost_at
        return reconnecting.now() < lost_at + reconnecting.wait_seconds

    @property
    def _is_one_of_many(self) -> bool:
        return self._is_one and bool(self.snapshot.bindings)

    # --- for the fork

    def wait(self, found: Callable[[Groups], None]) -> bool:
        """Call `found` when they are back, or with nothing when they stay away; see Return."""
        reconnecting = self._reconnecting
        now = reconnecting.now()
        # Who was tried in vain just now was lost just now.
        is_recent = self._tried or self._is_one_of_many or not self.lost_at
        self._until = reconnecting.wait_seconds + (now if is_recent else self.lost_at)
        if self._until <= now or self._waits >= MAX_WAITS:
            return False
        if not reconnecting.admits(self.aor):
            reconnecting.log.warn("call {call_id} does not wait for {aor}: too many do", call_id=self._call_id,
                                  aor=self.aor, log_rationed=True)
            return False
        self._waits += 1
        self._pause = FIRST_RECHECK_SECONDS
        self._since = now
        self._found = found
        self._unwatch = reconnecting.changes.watch(record_key(self.aor), self._look_soon)
        self._tick()
        return True

    def stop(self) -> None:
        """Wait no more: the request was cancelled."""
        if self._found is not None:
            self._end("cancelled")

    def unreached(self, flow: FlowName) -> None:
        """Try this flow again in a while, if its node lives then."""
        if isinstance(flow, Connection):
            not_before = self._reconnecting.now() + RETRY_SECONDS * 2**self._waits
            self._tried[flow.node, flow.epoch, flow.flow_id] = not_before

    # --- details

    def _tick(self) -> None:
        """Look, and look again in a while, until the time is over."""
        left = self._until - self._reconnecting.now()
        if left <= 0:
            self._give_up()
            return
        self._timer = self._reconnecting.wheel.call_later(min(left, self._pause), self._tick)
        self._pause = min(2 * self._pause, RECHECK_SECONDS)
        # Not within `wait`: whoever waits has to know first that he does.
        self._reconnecting.wheel.call_later(0, self._look_soon)

    def _give_up(self) -> None:
        found = self._found
        self._end("stayed_away")
        if found is not None:
            found([])

    def _look_soon(self) -> None:
        if self._found is None:
            return
        if self._is_looking:
            self._looks_again = True
            return
        self._is_looking = True
        start(self._look(), self._broke)

    async def _look(self) -> None:
        self._looks_again = True
        while self._looks_again and self._found is not None:
            self._looks_again = False
            try:
                groups = await self.look()
            except (LocationUnavailable, NoSuchGruu) as problem:
                self._reconnecting.log.debug("no look at {aor}: {problem}", aor=self.aor, problem=str(problem))
                continue
            found = self._found
            if groups and found is not None:
                self._end("returned")
                self._is_looking = False
                found(groups)
                return
            self._shorten()
        self._is_looking = False

    def _shorten(self) -> None:
        """Wait no longer than is worth it, once the record says that the last of them was lost a while ago."""
        if self._found is None or not self.snapshot.lost_at:
            return
        self._until = min(self._until, self.snapshot.lost_at + self._reconnecting.wait_seconds)
        if self._until <= self._reconnecting.now():
            self._give_up()

    def _broke(self, failure: Failure) -> None:
        self._is_looking = False
        self._reconnecting.log.failure("while waiting for {aor}", failure=failure, aor=self.aor)

    def _end(self, outcome: str) -> None:
        reconnecting = self._reconnecting
        reconnecting.ended(self.aor, outcome)
        self._found = None
        self._unwatch()
        if self._timer is not None:
            self._timer.cancel()
        reconnecting.log.info("call {call_id}: waited {seconds:.2f} s for {aor}, whose connection was lost: {outcome}",
                              call_id=self._call_id, seconds=reconnecting.now() - self._since, aor=self.aor,
                              outcome=outcome)


def _identity(binding: Binding) -> tuple[object, ...]:
    """Return what is another when the phone has registered again, over another connection if it was over one."""
    if binding.connection_bound:
        return binding.source.node, binding.source.epoch, binding.source.flow_id
    return binding.contact, binding.path, binding.source, binding.refreshed_at


def watch_reconnecting(metrics: Metrics, reconnecting: Reconnecting) -> None:
    """Export who waits for phones to come back, and what became of those who did."""
    metrics.gauge("rollcall_reconnect_waiting", "Requests that wait for a phone whose connection was lost.", (),
                  reconnecting.waiting.total)
    metrics.total("rollcall_reconnect_waits_total", "Requests that waited, or would have, by what became of it.",
                  ("outcome",), lambda: {(outcome,): float(number) for outcome, number in
                                         reconnecting.outcomes.items()})
