"""The balancer as a twistd service: `twistd -n balancer --config etc/balancer.toml`."""

import sys
from pathlib import Path
from signal import SIGHUP, signal
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python import usage

from balancer.config import BalancerConfig
from balancer.describing import described
from balancer.joining import COUNT_SECONDS, Parts
from rollcall.ops.config import ConfigError, load
from rollcall.ops.logs import LoggedService


class Options(usage.Options):
    """What `twistd balancer` takes."""

    synopsis = "[options]"
    longdesc = "Answers which media node a call should go to."
    optParameters = [["config", "c", "etc/balancer.toml", "The configuration file"]]
    optFlags = [["check", None, "Only say what the configuration would do, and what is wrong with it"]]


class BalancerService(LoggedService):
    """Starts what asks and listens, then the admin site; stops in the opposite order."""

    _log = Logger()

    def __init__(self, config: BalancerConfig, parts: Parts, reactor: Any, config_file: Path,
                 twistd: Any = None) -> None:
        """`config_file` is checked again when SIGHUP comes; `twistd` holds its options: where the log goes."""
        super().__init__(config.log, twistd)
        self._parts = parts
        self._reactor = reactor
        self._config_file = config_file
        self._on_hang_up: Any = None
        parts.admin.ready_when("nodes", lambda: None if parts.nodes.is_settled else "not every node was asked yet")
        if config.ingest.hep_udp or config.ingest.hep_tcp or config.ingest.rtcp:
            parts.listeners.setServiceParent(self)
        if parts.redirect is not None:
            parts.redirect.setServiceParent(self)
        for service in (parts.saying.sharing, parts.polling, parts.present, parts.admin, parts.turns):
            service.setServiceParent(self)

    def startService(self) -> None:
        """Begin to ask nodes, to listen and to publish."""
        if self._parts.sharing is not None:
            self._parts.sharing.start()
        else:
            self._log.info("registrars and other balancers hear nothing of this one: [publication] enabled is false")
        self._parts.tenants.start()
        super().startService()
        self._parts.counting.start(COUNT_SECONDS)
        self._on_hang_up = signal(SIGHUP, lambda number, frame: self._reactor.callFromThread(self.reload))

    def stopService(self) -> "Deferred[None]":
        """Give the lease back, so that a standby takes over at once, then let go of everything."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        parts = self._parts
        signal(SIGHUP, self._on_hang_up)
        parts.counting.stop()
        parts.present.stopService()
        if parts.sharing is not None:
            await parts.sharing.leave()
        await parts.tenants.stop()
        await super().stopService()
        parts.ng.close()
        await parts.options.stop()
        if parts.sharing is not None:
            await parts.sharing.redis.stop()

    def reload(self) -> None:
        """Check the configuration file and read the files of [access] again, or keep them and say why (SIGHUP)."""
        try:
            load(self._config_file, BalancerConfig)
            self._parts.groups.reload()
        except (ConfigError, ValueError, OSError) as problem:
            self._log.error("nothing was reloaded: {problem}", problem=str(problem))
        else:
            self._log.info("files of [access] reloaded; what else changed in {file} takes effect at the next start",
                           file=self._config_file)


def makeService(options: Options, reactor: Any = None) -> BalancerService:
    """Build every part and join them; nothing listens until startService.

    Raises SystemExit for a bad configuration, and with --check for a good one, which it has described then.
    """
    if reactor is None:
        from twisted.internet import reactor
    try:
        file = Path(options["config"]).absolute()
        config = load(file, BalancerConfig)
        parts = Parts(config, reactor)
        if options["check"]:
            sys.stdout.write("\n".join((*described(config, parts.name), f"{file} is good.\n")))
            raise SystemExit(0)
        return BalancerService(config, parts, reactor, file, getattr(options, "parent", None))
    except (ConfigError, OSError, ValueError) as problem:
        raise SystemExit(f"The balancer cannot start:\n{problem}") from problem
