"""Tickles, joined: connections are noted, nodes that have ended and addresses that have come are heard of."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.distribution.tickle.addresses import AddressWatch
from registrar.distribution.tickle.config import TickleConfig
from registrar.distribution.tickle.keys import epochs_key
from registrar.distribution.tickle.noting import FlowNotes
from registrar.distribution.tickle.sending import SenderLink
from registrar.distribution.tickle.waking import Waking
from rollcall.cluster.leases import Leases
from rollcall.cluster.lives import Epoch
from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable
from rollcall.net.transports import Transports
from rollcall.ops.metrics import Metrics


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
        self._is_running = self._knows_own = False
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
        self._look_for_own()

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
        self._look_for_own()

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

    def _look_for_own(self) -> None:
        """Once is enough, for what has ended since is told; but Redis may come back later than we do."""
        if self._is_running and not self._knows_own:
            Deferred.fromCoroutine(self._remember_own()).addErrback(self._not_remembered)

    async def _remember_own(self) -> None:
        """Wake the phones of former lives of this very node, too: its host may have lost power and come back."""
        node, epoch = self._life
        key = epochs_key(node)
        found = await self._redis.ask(key, b"SMEMBERS", key)
        former = [int(each) for each in found if each.isdigit()]
        for each in former:
            if each < epoch:
                self.waking.ended([(node, each)])
                await self._redis.ask(key, b"SREM", key, str(each))
        self._knows_own = True

    def _not_remembered(self, failure: Failure) -> None:
        if failure.check(RedisUnavailable, RedisRefused) is None:
            self._log.failure("while former lives of this node were looked for", failure=failure)
        else:
            self._log.warn("phones of former lives of this node are not woken yet: {why}",
                           why=failure.getErrorMessage())
