"""The service of a registrar with several workers: what has to be there before they start, and what they share.

It binds no SIP socket and answers no phone. It claims the data directory, starts the workers, and has the admin site.
"""

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from signal import SIGHUP, SIGUSR2, signal
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from registrar.config import RegistrarConfig
from registrar.distribution.dns.listing import DNS
from registrar.keys import load_or_create_secret
from registrar.location.contract import LocationUnavailable
from registrar.location.rows import Rows
from registrar.location.writer import WriterThread
from registrar.sites.listing import SITES
from registrar.subscribers.table import SubscriberTable
from registrar.workers.alike import Alike
from registrar.workers.bans import AllBans
from registrar.workers.contacts import AllContacts
from registrar.workers.media import AllMedia
from registrar.workers.nodes import FLOWS, SUBSCRIPTIONS, AllNodes, Walk
from registrar.workers.processes import Launcher, exit_with_failure
from registrar.workers.site import WorkersSite
from registrar.workers.supervisor import CannotRestart, Supervisor
from registrar.workers.users import AllUsers
from rollcall.net.listening import check_free
from rollcall.ops.config import ConfigError, load
from rollcall.ops.logs import LoggedService
from rollcall.ops.metrics import Metrics

WORKER = "registrar.worker"
"""The module that a worker's process runs."""

CLEANED_SECONDS = 600.0
"""How often rows are deleted that have lapsed while no worker held them."""

LOG_OPTIONS = ("nodaemon", "logfile", "syslog", "prefix")


class WorkersService(LoggedService):
    """Starts the workers when all that they share is ready, and ends when they have."""

    _log = Logger()
    worker = 0

    def __init__(self, config: RegistrarConfig, reactor: Any, config_file: Path,
                 twistd: Mapping[str, Any] | None = None) -> None:
        """`config_file` is what the workers read; `twistd` holds its options, which say where the log goes."""
        super().__init__(config.log, twistd)
        self._settings = config
        self._reactor = reactor
        self._config_file = config_file
        self._not_ready: str | None = "starting"
        self._starting: Deferred[None] = succeed(None)
        self._is_stopping = False
        self._signals: dict[int, Any] = {}
        self._thread = WriterThread(reactor, "rows")
        self._rows = _rows(config)
        self._cleaning: IDelayedCall | None = None
        self._launch = Launcher(reactor, WORKER, ["--config", str(config_file), "--log", _log_options(twistd or {})])
        self.supervisor = Supervisor(
            reactor, config.registrar.workers, config.workers, self._launch, self._cannot_start)
        self.site = WorkersSite(reactor, config.admin, Metrics(), self.supervisor)
        self.site.ready_when("registrar", lambda: self._not_ready)
        AllContacts(self.supervisor, reactor.seconds, self._read_after if self._rows is not None else None,
                    shared=config.location.kind == "redis").mount(self.site.routes)
        AllNodes(self.supervisor).mount(self.site.routes)
        AllBans(self.supervisor).mount(self.site.routes)
        AllUsers(self.supervisor).mount(self.site.routes)
        if config.media.enabled:
            AllMedia(self.supervisor).mount(self.site.routes)
        for path in (SITES, DNS) if config.dns.listen else (SITES,):
            Alike(self.supervisor, path).mount(self.site.routes)
        for path in (FLOWS, SUBSCRIPTIONS):
            Walk(self.supervisor, path).mount(self.site.routes)
        self.site.setServiceParent(self)

    def startService(self) -> None:
        """Begin to start; /readyz tells when all workers are ready."""
        super().startService()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(lambda failure: self._cannot_start(failure.getErrorMessage()))

    async def _start(self) -> None:
        self._thread.start()
        await self._thread.run(self._prepare)
        if self._is_stopping:
            return
        for listener in self._settings.listeners:
            check_free(listener)
        self._launch.claim = self._rows.claimed if self._rows is not None else None
        self._signals[SIGHUP] = signal(SIGHUP, lambda number, frame: self._reactor.callFromThread(self.reload))
        self._signals[SIGUSR2] = signal(SIGUSR2, lambda number, frame: self._reactor.callFromThread(self.restart))
        self.supervisor.start()
        self._not_ready = None
        self._clean_later()

    def _prepare(self) -> None:
        """Make what the workers share, and see that it can be used."""
        config = self._settings
        config.registrar.data_dir.mkdir(parents=True, exist_ok=True)
        load_or_create_secret(config.path(config.registrar.secret_file, "node.secret"))
        if config.subscribers.kind == "sqlite":
            with SubscriberTable(config.path(config.subscribers.file, "subscribers.sqlite")):
                pass
        if self._rows is not None:
            try:
                self._rows.claim()
                self._rows.delete_lapsed(self._reactor.seconds())
            except sqlite3.Error as problem:
                raise LocationUnavailable(f"{self._rows.path}: {problem}") from problem

    def reload(self) -> None:
        """Have all workers show renewed certificates, when the configuration file is in order (SIGHUP)."""
        try:
            load(self._config_file, RegistrarConfig)
        except (ConfigError, ValueError, OSError) as problem:
            self._log.error("nothing was reloaded: {problem}", problem=str(problem))
        else:
            self.supervisor.signal("HUP")

    def restart(self) -> None:
        """Exchange all workers, one at a time (SIGUSR2)."""
        try:
            self.supervisor.restart(self.supervisor.workers)
        except CannotRestart as problem:
            self._log.error("nothing was restarted: {problem}", problem=str(problem))

    def _cannot_start(self, why: str) -> None:
        self._not_ready = why
        self._log.critical("cannot start: {why}", why=why)
        # Whoever has started us must see that this was no clean end.
        self._reactor.addSystemEventTrigger("after", "shutdown", exit_with_failure)
        if not self._is_stopping:
            self._is_stopping = True
            self._reactor.stop()

    async def _stop(self) -> None:
        self._is_stopping = True
        self._not_ready = self._not_ready or "stopping"
        await self._starting
        for number, before in self._signals.items():
            signal(number, before)
        if self._cleaning is not None:
            self._cleaning.cancel()
        await self.supervisor.stop()
        if self._rows is not None:
            await self._thread.run(self._rows.leave)
        self._thread.stop()
        await super().stopService()
        self._log.info("stopped")

    def stopService(self) -> "Deferred[None]":
        """End the workers, which write what is still to be written, then end."""
        return Deferred.fromCoroutine(self._stop())

    def _read_after(self, aor: str, size: int, now: float) -> Any:
        assert self._rows is not None
        return self._thread.run(self._rows.read_after, aor, size, now)

    def _clean_later(self) -> None:
        if self._rows is not None:
            self._cleaning = self._reactor.callLater(CLEANED_SECONDS, self._clean)

    def _clean(self) -> None:
        assert self._rows is not None
        self._clean_later()
        cleaning = self._thread.run(self._rows.delete_lapsed, self._reactor.seconds())
        cleaning.addErrback(lambda failure: self._log.warn("lapsed rows were not deleted: {why}",
                                                           why=failure.getErrorMessage()))


def _rows(config: RegistrarConfig) -> Rows | None:
    if config.location.kind != "sqlite":
        return None
    return Rows(config.path(config.location.file, "location.sqlite"), config.location.synchronous)


def _log_options(twistd: Mapping[str, Any]) -> str:
    """Return as JSON what of twistd's options a worker needs to write its log to the same place."""
    options = {name: twistd[name] for name in LOG_OPTIONS if twistd.get(name) is not None}
    if options.get("logfile") and options["logfile"] != "-":
        options["logfile"] = os.path.abspath(options["logfile"])
    return msgspec.json.encode(options).decode()
