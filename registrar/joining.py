"""How the parts of a registrar are joined: each step makes what the next ones need. `registrar.service` runs them."""

from collections.abc import Callable, Iterable
from random import uniform
from typing import Any

from attrs import frozen
from twisted.internet.task import deferLater
from twisted.logger import Logger

from registrar.admission import Admission
from registrar.answering_later import AnsweringLater
from registrar.api import Contacts
from registrar.auth import Authentication
from registrar.authorising import Callers
from registrar.bans_api import BansListed
from registrar.bound import let_go
from registrar.cluster_api import Alone, Flows, Nodes
from registrar.clustering import Clustering, faces, this_life
from registrar.config import RegistrarConfig
from registrar.databases import Databases
from registrar.distributing import Around, Distribution
from registrar.distribution.health.room import room
from registrar.draining import Draining
from registrar.forking import Fork
from registrar.gruu import GruuMaker
from registrar.guarding import Guarding, watch_bans
from registrar.keys import derive, load_or_create_secret
from registrar.location.at_once import Location
from registrar.location.changes import Changes
from registrar.location.held import HeldLocation
from registrar.location_parts import make_location
from registrar.media_parts import MediaParts
from registrar.observing import Observing, watch, watch_admission
from registrar.observing_nodes import watch_draining, watch_nodes
from registrar.observing_redis import watch_redis
from registrar.owners import Cluster, OneNode, living
from registrar.proxying import Proxying
from registrar.reconnecting import Reconnecting, watch_reconnecting
from registrar.records import Binding
from registrar.regevent.conversation import Parts as EventParts
from registrar.regevent.conversation import RegEvents
from registrar.regevent.delivery import Delivery
from registrar.regevent.listing import Listed, watch_events
from registrar.regevent.passing import Elsewhere, Nowhere, ToMembers
from registrar.regevent.tags import Tags
from registrar.regevent.watching import Watchers
from registrar.registering import Registering
from registrar.requests import Requests
from registrar.routing import Domains, ServedDomain
from registrar.sending import Sending
from registrar.shedding import Shedding, watch_shedding
from registrar.short_way import ShortWay
from registrar.sites.links import SiteLinks, SiteParts
from registrar.sites.listing import SitesListed, watch_sites
from registrar.strays import Strays
from registrar.subscribers.store import CachedSubscribers
from registrar.subscribers_api import Users
from registrar.workers.draining import Draining as Ending
from registrar.workers.member import Membership
from registrar.workers.processes import exit_with_failure, stop_reactor
from registrar.workers.receiving import Receiving
from rollcall.cluster.nodes import Node
from rollcall.cluster.sites import OnePlace, Sites
from rollcall.net.flow import PORT_BYTES, Flow, Listener, PackedAddress, unpack_address
from rollcall.net.resolver import Resolver
from rollcall.net.tokens import FlowTokens
from rollcall.net.transactions import ServerTransaction, Transactions
from rollcall.net.transports import Transports
from rollcall.net.wheel import TimerWheel
from rollcall.ops.admin import AdminSite
from rollcall.ops.collecting import Collecting
from rollcall.ops.metrics import Metrics
from rollcall.ops.turns import Turns
from rollcall.sip.chance import random_name


@frozen(kw_only=True)
class Parts:
    """What a running registrar is made of, as far as it has to be started and stopped."""

    domains: Domains
    location: Location
    databases: Databases
    requests: Requests
    transports: Transports
    wheel: TimerWheel
    admin: AdminSite
    turns: Turns
    collecting: Collecting
    events: RegEvents
    draining: Draining
    distribution: Distribution
    clustering: Clustering | None
    """None when bindings are not shared by Redis."""
    media: MediaParts | None
    """None when calls do not go through media nodes."""
    links: SiteLinks | None
    """None when there is no other site."""


def build(config: RegistrarConfig, reactor: Any, membership: Membership | None = None) -> Parts:
    """Join the parts that `config` describes; with a `membership` those of one worker."""
    joining = _Joining(config, reactor, membership)
    joining.keep_bindings()
    joining.reach_phones()
    joining.register()
    joining.forward()
    joining.tell_of_registrations()
    joining.distribute()
    joining.be_watched()
    return joining.parts()


class _Joining:
    """A registrar's parts while they are joined."""

    def __init__(self, config: RegistrarConfig, reactor: Any, membership: Membership | None) -> None:
        self.config = config
        self.reactor = reactor
        self.membership = membership
        self.siblings = membership.siblings if membership is not None else None
        self.wheel = TimerWheel(reactor)
        self.now = reactor.seconds
        self.started_at = self.now()
        self.metrics = Metrics()
        self.observing = Observing(self.metrics, self.now, self.later)
        config.registrar.data_dir.mkdir(parents=True, exist_ok=True)
        self.secret = load_or_create_secret(config.path(config.registrar.secret_file, "node.secret"))
        self.me = membership.me if membership is not None else this_life(config, self.now())
        self.domains = Domains(ServedDomain(domain.name, domain.aliases) for domain in config.domains)
        self.gruus = GruuMaker([derive(self.secret, "gruu")])

    def later(self, call: Callable[[], None]) -> object:
        """Call in a later turn of the reactor."""
        return self.reactor.callLater(0, call)

    def retry_after(self) -> int:
        """Return the seconds for Retry-After: others for each, so that phones do not return together."""
        most = self.config.registrar.retry_after_seconds
        return max(1, round(uniform(most / 2, most)))

    def wants_nobody(self) -> bool:
        """Say whether phones shall go elsewhere, be it that this node drains or that it cannot keep their bindings."""
        return self.draining.is_draining or self.location.problem is not None

    def refuses_new(self) -> bool:
        """Say whether phones shall move over to other nodes now."""
        return self.draining.refuses_new

    def there(self, bindings: Iterable[Binding]) -> tuple[Binding, ...]:
        """Return the bindings but those that ended with their node."""
        return living(bindings, self.cluster)

    # --- the steps

    def keep_bindings(self) -> None:
        """Make the stores of bindings and subscribers."""
        config, reactor = self.config, self.reactor
        self.changes = Changes(self.later)
        self.clustering: Clustering | None = None
        self.location: Location
        if config.location.kind == "redis":
            self.clustering = Clustering(config, reactor, self.wheel, self.me, self.changes, self._release_flow,
                                         lambda why: _fall(reactor, why))
            self.location = self.clustering.location
        else:
            self.location = make_location(config, reactor, self.wheel, self.membership, self.changes)
        self.databases = Databases(
            config, reactor, self.domains, self.observing, self.me.node, self.secret, self.clustering)
        self.guarding = Guarding(config.bans, self.location)
        self.authentication = _authentication(config, self.databases.subscribers, self.guarding, self.secret)

    def reach_phones(self) -> None:
        """Make what carries messages."""
        config, me, clustering = self.config, self.me, self.clustering
        self.transactions = Transactions(self.wheel, config.transactions, random_name, self.observing.answered)
        self.admission = Admission(config.admission)
        self.requests = Requests(self.transactions, self.domains, self.observing.malformed, self.admission,
                                 self.retry_after, self.now)
        self.receiving = Receiving(self.requests, self.siblings) if self.siblings is not None else None
        self.transports = Transports(self.reactor, self.wheel, self.receiving or self.requests, config.net)
        # Above Redis a worker is a node like any other: its siblings are known by their leases.
        self.tokens = FlowTokens(
            [derive(self.secret, "flow tokens")], me.node, me.epoch, self.transports.flow,
            self.transports.datagram_flow, self.siblings if clustering is None else None)
        self.draining = Draining(self.wheel, self.transports, lambda: self.transactions.waited_on, config.cluster)
        self.cluster: Cluster = OneNode()
        self.sites: Sites = OnePlace()
        self.links: SiteLinks | None = None
        if clustering is not None:
            clustering.serve(self.transports, self.secret, self.draining)
            self.cluster = clustering.leases
            if len(config.sites) > 1:
                self.sites = self.links = self._links(clustering)
        self.sending = Sending(
            self.transports, Resolver(self.reactor, config.resolver), self.transactions, self.tokens, self.siblings,
            self.links.cluster if self.links is not None else self.cluster,
            self.links or (clustering.members if clustering is not None else None))

    def register(self) -> None:
        """Make what answers REGISTER, whole and at once."""
        config, me = self.config, self.me
        self.registering = Registering(
            domains=self.domains, location=self.location, authentication=self.authentication, gruus=self.gruus,
            config=config.bindings, node=me.node, epoch=me.epoch, find_flow=self.transports.flow, now=self.now,
            retry_after=self.retry_after, observing=self.observing, refuses_new=self.refuses_new, there=self.there,
            left=self.guarding.left)
        self.short_way = ShortWay(
            domains=self.domains, location=self.location, authentication=self.authentication,
            admits=self.admission.admits, refuse=self.requests.refuse_register, config=config.bindings, node=me.node,
            epoch=me.epoch, transactions=self.transactions, now=self.now, observing=self.observing,
            later=self._answering_later(), refuses_new=self.refuses_new)
        self.shedding = self._shedding()

    def forward(self) -> None:
        """Make what forwards all other requests, and hand them to it."""
        config, shared = self.config, self.clustering is not None
        self.reconnecting = Reconnecting(
            location=self.location, wheel=self.wheel, now=self.now,
            cluster=self.links.cluster if self.links is not None else self.cluster, changes=self.changes,
            wait_seconds=config.cluster.reconnect_wait if shared else 0.0,
            max_waiting=config.cluster.max_reconnect_waiting, elsewhere=self.links)
        self.media: MediaParts | None = None
        if config.media.enabled:
            self.media = MediaParts(config, self.reactor, self.me, self.wheel, self.domains, self.clustering,
                                    self.retry_after)
            self.databases.place_calls(self.media.node_of_call)
        callers = Callers(self.domains, self.authentication, config.proxy, self.domains.names[0], self.now,
                          self.observing.authenticated)
        proxying = Proxying(
            domains=self.domains, location=self.location, callers=callers,
            exists=self.databases.subscribers.exists,
            gruus=self.gruus, tokens=self.tokens, transactions=self.transactions, sender=self.sending,
            config=config.proxy, now=self.now, retry_after=self.retry_after, ended=self._call_ended,
            refused=self._call_refused, reconnecting=self.reconnecting, wants_nobody=self.wants_nobody,
            diverting=self.databases.diverting, media=self.media.calls if self.media is not None else None)
        self.requests.serve(self.transports, self.short_way, self.registering, proxying)
        self.transactions.user = self.requests
        if self.links is not None:
            self.requests.serve_sites(self.links.answering)
        if self.media is not None:
            self.media.speak(proxying.dialogs, self.sending, self.transactions, proxying.follow)
            self.requests.serve_reports(self.media.publishing(self.authentication, self.observing.authenticated))

    def tell_of_registrations(self) -> None:
        """Make what answers subscriptions to the reg event package."""
        config, me, clustering = self.config, self.me, self.clustering
        watchers = Watchers(self.domains, self.authentication, config.regevent, self.now, self.observing.authenticated)
        delivery = Delivery(self.transports, self.sending, self.transactions, me.index)
        elsewhere: Elsewhere = Nowhere()
        if clustering is not None:
            elsewhere = ToMembers(self.cluster.is_living, clustering.flow_to, delivery, self.retry_after)
        self.events = RegEvents(EventParts(
            domains=self.domains, location=self.location, changes=self.changes, watchers=watchers,
            exists=self.databases.subscribers.exists, gruus=self.gruus, delivery=delivery, wheel=self.wheel,
            later=self.later, tags=Tags(derive(self.secret, "subscriptions"), me.node, me.epoch),
            retry_after=self.retry_after, refuses_new=self.refuses_new, is_living=self.cluster.is_living,
            elsewhere=elsewhere,
        ), config.regevent, me.node, me.epoch)
        self.requests.serve_events(self.events)
        pace = config.cluster.drain_flows_per_second
        self.draining.on_leave.append(lambda: self.events.leave(pace))
        if clustering is not None:
            clustering.leases.on_change.append(self.events.nodes_ended)

    def distribute(self) -> None:
        """Make what brings phones here, and has them come back."""
        self.distribution = Distribution(self.config, Around(
            reactor=self.reactor, wheel=self.wheel, me=self.me, transports=self.transports,
            location=self.location, draining=self.draining, waited_on=lambda: self.transactions.waited_on,
            clustering=self.clustering, sites=self.sites, access=self.media.access if self.media is not None else None,
            rate=lambda: 0.0 if self.wants_nobody() else self.shedding.pace()))

    def be_watched(self) -> None:
        """Make what operators look at, and with workers what the supervisor speaks to."""
        self.admin = AdminSite(self.reactor, self.config.admin, self.metrics)
        nodes = Nodes(self.clustering.leases if self.clustering is not None else Alone(self._this, self.draining.wish),
                      self.me.node, lambda: self.draining.left)
        nodes.mount(self.admin.routes)
        Flows(self.transports, self.location, self.me.node).mount(self.admin.routes)
        Contacts(self.location, self.now, lambda: deferLater(self.reactor, 0), self.there, nodes.named).mount(
            self.admin.routes)
        Listed(self.events, self.now).mount(self.admin.routes)
        BansListed(self.guarding.bans, self.now).mount(self.admin.routes)
        Users(self.databases.subscribers).mount(self.admin.routes)
        self.databases.watch(self.metrics)
        watch_bans(self.metrics, self.guarding.bans, self.now)
        watch_events(self.metrics, self.events)
        watch(self.metrics, self.location, self.transports, self.transactions)
        watch_admission(self.metrics, self.admission)
        watch_shedding(self.metrics, self.shedding)
        watch_reconnecting(self.metrics, self.reconnecting)
        watch_draining(self.metrics, self.draining)
        self.distribution.watch(self.metrics, self.admin.routes)
        if self.media is not None:
            self.media.watch(self.metrics, self.admin.routes)
        SitesListed(self.sites, self.links, self.config.cluster.site, self.now).mount(self.admin.routes)
        if self.links is not None:
            watch_sites(self.metrics, self.links)
        if self.clustering is not None:
            watch_redis(self.metrics, self.clustering.location, self.clustering.redis)
            janitor = self.clustering.janitor
            watch_nodes(self.metrics, self.clustering.leases, lambda: janitor.removed)
        membership, receiving = self.membership, self.receiving
        if membership is not None and receiving is not None:
            siblings = membership.siblings
            ending = Ending(
                self.wheel, self.transports, receiving.pass_on,
                lambda: self.transactions.unfinished + siblings.held_here, self.config.workers.drain_seconds,
                lambda: stop_reactor(self.reactor))
            held = self.location if isinstance(self.location, HeldLocation) else None
            siblings.serve(self.transports, self.transactions, self.requests, held)
            membership.serve(held, self.admin.routes, ending.begin)
        if self.clustering is not None:
            strays = Strays(
                self.me.node, self.clustering.leases.nodes, self.clustering.members,
                lambda flow: self.admission.in_calls.admits(flow.address[PORT_BYTES:], self.now()),
                self.transactions.hand_over)
            self.transactions.hand_over = strays.hand_over

    def _this(self) -> Node:
        """Return what there is to say of a node that has no lease."""
        return Node(
            node=self.me.node, epoch=self.me.epoch, host="", port=0, started_at=self.started_at,
            draining=self.draining.is_draining, faces=faces(self.transports), admin=self.config.admin.url,
            of=self.config.registrar.node if self.me.index else "", site=self.config.cluster.site,
            capacity=room(self.config.cluster.capacity), connections=self.distribution.connections(),
            weight=self.distribution.standing.weight())

    def parts(self) -> Parts:
        """Return what was made."""
        config = self.config
        turns = Turns(self.reactor, self.metrics, config.log.slow_turn_seconds, config.limits.max_ready_per_turn)
        return Parts(
            domains=self.domains, location=self.location, databases=self.databases, requests=self.requests,
            transports=self.transports, wheel=self.wheel, admin=self.admin, turns=turns,
            collecting=Collecting(self.metrics), events=self.events, draining=self.draining,
            distribution=self.distribution, clustering=self.clustering, media=self.media, links=self.links)

    # --- details

    def _links(self, clustering: Clustering) -> SiteLinks:
        return SiteLinks(SiteParts(
            sites=self.config.sites, config=self.config.cluster, me=(self.me.node, self.me.epoch),
            members=clustering.members, nodes=clustering.leases.nodes, cluster=clustering.leases,
            location=clustering.location, transactions=self.transactions, now=self.now, worker=self.me.index))

    def _call_ended(self, fork: Fork, status: int) -> None:
        self.observing.call_ended(fork, status)
        if self.databases.notes is not None:
            self.databases.notes.ended(fork, status)

    def _call_refused(self, server: ServerTransaction, status: int) -> None:
        if self.databases.notes is not None:
            self.databases.notes.refused(server, status)

    def _release_flow(self, flow_id: int, key: bytes) -> None:
        flow = self.transports.flow(flow_id)
        if flow is not None:
            let_go(flow, key)

    def _shedding(self) -> Shedding:
        config, observing = self.config, self.observing
        shedding = Shedding(
            config.avalanche, config.bindings.expiry_jitter, domains=self.domains, records=self.location.records,
            authentication=self.authentication, has_left=self.guarding.has_left, admits=self.admission.admits,
            now=self.now, answered=observing.registers_answered, later=self.wheel.call_later)
        shedding.on_jitter += [self.registering.spread, self.short_way.spread]
        self.requests.shed_by(shedding)
        self.transports.tell_of_waits(shedding.load.waited)
        observing.bound_first, observing.register_took = shedding.bound_first, shedding.load.answer_took
        return shedding

    def _answering_later(self) -> AnsweringLater | None:
        if self.clustering is None:
            return None
        return AnsweringLater(
            location=self.clustering.location, authentication=self.authentication,
            whole_way=self.requests.message_received, answer=self.transports.answer_datagram, flow_to=self._flow_to,
            flow_closed=self.registering.flow_closed)

    def _flow_to(self, listener: Listener, address: PackedAddress) -> Flow | None:
        return self.transports.datagram_flow(listener.name, *unpack_address(address))


def _fall(reactor: Any, why: str) -> None:
    """End this process, so that whoever watches it starts it anew."""
    Logger().critical("this process ends: {why}", why=why)
    reactor.addSystemEventTrigger("after", "shutdown", exit_with_failure)
    stop_reactor(reactor)


def _authentication(config: RegistrarConfig, subscribers: CachedSubscribers, guarding: Guarding,
                    secret: bytes) -> Authentication | None:
    if not config.auth.required:
        return None
    return Authentication.with_secrets(
        subscribers.find, [derive(secret, "nonces")], config.auth, subscribers.peek, subscribers.look_again, guarding)
