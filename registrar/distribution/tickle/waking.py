"""Wakes the phones of nodes that have died silently, once this host has an address that they were connected to.

Both have to be known before anything is sent: that a life of a node is over, by its lease, and that the address is
ours now, by the kernel. Whichever comes first, the other one is waited for, as long as the configuration says. What is
to be woken is taken out of Redis bit by bit, at the pace, so that the workers of a host share the work and nobody is
woken by two of them; what was taken and not yet sent when a process dies is lost.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.distribution.tickle.config import TickleConfig
from registrar.distribution.tickle.keys import address_of, end_of, ends_key, phones_key
from registrar.distribution.tickle.pacing import Pace
from registrar.distribution.tickle.packets import pack_record
from rollcall.cluster.lives import Epoch
from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable
from rollcall.net.flow import PORT_BYTES, Address, PackedAddress

LOOK_SECONDS = 1.0
"""How often it is looked again for what could not be woken: Redis or the sender was away."""

TICK_SECONDS = 0.05
"""How often a lot is taken: 50 connections at the default pace."""

MAX_LOT = 500
"""Connections taken at a time, of which no more are lost with this process."""

REPEAT_SECONDS = 1.0
"""The pause between two tickles of a connection; a kernel answers one in half a second (tcp_invalid_ratelimit)."""

MAX_UNSENT = 20_000
"""Records that wait for the sender; the oldest go first. Their phones come back by themselves, or by a repeat."""


class Lives(Protocol):
    """Who knows which nodes live."""

    def is_living(self, node: str, epoch: int) -> bool:
        """Say whether a life of a node goes on."""


class Outlet(Protocol):
    """Who sends; see SenderLink."""

    @property
    def is_there(self) -> bool:
        """Whether it can be asked."""

    def send(self, records: Sequence[bytes]) -> int:
        """Return how many it has taken."""


class Waking:
    """What one process does for the phones of dead nodes."""

    _log = Logger()

    def __init__(self, reactor: Any, redis: Redis, lives: Lives, held: Callable[[], frozenset[bytes]], outlet: Outlet,
                 config: TickleConfig, rate: Callable[[], float]) -> None:
        """`held` gives this host's addresses, packed; `rate` how many connections this process may wake in a second."""
        self.sent = 0
        """Tickles handed to the sender, repeats too, for metrics."""
        self.sets = 0
        """Sets of connections taken from Redis."""
        self.waiting = 0
        """Connections of the set that is being taken that are still to be woken, by whomever."""
        self._reactor = reactor
        self._redis = redis
        self._lives = lives
        self._held = held
        self._outlet = outlet
        self._config = config
        self._pace = Pace(rate)
        self._ended: dict[Epoch, tuple[float, float]] = {}
        self._woke_at = 0.0
        self._unsent: deque[bytes] = deque()
        self._is_running = self._is_busy = self._looks_again = False
        self._next_look: IDelayedCall | None = None
        self._next_flush: IDelayedCall | None = None

    def start(self) -> None:
        """Wake from now on, also the phones of lives that have ended since this was made."""
        self._is_running = True
        self.look()

    def stop(self) -> None:
        """Wake nobody any more."""
        self._is_running = False
        for call in (self._next_look, self._next_flush):
            if call is not None and call.active():
                call.cancel()

    def ended(self, lives: Iterable[Epoch]) -> None:
        """Take note that these lives are over, see Leases.on_change."""
        begins = self._reactor.seconds() + self._config.wait_seconds
        self._ended.update(dict.fromkeys(lives, (begins, begins + self._config.remembered_seconds)))
        self.look()

    def look(self) -> None:
        """See whom to wake: a life has ended, or an address has come."""
        if not (self._is_running and self._ended):
            return
        self._looks_again = True
        if not self._is_busy:
            self._is_busy = True
            looking = Deferred.fromCoroutine(self._go_through())
            looking.addErrback(self._failed)
            looking.addCallback(self._gone_through)

    # --- whom

    def _gone_through(self, result: object) -> None:
        self._is_busy, self.waiting = False, 0
        if self._next_look is not None and self._next_look.active():
            self._next_look.cancel()
        if self._is_running and self._ended:
            self._next_look = self._reactor.callLater(LOOK_SECONDS, self.look)

    def _failed(self, failure: Failure) -> None:
        if failure.check(RedisUnavailable, RedisRefused) is None:
            self._log.failure("while phones of a dead node were woken", failure=failure)
        else:
            self._log.warn("phones of a dead node are not woken yet: {why}", why=failure.getErrorMessage(),
                           log_rationed=True)

    async def _go_through(self) -> None:
        while self._looks_again and self._is_running:
            self._looks_again = False
            for life, (begins, until) in tuple(self._ended.items()):
                now = self._reactor.seconds()
                # While some are being woken nobody's time runs out: the others wait for their turn.
                is_late = now >= max(until, self._woke_at + self._config.remembered_seconds)
                if is_late or self._lives.is_living(*life):
                    self._ended.pop(life, None)
                elif now >= begins:
                    await self._wake_or_leave(life)

    async def _wake_or_leave(self, life: Epoch) -> None:
        """Wake the phones of one life; what is odd about it keeps nobody from those of others."""
        try:
            await self._wake_life(life)
        except RedisUnavailable:
            raise
        except RedisRefused as problem:
            self._log.warn("phones of node {node}, epoch {epoch}, are not woken yet: {why}", node=life[0],
                           epoch=life[1], why=str(problem), log_rationed=True)
        except Exception:
            self._log.failure("phones of node {node}, epoch {epoch}, are not woken", node=life[0], epoch=life[1])
            self._ended.pop(life, None)

    async def _wake_life(self, life: Epoch) -> None:
        key = ends_key(life)
        ends = await self._redis.ask(key, b"SMEMBERS", key)
        if not ends:
            # Nobody notes anything for it any more, unless it goes on: then its end is told again.
            self._ended.pop(life, None)
        for end in sorted(ends):
            local = address_of(end)
            if local is not None and self._may_wake(life, local):
                await self._wake(life, local)

    def _may_wake(self, life: Epoch, local: Address) -> bool:
        """Say whether these phones are ours to wake, now."""
        return (self._is_running and not self._lives.is_living(*life) and _packed(local[0]) in self._held()
                and self._outlet.is_there)

    # --- waking

    async def _wake(self, life: Epoch, local: Address) -> None:
        """Take one set, and tickle all that are in it, as long as that may be."""
        key, began, taken = phones_key(life, local), self._reactor.seconds(), 0
        self.waiting = await self._redis.ask(key, b"SCARD", key)
        if self.waiting:
            self.sets += 1
            self._log.info("tickling {count} connections of node {node}, epoch {epoch}, at {at}: {pace} a second now",
                           count=self.waiting, node=life[0], epoch=life[1], at=end_of(local).decode(),
                           pace=round(self._pace.per_second))
        while self._may_wake(life, local):
            # What the sender does not take stays in Redis, for others or for later.
            lot = 0 if len(self._unsent) >= MAX_LOT else self._pace.lot(self._reactor.seconds(), MAX_LOT)
            if lot:
                phones = await self._redis.ask(key, b"SPOP", key, lot)
                if not phones:
                    await self._redis.ask(ends_key(life), b"SREM", ends_key(life), end_of(local))
                    break
                taken += len(phones)
                self._woke_at = self._reactor.seconds()
                self.waiting = max(0, self.waiting - len(phones))
                self._tickle(life, _records(local, phones), self._config.repeats)
            await deferLater(self._reactor, TICK_SECONDS)
        self.waiting = 0
        if taken:
            self._log.info("tickled {count} connections of node {node}, epoch {epoch}, at {at} in {seconds:.1f} s",
                           count=taken, node=life[0], epoch=life[1], at=end_of(local).decode(),
                           seconds=self._reactor.seconds() - began)

    def _tickle(self, life: Epoch, records: list[bytes], times: int) -> None:
        """Tickle connections so many times, unless their life turns out to go on."""
        if not self._is_running or self._lives.is_living(*life):
            return
        self._unsent.extend(records)
        while len(self._unsent) > MAX_UNSENT:
            self._unsent.popleft()
        self._flush()
        if times > 1:
            self._reactor.callLater(REPEAT_SECONDS, self._tickle, life, records, times - 1)

    def _flush(self) -> None:
        """Hand over what waits, as far as the sender takes it."""
        for _ in range(self._outlet.send(tuple(self._unsent))):
            self._unsent.popleft()
            self.sent += 1
        if self._unsent and self._is_running and (self._next_flush is None or not self._next_flush.active()):
            self._next_flush = self._reactor.callLater(TICK_SECONDS, self._flush)


def _packed(host: str) -> bytes:
    """Return an address as the kernel tells it; b"" for what is none."""
    try:
        return inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    except OSError:
        return b""


def _records(local: Address, phones: Iterable[PackedAddress]) -> list[bytes]:
    """Return what the sender gets; without phones that cannot have been connected to `local`, whoever wrote them."""
    source, records = _packed(local[0]), []
    for phone in phones:
        port = int.from_bytes(phone[:PORT_BYTES])
        if len(phone) == PORT_BYTES + len(source) and port:
            records.append(pack_record(source, local[1], phone[PORT_BYTES:], port))
    return records
