"""Keeps in Redis which phones are connected to us at which of our addresses, for the case that this host dies silently.

A connection is noted when the first valid request has come over it, and removed when it closes; both are written a
moment later, many at a time. Nothing waits for that, and a refresh costs nothing. Where writes may have been lost all
is noted anew: after Redis was away or was emptied, and when it has another number of phones than we have.

No connection is noted that is not ours alone: one behind a load balancer that speaks the PROXY protocol ends in that
one's kernel. Nor is one that we have opened, nor one on a loopback address.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.distribution.tickle.keys import KEEP_SECONDS, NAMES, end_of, ends_key, epochs_key, phones_key
from rollcall.cluster.lives import Epoch
from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable
from rollcall.net.connection import ConnectionFlow
from rollcall.net.flow import Address, PackedAddress

WRITE_SECONDS = 0.1
"""How long after it was noted a connection is written: so many are lost at most when the host dies."""

RENEW_SECONDS = 60.0
"""How often keys are renewed, long before they go, and Redis' number of phones is compared with ours."""

MAX_MEMBERS = 500
"""Phones in one command: about 5 kB."""

MAX_PENDING = 20_000
"""Connections that wait to be written; when more come and go while Redis is slow all is noted anew later."""

MAX_ENDS = 64
"""Addresses of ours with connections. More are not noted: each has keys of its own, which are renewed."""


class FlowNotes:
    """What Redis is to know of our connections."""

    _log = Logger()

    def __init__(self, reactor: Any, redis: Redis, life: Epoch) -> None:
        self._reactor = reactor
        self._redis = redis
        self._life = life
        self._ends: dict[Address, Address] = {}
        self._noted: dict[ConnectionFlow, Address] = {}
        """At which of our addresses each connection is: one that has closed cannot say it any more."""
        self._pending: dict[tuple[Address, PackedAddress], bool] = {}
        self._left: list[ConnectionFlow] = []
        self._is_running = self._is_stale = False
        self._next_write: IDelayedCall | None = None
        self._next_renewal: IDelayedCall | None = None

    @property
    def noted(self) -> int:
        """How many connections are noted, or are about to be."""
        return len(self._noted)

    # --- life

    def start(self) -> None:
        """Note from now on."""
        self._is_running = True
        self._next_renewal = self._reactor.callLater(RENEW_SECONDS, self._renew)

    async def stop(self) -> None:
        """Note nothing more, and leave nothing behind: this life ends in order, and says so to its phones itself."""
        was_running, self._is_running = self._is_running, False
        for call in (self._next_write, self._next_renewal):
            if call is not None and call.active():
                call.cancel()
        self._pending.clear()
        if not (was_running and self._ends):
            return
        keys = [*(phones_key(self._life, end) for end in self._ends), ends_key(self._life)]
        asked = [self._redis.ask(key, b"DEL", key) for key in keys]
        known = epochs_key(self._life[0])
        asked.append(self._redis.ask(known, b"SREM", known, str(self._life[1])))
        await DeferredList(asked, consumeErrors=True)

    # --- what happens to connections

    def confirmed(self, flow: ConnectionFlow) -> None:
        """Note a connection over which a first valid request has come."""
        end = self._end_of(flow) if self._is_running and flow.came_directly else None
        if end is not None:
            self._noted[flow] = end
            self._put(end, flow.address, True)

    def gone(self, flow: ConnectionFlow) -> None:
        """Note that a connection has closed."""
        end = self._noted.pop(flow, None)
        if end is not None and self._is_running:
            self._put(end, flow.address, False)

    def redis_connected(self) -> None:
        """Note all anew: Redis is back, and may have lost what it had."""
        if self._ends:
            self._is_stale = True
            self._write_later()

    # --- writing

    def _put(self, end: Address, phone: PackedAddress, is_there: bool) -> None:
        if len(self._pending) >= MAX_PENDING:
            self._is_stale = True
        else:
            # What happened last counts; it shall also be written last.
            self._pending.pop((end, phone), None)
            self._pending[end, phone] = is_there
        self._write_later()

    def _write_later(self) -> None:
        if self._is_running and (self._next_write is None or not self._next_write.active()):
            self._next_write = self._reactor.callLater(WRITE_SECONDS, self._write)

    def _write(self) -> None:
        if not self._redis.can_ask(ends_key(self._life)):
            self._is_stale = True
            self._pending.clear()
            return  # whoever tells that it is back has us note all anew
        if self._is_stale:
            self._begin_anew()
        if self._left:
            self._note_some()
        pending, self._pending = self._pending, {}
        for end in {end for end, _ in pending}:
            for command, wanted in ((b"SADD", True), (b"SREM", False)):
                phones = [phone for (at, phone), is_there in pending.items() if at == end and is_there is wanted]
                self._change(end, command, phones)

    def _begin_anew(self) -> None:
        """Forget what Redis has; it is told of every connection again, a part of them at a time."""
        self._is_stale = False
        self._pending.clear()
        for end in self._ends:
            self._tell(phones_key(self._life, end), b"DEL")
            self._introduce(end)
        self._left = list(self._noted)

    def _note_some(self) -> None:
        some, self._left = self._left[-MAX_MEMBERS:], self._left[:-MAX_MEMBERS]
        for flow in some:
            end = self._noted.get(flow)
            if end is not None:
                self._put(end, flow.address, True)
        if self._left:
            self._write_later()

    def _change(self, end: Address, command: bytes, phones: Sequence[PackedAddress]) -> None:
        key = phones_key(self._life, end)
        for first in range(0, len(phones), MAX_MEMBERS):
            self._tell(key, command, *phones[first:first + MAX_MEMBERS])
        if phones and command == b"SADD":
            self._tell(key, b"EXPIRE", KEEP_SECONDS)

    def _end_of(self, flow: ConnectionFlow) -> Address | None:
        """Return our end of a connection, if it is one that another host can take over."""
        end = flow.local
        if end in self._ends:
            return self._ends[end]
        if not end[0] or len(self._ends) >= MAX_ENDS:
            return None
        host = ip_address(end[0])
        if host.is_loopback or host.is_link_local:
            return None
        self._ends[end] = end
        self._introduce(end)
        return end

    def _introduce(self, end: Address) -> None:
        """Have others find what is noted for one of our addresses."""
        known, ends = epochs_key(self._life[0]), ends_key(self._life)
        self._tell(NAMES, b"SADD", self._life[0])
        self._tell(NAMES, b"EXPIRE", KEEP_SECONDS)
        self._tell(known, b"SADD", str(self._life[1]))
        self._tell(known, b"EXPIRE", KEEP_SECONDS)
        self._tell(ends, b"SADD", end_of(end))
        self._tell(ends, b"EXPIRE", KEEP_SECONDS)

    def _tell(self, key: bytes, *command: bytes | int | str) -> None:
        if self._is_running:
            self._redis.ask(key, command[0], key, *command[1:]).addErrback(self._not_written)

    def _not_written(self, failure: Failure) -> None:
        if failure.check(RedisUnavailable, RedisRefused) is None:
            self._log.failure("while connections were noted", failure=failure)
            return
        self._log.warn("connections are not noted: {why}", why=failure.getErrorMessage(), log_rationed=True)
        self._is_stale = True

    # --- keeping

    def _renew(self) -> None:
        self._next_renewal = self._reactor.callLater(RENEW_SECONDS, self._renew)
        for end in self._ends:
            self._introduce(end)
            self._tell(phones_key(self._life, end), b"EXPIRE", KEEP_SECONDS)
        if self._is_stale:
            self._write_later()
        elif not (self._pending or self._left):
            Deferred.fromCoroutine(self._compare()).addErrback(self._not_written)

    async def _compare(self) -> None:
        """Note all anew when Redis has another number of phones than we have."""
        keys = [phones_key(self._life, end) for end in self._ends]
        counts = [await self._redis.ask(key, b"SCARD", key) for key in keys]
        if not (self._pending or self._left) and sum(counts) != self.noted:
            self._log.info("{there} connections are noted and {here} are here: they are noted anew",
                           there=sum(counts), here=self.noted)
            self.redis_connected()
