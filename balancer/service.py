"""The balancer as a twistd service: `twistd -n balancer --config etc/balancer.toml`."""

from random import random
from typing import Any

from twisted.python import usage

from balancer.api import BalancerApi
from balancer.config import BalancerConfig
from balancer.placing import Nodes
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
    nodes = Nodes(config.nodes, config.placements, random)
    admin = AdminSite(reactor, config.admin, metrics)
    BalancerApi(nodes, metrics, reactor.seconds).mount(admin.routes)
    service = LoggedService(config.log, getattr(options, "parent", None))
    admin.setServiceParent(service)
    Turns(reactor, metrics, config.log.slow_turn_seconds).setServiceParent(service)
    return service
