"""The registrar as a Twisted service: what `registrar.joining` has joined, started and stopped in order."""

from collections.abc import Mapping
from pathlib import Path
from signal import SIGHUP, signal
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions

from registrar.config import RegistrarConfig
from registrar.draining import DRAINED
from registrar.joining import Parts, build
from registrar.supervision import WorkersService
from registrar.workers.processes import exit_with_failure
from rollcall.ops.config import ConfigError, load
from rollcall.ops.logs import LoggedService
from rollcall.sip.scanner import COMPILED


class Options(UsageOptions):
    """twistd registrar [options]"""

    optParameters = [["config", "c", "etc/registrar.toml", "The configuration file (TOML)."]]


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
        parts.distribution.standing.not_ready = lambda: self._not_ready or parts.location.problem
        parts.admin.ready_when("registrar", lambda: self._not_ready)
        parts.admin.ready_when("draining", lambda: parts.draining.problem)
        parts.admin.ready_when("location", lambda: parts.location.problem)
        if has_site:
            parts.admin.setServiceParent(self)

    @property
    def not_ready(self) -> str | None:
        """Why this registrar should get no work; None when it should."""
        drained = DRAINED if self._parts.draining.is_draining else None
        return self._not_ready or self._parts.location.problem or drained

    def startService(self) -> None:
        """Begin to start; /readyz tells when it is done."""
        super().startService()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._failed)

    async def _start(self) -> None:
        clustering = self._parts.clustering
        await self._parts.databases.start()
        await (self._parts.location.start() if clustering is None else clustering.start())
        if self._parts.media is not None:
            self._parts.media.start()
        if self._is_stopping:
            return
        # All that lives as long as the process is there, and nobody waits yet for the collection with which it begins.
        self._parts.collecting.startService()
        self._parts.transports.startService()
        self._parts.distribution.start()
        self._parts.turns.setServiceParent(self)  # from the next turn on somebody may wait for its end
        self._not_ready = None
        for listener in self._parts.transports.listeners.values():
            self._parts.domains.answer_at(listener.host, listener.port)
            self._parts.domains.answer_at(_in_uri(listener.local[0]), listener.local[1])
        if clustering is not None:
            clustering.listening()
        if self._parts.links is not None:
            self._parts.links.start()
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
            if self._parts.media is not None:
                self._parts.media.reload()
            self._parts.distribution.reload()
            self._parts.transports.reload_certificates()
            if self._parts.clustering is not None:
                self._parts.clustering.reload_certificates()
        except (ConfigError, ValueError, OSError) as problem:
            self._log.error("nothing was reloaded: {problem}", problem=str(problem))
        else:
            self._log.info("certificates reloaded, and files of [access]; "
                           "what else changed in {file} takes effect at the next start", file=self._config_file)

    def _failed(self, failure: Any) -> None:
        self._not_ready = failure.getErrorMessage()
        self._log.critical("cannot start: {why}", why=failure.getErrorMessage())
        # The supervisor must see that this was no clean end.
        self._reactor.addSystemEventTrigger("after", "shutdown", exit_with_failure)
        if not self._is_stopping:
            self._reactor.stop()

    async def _stop(self) -> None:
        self._is_stopping = True
        self._not_ready = "stopping"
        # A store that is only half open would leave its thread behind.
        await self._starting
        if self._on_hang_up is not None:
            signal(SIGHUP, self._on_hang_up)
        await self._parts.distribution.stop()
        if self._parts.links is not None:
            self._parts.links.stop()
        if self._parts.collecting.running:
            self._parts.collecting.stopService()
        self._parts.draining.stop()
        self._parts.events.stop()
        self._parts.requests.stop()
        if self._parts.transports.running:
            await self._parts.transports.stopService()
        clustering = self._parts.clustering
        if self._parts.media is not None:
            await self._parts.media.stop()
        await self._parts.databases.stop()
        await (self._parts.location.stop() if clustering is None else clustering.stop())
        self._parts.wheel.stop()
        await super().stopService()
        self._log.info("stopped")

    def stopService(self) -> "Deferred[None]":
        """Close the flows, write what is still to be written, then end."""
        return Deferred.fromCoroutine(self._stop())


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


def _in_uri(host: str) -> str:
    return f"[{host}]" if ":" in host else host
