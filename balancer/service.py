"""The balancer as a twistd service: `twistd -n balancer --config etc/balancer.toml`."""

from random import random
from time import time
from typing import Any

from twisted.python import usage

from balancer.api import BalancerApi
from balancer.config import BalancerConfig
from balancer.nodes.registry import Nodes
from balancer.placing import Placing
from balancer.present import Present
from balancer.quality.hearing import Hearing
from balancer.tenants import Tenants
from rollcall.media.access import AccessGroups
from rollcall.ops.admin import AdminSite
from rollcall.ops.config import ConfigError, load
from rollcall.ops.logs import LoggedService
from rollcall.ops.metrics import Metrics
from rollcall.ops.turns import Turns


class Options(usage.Options):
    """What `twistd balancer` takes."""

    synopsis = "[options]"
    longdesc = "Answers which media node a call should go to."
    optParameters = [["config", "c", "etc/balancer.toml", "The configuration file"]]


def makeService(options: Options, reactor: Any = None) -> LoggedService:
    """Build every part and join them; nothing listens until startService."""
    if reactor is None:
        from twisted.internet import reactor
    try:
        config = load(options["config"], BalancerConfig)
    except ConfigError as error:
        raise SystemExit(f"The balancer cannot start:\n{error}") from error
    metrics = Metrics()
    admin = AdminSite(reactor, config.admin, metrics)
    nodes = Nodes(config.nodes, config.polling)
    groups = AccessGroups(config.access)
    hearing = Hearing(config.quality, groups.group, lambda name: nodes.nodes(time()).get(name))
    placing = Placing(config.placements, random)
    tenants = Tenants(reactor, config.tenants, None)
    present = Present(reactor, time, config.publication.publish_seconds, config.rule, nodes.nodes, hearing.paths,
                      lambda: hearing.priors, lambda: tenants.groups)
    present.on_snapshot.append(lambda snapshot: placing.follow(snapshot, reactor.seconds()))
    nodes.on_change.append(present.hurry)
    tenants.on_change.append(present.hurry)
    BalancerApi(placing, metrics, reactor.seconds, groups.group, lambda: nodes.shown(time()),
                lambda: hearing.shown(time())).mount(admin.routes)
    tenants.mount(admin.routes)
    service = LoggedService(config.log, getattr(options, "parent", None))
    present.setServiceParent(service)
    admin.setServiceParent(service)
    Turns(reactor, metrics, config.log.slow_turn_seconds).setServiceParent(service)
    return service
