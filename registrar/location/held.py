"""Bindings that several workers share: the record of an address-of-record is held by one of them at a time.

Everything about a record that is held here is answered here, as fast as the store below does. Any other is asked for
first: a directory has who holds it release it, and grants it to us with what it holds; what nobody holds is looked for
in the file. Whoever has lost a record between a load and a save gets a Conflict, and loads again.

A record may name connections of other workers (its guests), and one that is held elsewhere connections of ours (those
away). When a worker ends, its connections are gone from all records; and connections of ours whose record ended with it
are closed, so that their phones register again.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol

import msgspec
from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.bindings import Binding
from registrar.location.at_once import AtOnceStore
from registrar.location.contract import Conflict, Counts, LocationStore, LocationUnavailable, Snapshot
from registrar.location.rows import decode, encode
from registrar.records import Source, aor_of_key, record_key
from rollcall.net.wheel import Timer, TimerWheel
from rollcall.ops.allowed import at_least
from rollcall.ops.coroutines import start

Record = tuple[int, str]
"""A version, and bindings as `registrar.location.rows.encode` writes them."""


@frozen(kw_only=True)
class HoldingConfig:
    """How records move between workers. Times in seconds."""

    patience_seconds: float = field(default=5.0, validator=at_least(0.1))
    """How long a request waits for a record that another worker has; it is answered 503 then."""
    max_waiting: int = field(default=20_000, validator=at_least(1))
    """Records that a worker waits for at a time; beyond that requests are answered 503."""
    idle_seconds: float = field(default=2.0, validator=at_least(0.1))
    """How long a worker keeps the record of somebody who is not registered."""
    max_idle: int = field(default=10_000, validator=at_least(1))
    """Such records at a time, so that strangers who try names cannot fill the memory."""


class MovableStore(LocationStore, AtOnceStore, Protocol):
    """A store whose records can be taken out and put into that of another process."""

    async def fetch(self, aor: str) -> tuple[Binding, ...]:
        """Return what was kept of an address-of-record that has no record here. Raises LocationUnavailable."""

    async def settled(self, aor: str) -> None:
        """Return once nothing of this record is still to be written."""

    def is_settled(self, aor: str) -> bool:
        """Say whether nothing of this record is still to be written."""

    def adopt(self, key: bytes, snapshot: Snapshot) -> None:
        """Take a record that was kept elsewhere, of whatever version."""

    def forget(self, key: bytes) -> None:
        """Drop a record without a trace; what is kept of it stays kept."""


class Directory(Protocol):
    """Who tells which worker holds what, as a worker sees it. Nothing here waits."""

    @property
    def is_behind(self) -> bool:
        """Whether nothing should be asked for now."""

    def acquire(self, key: bytes) -> None:
        """Ask for a record; `HeldLocation.granted` follows."""

    def anticipate(self, key: bytes) -> None:
        """Ask for a record if nobody has it; `HeldLocation.granted` or `HeldLocation.denied` follows."""

    def released(self, key: bytes, record: Record | None) -> None:
        """Give away a record that was asked back; None when it stands in the file, if anywhere."""

    def give_back(self, keys: tuple[bytes, ...]) -> None:
        """Tell that these records are held no more, for there is nothing in them."""

    def unbound(self, source: Source, key: bytes) -> None:
        """Tell the worker of this connection that the record has nothing more on it."""

    def lost(self, keys: tuple[bytes, ...]) -> None:
        """Ask which of these nobody holds any more; `HeldLocation.orphaned` follows."""


class HeldLocation:
    """The LocationStore of one worker, over a store of its own."""

    keeps_later = False
    _log = Logger()

    def __init__(self, local: MovableStore, directory: Directory, node: str, wheel: TimerWheel,
                 wall: Callable[[], float], config: HoldingConfig, release_flow: Callable[[int, bytes], None]) -> None:
        """`release_flow` is told of a connection of ours that a record has nothing more on."""
        self._local = local
        self.records, self.packing = local.records, local.packing
        self._directory = directory
        self._node = node
        self._wheel = wheel
        self._wall = wall
        self._config = config
        self._release_flow = release_flow
        self._asked: dict[bytes, list[Deferred[None]]] = {}
        # What the directory has been asked for and is not held here yet. It is never asked twice: an answer that came
        # after the record was given back would make two of us hold it.
        self._asking: set[bytes] = set()
        self._reading: set[bytes] = set()
        self._wanted: set[bytes] = set()
        self._leaving: set[bytes] = set()
        # Held, although nothing is bound: since when.
        self._idle: dict[bytes, float] = {}
        self._guests: set[bytes] = set()
        self._away: dict[bytes, tuple[int, ...]] = {}
        self._timer: Timer | None = None

    # --- the store

    async def start(self) -> None:
        """Make the store below ready."""
        await self._local.start()

    async def stop(self) -> None:
        """Finish what has been accepted."""
        if self._timer is not None:
            self._timer.cancel()
        await self._local.stop()

    @property
    def problem(self) -> str | None:
        """Why bindings cannot be kept now."""
        return self._local.problem

    def takes_at_once(self, key: bytes, connection_bound: bool) -> bool:
        """Say whether a binding may be put into this record now: never into one that is not held here.

        Who has to be challenged first comes again soon. So what nobody has is asked for already.
        """
        if self.holds(key):
            return self._local.takes_at_once(key, connection_bound)
        if key not in self._asking and len(self._asking) < self._config.max_waiting and not self._directory.is_behind:
            self._asking.add(key)
            self._directory.anticipate(key)
        return False

    def refresh(self, key: bytes, record: bytes) -> None:
        """Replace a record of one binding by its next version."""
        self._local.refresh(key, record)

    def insert(self, key: bytes, record: bytes, transport: str) -> None:
        """Add the record of a first binding."""
        self._local.insert(key, record, transport)

    async def load(self, aor: str) -> Snapshot:
        """Return the bindings of `aor`, once its record is held here. Raises LocationUnavailable."""
        key = record_key(aor)
        if not self.holds(key):
            await self._acquired(key)
        return await self._local.load(aor)

    async def load_for_update(self, aor: str, only_adds: bool) -> Snapshot:
        """Return the same."""
        return await self.load(aor)

    async def save(self, aor: str, new: Snapshot) -> None:
        """Replace version `new.version - 1`. Raises Conflict, also when another worker holds the record now."""
        key = record_key(aor)
        if not self.holds(key):
            raise Conflict(aor)
        before = (await self._local.load(aor)).bindings if key in self._guests else ()
        await self._local.save(aor, new)
        for source in self._sources(before) - self._sources(new.bindings):
            self._directory.unbound(source, key)
        if before and not self._sources(new.bindings):
            self._guests.discard(key)
        if not new.bindings and self.holds(key):
            self._note_idle(key)

    async def unbind(self, aor: str, node: str, epoch: int, flow_id: int) -> tuple[Binding, ...]:
        """Remove the bindings of `aor` that live on this flow, wherever its record is."""
        key = record_key(aor)
        if not self.holds(key):
            await self._acquired(key)
        gone = await self._local.unbind(aor, node, epoch, flow_id)
        if gone and self.holds(key) and not (await self._local.load(aor)).bindings:
            self._note_idle(key)
        return gone

    def counts(self) -> Counts:
        """Return how much is held here."""
        return self._local.counts()

    def pages(self, size: int = 500) -> AsyncIterator[tuple[tuple[str, Snapshot], ...]]:
        """Yield what is held here."""
        return self._local.pages(size)

    def holds(self, key: bytes) -> bool:
        """Say whether the record is held here and not asked for."""
        return (key in self.records or key in self._idle) and key not in self._leaving

    # --- what the directory says

    def granted(self, key: bytes, record: Record | None) -> None:
        """Take a record: it is held here from now on."""
        if record is not None:
            try:
                version, bindings = record[0] + 1, decode(record[1])
            except msgspec.ValidationError as problem:
                self._log.critical("what another worker had of {aor} is not understood: {problem}",
                                   aor=aor_of_key(key), problem=str(problem))
            else:
                self._adopt(key, version, bindings)
                return
        if self.holds(key):
            self._serve(key)
        elif key not in self._reading:
            self._reading.add(key)
            start(self._read(key), lambda failure: self._not_read(key, failure))

    def denied(self, key: bytes) -> None:
        """Hear that somebody else has a record that was anticipated; who needs it by now has it asked back."""
        self._asking.discard(key)
        if self._asked.get(key):
            self._ask(key)

    def release(self, key: bytes) -> None:
        """Give away a record, once nothing of it is still to be written."""
        if key in self._reading:
            self._wanted.add(key)
        elif self.holds(key):
            self._leaving.add(key)
            start(self._hand_over(key), lambda failure: self._log.failure("a record was not handed over", failure))
        elif key not in self._leaving:
            self._directory.released(key, None)

    def unbound(self, flow_id: int, key: bytes) -> None:
        """Let go of a connection of ours that a record elsewhere has nothing more on."""
        flows = tuple(each for each in self._away.get(key, ()) if each != flow_id)
        if flows:
            self._away[key] = flows
        else:
            self._away.pop(key, None)
        self._release_flow(flow_id, key)

    def orphaned(self, keys: Iterable[bytes]) -> None:
        """Let go of our connections whose records ended with the worker that held them."""
        for key in keys:
            for flow_id in self._away.pop(key, ()):
                self._release_flow(flow_id, key)

    def left(self, node: str, epoch: int) -> None:
        """Forget the connections of a worker that has ended, and find out what ended with it."""
        for key in list(self._guests):
            start(self._forget_guests(aor_of_key(key), key, node, epoch),
                  lambda failure: self._log.failure("while forgetting connections of a worker", failure))
        if self._away:
            self._directory.lost(tuple(self._away))

    def forgotten(self, key: bytes) -> None:
        """Hear from the store below that time has taken the last binding of a record."""
        if key not in self._leaving:
            self._guests.discard(key)
            self._note_idle(key)

    # --- how

    def _acquired(self, key: bytes) -> "Deferred[None]":
        is_first = key not in self._asked
        if is_first and (len(self._asked) >= self._config.max_waiting or self._directory.is_behind):
            raise LocationUnavailable("too many records are waited for")
        granted: Deferred[None] = Deferred()
        self._asked.setdefault(key, []).append(granted)
        timer = self._wheel.call_later(self._config.patience_seconds, self._waited_in_vain, key, granted)
        granted.addBoth(_passed_on, timer)
        if key not in self._asking:
            self._ask(key)
        return granted

    def _ask(self, key: bytes) -> None:
        self._asking.add(key)
        self._directory.acquire(key)

    def _waited_in_vain(self, key: bytes, granted: "Deferred[None]") -> None:
        waiting = self._asked.get(key)
        if waiting and granted in waiting:
            waiting.remove(granted)
            granted.errback(LocationUnavailable("another worker has not handed over a record in time"))

    async def _read(self, key: bytes) -> None:
        bindings = await self._local.fetch(aor_of_key(key))
        self._reading.discard(key)
        self._adopt(key, 1, bindings)
        if key in self._wanted:
            self._wanted.discard(key)
            self.release(key)

    def _not_read(self, key: bytes, failure: Failure) -> None:
        """Hold nothing that may not be all there is."""
        self._reading.discard(key)
        self._asking.discard(key)
        if key in self._wanted:
            self._wanted.discard(key)
            self._directory.released(key, None)
        else:
            self._directory.give_back((key,))
        for granted in self._asked.pop(key, ()):
            granted.errback(failure)

    def _adopt(self, key: bytes, version: int, bindings: tuple[Binding, ...]) -> None:
        self._away.pop(key, None)
        self._local.forget(key)
        if bindings:
            self._local.adopt(key, Snapshot(version, bindings))
        else:
            self._note_idle(key)
        if self._sources(bindings):
            self._guests.add(key)
        self._serve(key)

    def _serve(self, key: bytes) -> None:
        self._asking.discard(key)
        for granted in self._asked.pop(key, ()):
            granted.callback(None)

    async def _hand_over(self, key: bytes) -> None:
        aor = aor_of_key(key)
        await self._local.settled(aor)
        snapshot = await self._local.load(aor)
        self._leaving.discard(key)
        self._guests.discard(key)
        self._idle.pop(key, None)
        self._local.forget(key)
        ours = tuple({binding.source.flow_id for binding in snapshot.bindings
                      if binding.connection_bound and binding.source.node == self._node})
        if ours:
            self._away[key] = ours
        self._directory.released(key, (snapshot.version, encode(snapshot.bindings)))

    async def _forget_guests(self, aor: str, key: bytes, node: str, epoch: int) -> None:
        if not self.holds(key):
            return
        snapshot = await self._local.load(aor)
        ended = {source for source in self._sources(snapshot.bindings) if (source.node, source.epoch) == (node, epoch)}
        left = tuple(binding for binding in snapshot.bindings
                     if not binding.connection_bound or binding.source not in ended)
        if len(left) < len(snapshot.bindings):
            try:
                await self._local.save(aor, snapshot.followed_by(left))
            except LocationUnavailable:
                self._log.debug("{aor} keeps what ended with {node} until it is asked for", aor=aor, node=node)
        if not self._sources(left):
            self._guests.discard(key)
        if not left:
            self._note_idle(key)

    def _sources(self, bindings: Iterable[Binding]) -> set[Source]:
        """Return the connections of other workers that bindings live on."""
        return {binding.source for binding in bindings
                if binding.connection_bound and binding.source.node != self._node}

    def _note_idle(self, key: bytes) -> None:
        self._idle[key] = self._wall()
        if len(self._idle) > self._config.max_idle:
            self._give_back(list(self._idle)[: max(1, self._config.max_idle // 10)])
        if self._timer is None or not self._timer.active:
            self._timer = self._wheel.call_later(self._config.idle_seconds, self._sweep)

    def _sweep(self) -> None:
        """Give back what has had nothing in it for a while."""
        since = self._wall() - self._config.idle_seconds
        self._give_back([key for key, idle_at in self._idle.items() if idle_at <= since])
        if self._idle:
            self._timer = self._wheel.call_later(self._config.idle_seconds, self._sweep)

    def _give_back(self, keys: Iterable[bytes]) -> None:
        """Stop holding those of `keys` that nothing is bound in."""
        given = []
        for key in keys:
            if key in self._leaving or not self._local.is_settled(aor_of_key(key)):
                continue
            del self._idle[key]
            record = self.records.get(key)
            if record is None or not self.packing.unpack(record).bindings:
                self._local.forget(key)
                given.append(key)
        if given:
            self._directory.give_back(tuple(given))


def _passed_on(result: None, timer: Timer) -> None:
    timer.cancel()
    return result
