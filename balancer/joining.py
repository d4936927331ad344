"""How the parts of a balancer are joined; `balancer.service` starts and stops them."""

from random import random
from socket import gethostname
from typing import Any

from twisted.internet.task import LoopingCall

from balancer.api import BalancerApi, StateApi
from balancer.config import BalancerConfig
from balancer.ingest.api import ReportsApi
from balancer.ingest.intake import Intake
from balancer.ingest.listening import IngestListeners
from balancer.ingest.observing import watch_ingest
from balancer.nodes.api import NodesApi
from balancer.nodes.asking import AskingByKind, AskingByNg, AskingByOptions
from balancer.nodes.observing import watch_nodes
from balancer.nodes.polling import Polling
from balancer.nodes.registry import Nodes
from balancer.nodes.saying import Saying
from balancer.observing import watch_hearing, watch_sharing
from balancer.placing import Placing
from balancer.present import Present
from balancer.quality.hearing import Hearing
from balancer.redirect import Redirect
from balancer.sharing import Sharing
from balancer.tenants import Tenants
from rollcall.media.access import AccessGroups
from rollcall.media.ng import NgClient
from rollcall.media.reports import Counts, Report
from rollcall.ops.admin import AdminSite
from rollcall.ops.metrics import Metrics
from rollcall.ops.turns import Turns

COUNT_SECONDS = 1.0
"""How often other balancers are told how many calls were placed here, as registrars tell theirs."""


class Parts:
    """What a balancer is made of. Raises ValueError when a file of [access] cannot be used."""

    def __init__(self, config: BalancerConfig, reactor: Any) -> None:
        self.name = config.standby.name or f"{gethostname()}:{config.admin.port}"
        self.metrics = Metrics()
        self.admin = AdminSite(reactor, config.admin, self.metrics)
        self._now = reactor.seconds
        self.sharing = Sharing(config, reactor, self.name) if config.publication.enabled else None
        redis = self.sharing.redis if self.sharing is not None else None
        self.groups = AccessGroups(config.access)
        self.nodes = Nodes(config.nodes, config.polling)
        self.saying = Saying(reactor, self.nodes, redis)
        self.ng = NgClient(reactor)
        self.options = AskingByOptions(reactor, config.polling.options_hosts)
        self.polling = Polling(reactor, self.nodes, AskingByKind(AskingByNg(self.ng), self.options), random)
        self.hearing = Hearing(
            config.quality, self.groups.group, lambda name: self.nodes.media_node(name, self._now()))
        self.placing = Placing(config.placements, random)
        self.tenants = Tenants(reactor, config.tenants, redis)
        self.present = Present(
            reactor, self._now, config.publication.publish_seconds, config.rule, self.nodes.nodes, self.hearing.paths,
            lambda: self.hearing.priors, lambda: self.tenants.groups)
        self.intake = Intake(config.ingest, self.nodes, self._heard, self._now)
        self.listeners = IngestListeners(reactor, config.ingest, self.intake)
        self.redirect: Redirect | None = None
        if config.redirect.listeners:
            self.redirect = Redirect(
                reactor, config.redirect, self.placing, self.groups.group, self.metrics, random)
        self.turns = Turns(reactor, self.metrics, config.log.slow_turn_seconds)
        self.counting = LoopingCall(self._count)
        self.counting.clock = reactor
        self._join()
        self._be_watched()

    def _join(self) -> None:
        present = self.present
        present.on_snapshot.append(lambda snapshot: self.placing.follow(snapshot, self._now()))
        self.nodes.on_change.append(present.hurry)
        self.tenants.on_change.append(present.hurry)
        if self.sharing is not None:
            self.sharing.join(self.nodes, present, self._heard_of)

    def _be_watched(self) -> None:
        routes, metrics, now = self.admin.routes, self.metrics, self._now
        BalancerApi(self.placing, metrics, now, self.groups.group, lambda: self.nodes.shown(now()),
                    lambda: self.hearing.shown(now())).mount(routes)
        NodesApi(self.nodes, self.saying, now).mount(routes)
        ReportsApi(self.intake, self.nodes, now).mount(routes)
        self.tenants.mount(routes)
        sharing = self.sharing
        shown = (None, None) if sharing is None else (sharing.mastership, sharing.publication)
        StateApi(self.name, metrics, *shown).mount(routes)
        watch_nodes(self.nodes, metrics, now)
        watch_ingest(metrics, self.intake, self.listeners.connections)
        watch_hearing(metrics, self.hearing)
        if sharing is not None:
            watch_sharing(metrics, sharing)

    # --- what happens

    def _heard(self, report: Report) -> None:
        """Take a report that came to us, and tell the other balancers."""
        self._heard_of(report)
        if self.sharing is not None:
            self.sharing.telling.tell(report)

    def _heard_of(self, report: Report) -> None:
        """Take a report that somebody has told us of, or that came to us."""
        if isinstance(report, Counts):
            self.nodes.counted(report, self._now())
        else:
            self.hearing.heard(report, self._now())

    def _count(self) -> None:
        calls = self.placing.calls(self._now())
        if calls:
            self._heard(Counts(at=self._now(), registrar=self.name, calls=dict(calls)))
