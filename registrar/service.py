"""The registrar as a Twisted service: the only place where its parts are joined."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from random import uniform
from signal import SIGHUP, signal
from typing import Any

from attrs import frozen
from twisted.application.service import IService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions

from registrar.admission import Admission
from registrar.api import Contacts
from registrar.auth import Authentication
from registrar.authorising import Callers
from registrar.bound import let_go
from registrar.clustering import Clustering, this_life
from registrar.config import RegistrarConfig
from registrar.gruu import GruuMaker
from registrar.keys import derive, load_or_create_secret
from registrar.location.at_once import Location
from registrar.location.changes import Changes
from registrar.location.held import HeldLocation
from registrar.location.memory import MemoryLocation
from registrar.location.rows import BUSY_SECONDS, Rows
from registrar.location.sqlite import SqliteLocation
from registrar.location.writer import WriterThread
from registrar.observing import Observing, watch, watch_admission
from registrar.proxying import Proxying
from registrar.reconnecting import Reconnecting, watch_reconnecting
from registrar.regevent.conversation import Parts as EventParts
from registrar.regevent.conversation import RegEvents
from registrar.regevent.delivery import Delivery
from registrar.regevent.listing import Listed, watch_events
from registrar.regevent.passing import ToMembers
from registrar.regevent.tags import Tags
from registrar.regevent.watching import Watchers
from registrar.registering import Registering
from registrar.requests import Requests
from registrar.routing import Domains, ServedDomain
from registrar.sending import Sending
from registrar.short_way import ShortWay, Waiting
from registrar.subscribers.sqlite import SqliteSubscribers
from registrar.supervision import WorkersService
from registrar.workers.draining import Draining as Ending
from registrar.workers.member import Membership
from registrar.workers.processes import stop_reactor
from registrar.workers.receiving import Receiving
from rollcall.cluster.leases import Leases
from rollcall.net.flow import Flow, Listener, PackedAddress, unpack_address
from rollcall.net.resolver import Resolver
from rollcall.net.tokens import FlowTokens
from rollcall.net.transactions import Transactions
from rollcall.net.transports import Transports
from rollcall.net.wheel import TimerWheel
from rollcall.ops.admin import AdminSite
from rollcall.ops.collecting import Collecting
from rollcall.ops.config import ConfigError, load
from rollcall.ops.logs import LoggedService
from rollcall.ops.metrics import Metrics
from rollcall.ops.turns import Turns
from rollcall.sip.chance import random_name
from rollcall.sip.scanner import COMPILED


class Options(UsageOptions):
    """twistd registrar [options]"""

    optParameters = [["config", "c", "etc/registrar.toml", "The configuration file (TOML)."]]


@frozen(kw_only=True)
class Parts:
    """What a running registrar is made of, as far as it has to be started and stopped."""

    domains: Domains
    location: Location
    subscribers: SqliteSubscribers
    requests: Requests
    transports: Transports
    wheel: TimerWheel
    admin: AdminSite
    turns: Turns
    collecting: Collecting
    events: RegEvents
    clustering: Clustering | None
    """None when bindings are not shared by Redis."""


class RegistrarService(LoggedService):
    """Starts the stores, then the listeners; stops in the opposite order, so that nothing accepted is lost."""

    _log = Logger()

    def __init__(self, config: RegistrarConfig, parts: Parts, reactor: Any, config_file: Path | None = None,
                 twistd: Mapping[str, Any] | None = None, has_site: bool = True) -> None:
        """`config_file` is read again when SIGHUP comes; `twistd` holds its options, which say where the log goes.

        A worker has no site: what is to be read there its supervisor asks for.
        """
        super().__init__(config.log, twistd)
        self._node = config.registrar.node
        self._parts = parts
        self._reactor = reactor
        self._config_file = config_file
        self._not_ready: str | None = "starting"
        self._starting: Deferred[None] = succeed(None)
        self._is_stopping = False
        self._on_hang_up: Any = None
        parts.admin.ready_when("registrar", lambda: self._not_ready)
        parts.admin.ready_when("location", lambda: parts.location.problem)
        if has_site:
            parts.admin.setServiceParent(self)

    @property
    def not_ready(self) -> str | None:
        """Why this registrar should get no work; None when it should."""
        return self._not_ready or self._parts.location.problem

    def startService(self) -> None:
        """Begin to start; /readyz tells when it is done."""
        super().startService()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._failed)

    async def _start(self) -> None:
        clustering = self._parts.clustering
        await self._parts.subscribers.start()
        await (self._parts.location.start() if clustering is None else clustering.start())
        if self._is_stopping:
            return
        # All that lives as long as the process is there, and nobody waits yet for the collection with which it begins.
        self._parts.collecting.startService()
        self._parts.transports.startService()
        self._parts.turns.setServiceParent(self)  # from the next turn on somebody may wait for its end
        self._not_ready = None
        for listener in self._parts.transports.listeners.values():
            self._parts.domains.answer_at(listener.host, listener.port)
            self._parts.domains.answer_at(_in_uri(listener.local[0]), listener.local[1])
        if clustering is not None:
            clustering.listening()
        if self._config_file is not None:
            self._on_hang_up = signal(SIGHUP, lambda number, frame: self._reactor.callFromThread(self.reload))
        if not COMPILED:
            self._log.info("no compiled modules: what they do is done in Python, at several times the cost")
        served = ", ".join(self._parts.domains.names)
        self._log.info("ready: node {node}, domains {domains}", node=self._node, domains=served)

    def reload(self) -> None:
        """Check the configuration file and show renewed certificates, or keep what is in use and say why (SIGHUP)."""
        assert self._config_file is not None
        try:
            load(self._config_file, RegistrarConfig)
            self._parts.transports.reload_certificates()
            if self._parts.clustering is not None:
                self._parts.clustering.reload_certificates()
        except (ConfigError, ValueError, OSError) as problem:
            self._log.error("nothing was reloaded: {problem}", problem=str(problem))
        else:
            self._log.info("certificates reloaded; what else changed in {file} takes effect at the next start",
                           file=self._config_file)

    def _failed(self, failure: Any) -> None:
        self._not_ready = failure.getErrorMessage()
        self._log.critical("cannot start: {why}", why=failure.getErrorMessage())
        # The supervisor must see that this was no clean end.
        self._reactor.addSystemEventTrigger("after", "shutdown", _exit_with_failure)
        if not self._is_stopping:
            self._reactor.stop()

    async def _stop(self) -> None:
        self._is_stopping = True
        self._not_ready = "stopping"
        # A store that is only half open would leave its thread behind.
        await self._starting
        if self._on_hang_up is not None:
            signal(SIGHUP, self._on_hang_up)
        if self._parts.collecting.running:
            self._parts.collecting.stopService()
        self._parts.events.stop()
        self._parts.requests.stop()
        if self._parts.transports.running:
            await self._parts.transports.stopService()
        clustering = self._parts.clustering
        await (self._parts.location.stop() if clustering is None else clustering.stop())
        await self._parts.subscribers.stop()
        self._parts.wheel.stop()
        await super().stopService()
        self._log.info("stopped")

    def stopService(self) -> "Deferred[None]":
        """Close the flows, write what is still to be written, then end."""
        return Deferred.fromCoroutine(self._stop())


def _exit_with_failure() -> None:
    sys.stdout.flush()
    os._exit(1)


def makeService(options: Options, reactor: Any = None) -> IService:
    """Build every part and join them; nothing listens until startService. Raises SystemExit for a bad configuration."""
    if reactor is None:
        from twisted.internet import reactor
    try:
        config_file = Path(options["config"]).absolute()
        config = load(config_file, RegistrarConfig)
        if config.registrar.workers > 1:
            return WorkersService(config, reactor, config_file, options.parent)
        return RegistrarService(config, build(config, reactor), reactor, config_file, options.parent)
    except (ConfigError, OSError, ValueError) as problem:
        # twistd prints a UsageError with its whole usage; the operator needs the reason alone.
        raise SystemExit(f"The registrar cannot start:\n{problem}") from problem


def build(config: RegistrarConfig, reactor: Any, membership: Membership | None = None) -> Parts:
    """Join the parts that `config` describes; with a `membership` those of one worker."""
    wheel = TimerWheel(reactor)
    now = reactor.seconds
    metrics = Metrics()
    observing = Observing(metrics, now, lambda call: reactor.callLater(0, call))
    config.registrar.data_dir.mkdir(parents=True, exist_ok=True)
    secret = load_or_create_secret(config.path(config.registrar.secret_file, "node.secret"))
    me = membership.me if membership is not None else this_life(config, now())
    siblings = membership.siblings if membership is not None else None
    node, epoch = me.node, me.epoch

    users = config.path(config.subscribers.file, "subscribers.sqlite")
    subscribers = SqliteSubscribers(reactor, users, config.subscribers, observe=observing.of_store("subscribers"))
    changes = Changes(lambda call: reactor.callLater(0, call))

    def release_flow(flow_id: int, key: bytes) -> None:
        flow = transports.flow(flow_id)
        if flow is not None:
            let_go(flow, key)

    clustering = None
    if config.location.kind == "redis":
        clustering = Clustering(config, reactor, wheel, me, changes, release_flow, lambda why: _fall(reactor, why))
    location = _location(config, reactor, wheel, membership, changes) if clustering is None else clustering.location
    gruus = GruuMaker([derive(secret, "gruu")])
    domains = Domains(ServedDomain(domain.name, domain.aliases) for domain in config.domains)
    authentication = _authentication(config, subscribers, secret)

    def retry_after() -> int:
        most = config.registrar.retry_after_seconds
        return max(1, round(uniform(most / 2, most)))

    transactions = Transactions(wheel, config.transactions, random_name, observing.answered)
    admission = Admission(config.admission)
    requests = Requests(transactions, domains, observing.malformed, admission, retry_after, now)
    receiving = Receiving(requests, siblings) if siblings is not None else None
    transports = Transports(reactor, wheel, receiving or requests, config.net)
    token_keys = [derive(secret, "flow tokens")]
    # Above Redis a worker is a node like any other: its siblings are known by their leases.
    tokens = FlowTokens(token_keys, node, epoch, transports.flow, transports.datagram_flow,
                        siblings if clustering is None else None)
    if clustering is not None:
        clustering.serve(transports, secret, lambda: False)
    leases = clustering.leases if clustering is not None else None

    registering = Registering(
        domains=domains, location=location, authentication=authentication, gruus=gruus, config=config.bindings,
        node=node, epoch=epoch, find_flow=transports.flow, now=now, retry_after=retry_after, observing=observing,
        refuses_new=lambda: False)
    callers = Callers(domains, authentication, config.proxy, domains.names[0], now, observing.authenticated)
    sending = Sending(transports, Resolver(reactor, config.resolver), transactions, tokens, siblings, leases,
                      clustering.members if clustering is not None else None)
    reconnecting = _reconnecting(config, location, wheel, now, changes, leases)
    proxying = Proxying(
        domains=domains, location=location, callers=callers, exists=subscribers.exists, gruus=gruus, tokens=tokens,
        transactions=transactions, sender=sending, config=config.proxy, now=now, retry_after=retry_after,
        ended=observing.call_ended, reconnecting=reconnecting)
    short_way = ShortWay(
        domains=domains, location=location, authentication=authentication, admits=admission.admits,
        refuse=requests.refuse_register, config=config.bindings, node=node, epoch=epoch, transactions=transactions,
        now=now, observing=observing, refuses_new=lambda: False,
        waiting=None if clustering is None else _waiting(clustering, requests, transports, registering))
    requests.serve(transports, short_way, registering, proxying)
    transactions.user = requests
    watchers = Watchers(domains, authentication, config.regevent, now, observing.authenticated)
    delivery = Delivery(transports, sending, transactions, me.index)
    cluster: dict[str, Any] = {} if clustering is None else {
        "is_living": clustering.leases.is_living,
        "elsewhere": ToMembers(clustering.leases.is_living, clustering.flow_to, delivery, retry_after)}
    events = RegEvents(
        EventParts(domains=domains, location=location, changes=changes, watchers=watchers, exists=subscribers.exists,
                   gruus=gruus, tags=Tags(derive(secret, "subscriptions"), node, epoch), delivery=delivery, wheel=wheel,
                   later=lambda call: reactor.callLater(0, call), retry_after=retry_after, refuses_new=lambda: False,
                   **cluster),
        config.regevent, node, epoch)
    requests.serve_events(events)

    admin = AdminSite(reactor, config.admin, metrics)
    Contacts(location, now, lambda: deferLater(reactor, 0)).mount(admin.routes)
    Listed(events, now).mount(admin.routes)
    watch_events(metrics, events)
    watch(metrics, location, transports, transactions)
    watch_admission(metrics, admission)
    watch_reconnecting(metrics, reconnecting)
    if membership is not None and receiving is not None:
        ending = Ending(
            wheel, transports, receiving.pass_on, lambda: transactions.unfinished + membership.siblings.held_here,
            config.workers.drain_seconds, lambda: stop_reactor(reactor))
        held = location if isinstance(location, HeldLocation) else None
        membership.siblings.serve(transports, transactions, requests, held)
        membership.serve(held, admin.routes, ending.begin)
    turns = Turns(reactor, metrics, config.log.slow_turn_seconds, config.limits.max_ready_per_turn)
    return Parts(domains=domains, location=location, subscribers=subscribers, requests=requests, transports=transports,
                 wheel=wheel, admin=admin, turns=turns, collecting=Collecting(metrics), events=events,
                 clustering=clustering)


def _in_uri(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _fall(reactor: Any, why: str) -> None:
    """End this process, so that whoever watches it starts it anew."""
    Logger().critical("this process ends: {why}", why=why)
    reactor.addSystemEventTrigger("after", "shutdown", _exit_with_failure)
    stop_reactor(reactor)


def _waiting(clustering: Clustering, requests: Requests, transports: Transports, registering: Registering) -> Waiting:
    def flow_to(listener: Listener, address: PackedAddress) -> Flow | None:
        return transports.datagram_flow(listener.name, *unpack_address(address))

    return Waiting(clustering.location, requests.message_received, flow_to, registering.flow_closed)


def _reconnecting(config: RegistrarConfig, location: Location, wheel: TimerWheel, now: Callable[[], float],
                  changes: Changes, leases: Leases | None) -> Reconnecting:
    if leases is None:
        return Reconnecting(location=location, wheel=wheel, now=now)
    return Reconnecting(
        location=location, wheel=wheel, now=now, cluster=leases, changes=changes,
        wait_seconds=config.cluster.reconnect_wait, max_waiting=config.cluster.max_reconnect_waiting)


def _location(config: RegistrarConfig, reactor: Any, wheel: TimerWheel, membership: Membership | None,
              changes: Changes) -> Location:
    if membership is None:
        return _store(config, reactor, wheel, False, lambda key: None, changes)

    def forgotten(key: bytes) -> None:
        held.forgotten(key)

    store = _store(config, reactor, wheel, True, forgotten, changes)
    held = HeldLocation(store, membership, membership.me.node, wheel, reactor.seconds, config.workers,
                        membership.siblings.release)
    return held


def _store(config: RegistrarConfig, reactor: Any, wheel: TimerWheel, shared: bool,
           forgotten: Callable[[bytes], None], changes: Changes) -> MemoryLocation | SqliteLocation:
    if config.location.kind == "memory":
        return MemoryLocation(wheel, reactor.seconds, forgotten=forgotten, changes=changes)
    busy_seconds = config.workers.patience_seconds if shared else BUSY_SECONDS
    rows = Rows(config.path(config.location.file, "location.sqlite"), config.location.synchronous, busy_seconds)
    return SqliteLocation(rows, WriterThread(reactor, "location"), wheel, reactor.seconds, config.location.max_waiting,
                          shared, forgotten, changes)


def _authentication(config: RegistrarConfig, subscribers: SqliteSubscribers, secret: bytes) -> Authentication | None:
    if not config.auth.required:
        return None
    return Authentication.with_secrets(subscribers.find, [derive(secret, "nonces")], config.auth, subscribers.peek)
