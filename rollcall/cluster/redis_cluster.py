"""Redis Cluster: one link per master, and a map of the slots that is kept up to date.

A command goes to whom the map says; MOVED and ASK send it elsewhere, and then it may be overtaken by a later one.
"""

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from rollcall.cluster.asking import Asking
from rollcall.cluster.connection import Connection, Pending, give
from rollcall.cluster.link import Link
from rollcall.cluster.newest import newest
from rollcall.cluster.opening import Opening
from rollcall.cluster.redis import RedisRefused, RedisUnavailable, Watcher
from rollcall.cluster.single import host_and_port
from rollcall.cluster.slots import SLOTS, SlotMap, read_slots, redirected_to, slot_of

# How often the map is looked at when nothing is wrong, when a master is away, and at most.
REFRESH_SECONDS = 10.0
SEARCH_SECONDS = 0.3
LEAST_SECONDS = 0.1
# Of so many nodes most have to agree that there is nothing newer; not all nodes of a large Cluster are asked.
NODES_ASKED = 5
# A slot that is being moved lets some commands wait (TRYAGAIN).
AGAIN_SECONDS = 0.05


class ClusterRedis(Asking):
    """All masters of a Cluster."""

    _log = Logger()

    def __init__(self, opening: Opening, watcher: Watcher) -> None:
        """The first nodes that are asked are those of the configuration."""
        super().__init__(self._send_to_owner)
        self._opening = opening
        self._reactor = opening.reactor
        self._config = opening.config
        self._watcher = watcher
        self._by_slot: list[Link | None] = [None] * SLOTS
        self._links: dict[str, Link] = {}
        self._nodes: frozenset[str] = frozenset(self._config.addresses)
        # Master -> those that served its slots before, until it is known whether they still serve others.
        self._before: dict[str, set[str]] = {}
        self._may_have_lost: set[str] = set()
        self._parked: list[Pending] | None = []
        self._why = "not connected yet"
        self._following: Deferred[None] | None = None
        self._wish: Deferred[None] = Deferred()

    def start(self) -> None:
        """Connect, and again whenever a connection ends, until `stop`."""
        self._following = Deferred.fromCoroutine(self._follow())
        self._following.addErrback(self._followed)

    async def stop(self) -> None:
        """Close all; what waits, and all that is asked later, fails with RedisUnavailable."""
        self._why = "we have stopped"
        if self._following is not None:
            self._following.cancel()
        for link in self._links.values():
            link.stop(self._why)
        self._by_slot = [None] * SLOTS
        self._unpark()

    @property
    def problem(self) -> str | None:
        """Why no master can be asked now."""
        problems = [link.problem for link in self._links.values()]
        return None if None in problems else "; ".join(filter(None, problems)) or self._why

    def link_of(self, key: bytes) -> Link | None:
        """Return the link to the master of this key's slot."""
        return self._by_slot[slot_of(key)]

    def links(self) -> tuple[Link, ...]:
        """Return the links to all masters."""
        return tuple(self._links.values())

    def _send_to_owner(self, pending: Pending) -> None:
        link = self._by_slot[slot_of(pending[2])]
        if link is not None:
            link.send(pending)
        elif self._parked is not None and len(self._parked) < self._config.max_waiting:
            self._parked.append(pending)
        else:
            why = f"nobody serves slot {slot_of(pending[2])}: {self._why}"
            self._reactor.callLater(0, give, pending[0], RedisUnavailable(why))

    # --- what a node answers instead

    def refused(self, link: Link, refusal: RedisRefused, pending: Pending) -> None:
        """Ask elsewhere, or again, when the node says so."""
        answered, script, key, words, tries = pending
        code = str(refusal).partition(" ")[0]
        if code not in ("MOVED", "ASK", "TRYAGAIN"):
            if code == "CLUSTERDOWN":
                self._look_soon()
            super().refused(link, refusal, pending)
        elif tries >= self._config.max_redirections:
            give(answered, RedisUnavailable(f"{link.name}: still {refusal} after {tries} redirections"))
        elif code == "TRYAGAIN":
            self._reactor.callLater(AGAIN_SECONDS, link.send, (answered, script, key, words, tries + 1))
        else:
            self._redirect(link, str(refusal), (answered, script, key, words, tries + 1))

    def _redirect(self, link: Link, refusal: str, pending: Pending) -> None:
        try:
            slot, address = redirected_to(refusal, host_and_port(link.name)[0])
        except ValueError:
            give(pending[0], RedisUnavailable(f"{link.name}: {refusal}"))
            return
        target = self._link_to(address)
        if refusal.startswith("ASK "):
            target.send((_ignore, None, b"", (b"ASKING",), 0))
        else:
            self._assign(slot, target)
            self._look_soon()
        target.send(pending)

    # --- what links say

    async def find(self, link: Link) -> tuple[str, int]:
        """Return host and port, which are the link's name."""
        return host_and_port(link.name)

    async def prepare(self, link: Link, data: Connection) -> None:
        """See that it is a master, and whether those that served its slots before are masters still."""
        role = await data.ask("ROLE")
        if role[0] != b"master":
            raise RedisUnavailable(f"it is no master but {role[0].decode('ascii', 'replace')}")
        if link.name in self._before:
            seen = await self._seen_by(data, link.name)
            if self._before.pop(link.name, set()) - seen.masters:
                self._may_have_lost.add(link.name)

    def opened(self, link: Link) -> bool:
        """Return whether one that has failed served its slots before."""
        if link.name in self._may_have_lost:
            self._may_have_lost.remove(link.name)
            return True
        return False

    def failed(self, link: Link) -> None:
        """Perhaps a replica takes over."""
        self._look_soon()

    # --- the map

    async def _follow(self) -> None:
        while True:
            try:
                self._apply(await self._look())
            except RedisUnavailable as error:
                self._unmapped(str(error))
            await deferLater(self._reactor, LEAST_SECONDS)
            if not self._wish.called:
                seconds = REFRESH_SECONDS if self._are_all_open else SEARCH_SECONDS
                due = self._reactor.callLater(seconds, self._look_soon)
                try:
                    await self._wish
                finally:
                    if due.active():
                        due.cancel()
            self._wish = Deferred()

    def _look_soon(self) -> None:
        if not self._wish.called:
            self._wish.callback(None)

    async def _look(self) -> SlotMap:
        """Return the map as the newest of some nodes sees it: of masters, and of others too when a master is away."""
        names = list(self._links) if self._are_all_open else sorted(self._nodes | self._links.keys(), key=self._is_away)
        asking = [self._ask(name) for name in names[:NODES_ASKED]]
        return await newest(asking, self._config.connect_seconds / 2, self._reactor)

    @property
    def _are_all_open(self) -> bool:
        return bool(self._links) and all(link.data is not None for link in self._links.values())

    def _is_away(self, name: str) -> bool:
        return name not in self._links or self._links[name].data is None

    async def _ask(self, name: str) -> SlotMap:
        data = self._links[name].data if name in self._links else None
        if data is not None:
            return await self._seen_by(data, name)
        data = await self._opening.server(*host_and_port(name), Connection)
        try:
            return await self._seen_by(data, name)
        finally:
            data.drop("it was asked")

    async def _seen_by(self, data: Connection, name: str) -> SlotMap:
        answer = await data.ask("CLUSTER", "SLOTS")
        info = await data.ask("CLUSTER", "INFO")
        return read_slots(answer, info, host_and_port(name)[0])

    def _apply(self, seen: SlotMap) -> None:
        for slot, master in seen:
            self._assign(slot, self._link_to(master))
        for slot in set(range(SLOTS)).difference(slot for slot, _ in seen):
            self._by_slot[slot] = None
        self._nodes = seen.nodes | frozenset(self._config.addresses)
        for name in self._links.keys() - seen.masters:
            self._log.info("{server} is no master of the Cluster any more", server=name)
            self._links.pop(name).stop("it is no master of the Cluster any more")
            self._before.pop(name, None)
        for name in self._before.keys() & self._links.keys():
            self._look_back(self._links[name], seen)
        self._why = "it is in no node's map"
        self._unpark()

    def _look_back(self, link: Link, seen: SlotMap) -> None:
        """See whether a master that was open before has taken slots of one that has failed."""
        if link.data is not None and link.run_id is not None and self._before.pop(link.name) - seen.masters:
            self._watcher.connected(link.name, link.run_id, True)

    def _assign(self, slot: int, link: Link) -> None:
        before = self._by_slot[slot]
        if before is not link:
            self._by_slot[slot] = link
            if before is not None:
                self._before.setdefault(link.name, set()).add(before.name)

    def _link_to(self, name: str) -> Link:
        link = self._links.get(name)
        if link is None:
            link = self._links[name] = Link(self._opening, name, self, self._watcher)
            link.start()
        return link

    def _unmapped(self, why: str) -> None:
        if not self._links and self._why != why:
            self._log.warn("no node of the Redis Cluster says who serves what: {why}", why=why)
        self._why = why
        self._unpark()

    def _unpark(self) -> None:
        parked, self._parked = self._parked or [], None
        for pending in parked:
            self._send_to_owner(pending)

    def _followed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("the map of the Cluster is not followed any more, which is an error of ours", failure)


def _ignore(answer: Any) -> None:
    """ASKING concerns the next command only; what comes of that is told there."""
