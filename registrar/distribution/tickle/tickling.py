"""Tickles, joined: connections are noted, nodes that have ended and addresses that have come are heard of."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.distribution.tickle.addresses import AddressWatch
from registrar.distribution.tickle.config import TickleConfig
from registrar.distribution.tickle.keys import NAMES, epochs_key
from registrar.distribution.tickle.noting import FlowNotes
from registrar.distribution.tickle.sending import SenderLink
from registrar.distribution.tickle.waking import Waking
from rollcall.cluster.leases import Leases
from rollcall.cluster.lives import Epoch
from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable
from rollcall.net.transports import Transports
from rollcall.ops.metrics import Metrics

EPOCH_DIGITS = 16
"""Those of the highest epoch; a longer number is none."""


class Tickling:
    """What one process does for its own phones, should its host die, and for those of others that have."""

    _log = Logger()

    def __init__(self, reactor: Any, config: TickleConfig, redis: Redis, leases: Leases, transports: Transports,
                 life: Epoch, registrar: str, rate: Callable[[], float]) -> None:
        """`life` is ours; `registrar` the one that we are a worker of, or ""; `rate` is how many REGISTERs this
        process can take in a second.
        """
        self._redis = redis
        self._leases = leases
        self._life = life
        self._registrar = registrar
        self.sender = SenderLink(config.socket, reactor.seconds)
        self.notes = FlowNotes(reactor, redis, life)
        self._addresses = AddressWatch(reactor, self._addresses_changed)
        self.waking = Waking(
            reactor, redis, leases, lambda: self._addresses.held, self.sender, config,
            lambda: min(config.flows_per_second / self._workers(), rate()))
        self._is_running = self._has_looked_back = False
        transports.watch(self.notes)
        leases.on_change.append(self.waking.ended)

    def start(self) -> None:
        """Begin, in the turn in which this node begins to listen: phones that are woken come at once."""
        self.notes.start()
        try:
            self._addresses.start()
        except OSError as problem:
            self._log.error("no phone will be woken, for this host's addresses are not known: {why}",
                            why=problem.strerror)
            return
        self.waking.start()
        # Looked for now, so that the log says early when it is not there.
        if self.sender.is_there:
            self._log.debug("tickles can be sent")
        self._is_running = True
        self._look_back()

    async def stop(self) -> None:
        """End, before the lease is given back and Redis is closed."""
        self._is_running = False
        self.waking.stop()
        self._addresses.stop()
        self.sender.close()
        await self.notes.stop()

    def watch(self, metrics: Metrics) -> None:
        """Export what is done."""
        notes, waking = self.notes, self.waking
        metrics.gauge("rollcall_tickle_noted_flows", "Connections noted in Redis, to be woken should this host die.",
                      (), lambda: float(notes.noted))
        metrics.gauge("rollcall_tickle_waiting_flows", "Connections of a dead node that are still to be woken here.",
                      (), lambda: float(waking.waiting))
        metrics.gauge("rollcall_tickle_sender_up", "1 while the process that sends tickles is there.", (),
                      lambda: float(self.sender.is_there))
        metrics.total("rollcall_tickle_sets_total", "Sets of connections of dead nodes begun to be woken here.", (),
                      lambda: float(waking.sets))
        metrics.total("rollcall_tickles_sent_total", "Tickles handed to the sender, each connection's repeats too.",
                      (), lambda: float(waking.sent))

    # --- what Redis says, see registrar.clustering.Listener

    def connected(self) -> None:
        """A server can be asked from now on."""
        self.notes.redis_connected()
        self._look_back()

    def changed(self, keys: Sequence[bytes] | None) -> None:
        """Nobody else changes our keys, unless all are gone; those of others are read when they are needed."""
        if keys is None:
            self.notes.redis_connected()

    # --- details

    def _addresses_changed(self) -> None:
        self.waking.look()

    def _workers(self) -> int:
        """Return how many processes of this registrar share the pace."""
        if not self._registrar:
            return 1
        return max(1, sum(node.of == self._registrar for node in self._leases.nodes()))

    def _look_back(self) -> None:
        """See which lives ended before this one began: nobody tells of those.

        This host, or all of them, may have lost power and come back, or this node began when its host got the address.
        Once is enough, but Redis may come back later than we do.
        """
        if self._is_running and not self._has_looked_back:
            Deferred.fromCoroutine(self._look_at_all()).addErrback(self._not_looked)

    async def _look_at_all(self) -> None:
        own, _ = self._life
        for name in {own.encode(), *await self._redis.ask(NAMES, b"SMEMBERS", NAMES)}:
            node = name.decode(errors="replace")
            key = epochs_key(node)
            try:
                noted = await self._redis.ask(key, b"SMEMBERS", key)
            except RedisRefused as problem:
                self._log.warn("{key} is none of ours: {problem}", key=key.decode(errors="replace"),
                               problem=str(problem), log_rationed=True)
                continue
            epochs = [int(each) for each in noted if each.isdigit() and len(each) <= EPOCH_DIGITS]
            ended = [epoch for epoch in epochs if self._is_over(node, epoch)]
            self.waking.ended([(node, epoch) for epoch in ended])
            if node == own and ended:
                await self._redis.ask(key, b"SREM", key, *ended)
        self._has_looked_back = True

    def _is_over(self, node: str, epoch: int) -> bool:
        """Say whether a life has ended; when that is not known yet it is told as soon as it is."""
        own, ours = self._life
        return epoch < ours if node == own else not self._leases.is_living(node, epoch)

    def _not_looked(self, failure: Failure) -> None:
        if failure.check(RedisUnavailable, RedisRefused) is None:
            self._log.failure("while lives that had ended were looked for", failure=failure)
        else:
            self._log.warn("phones of nodes that died before this one began are not woken yet: {why}",
                           why=failure.getErrorMessage())
