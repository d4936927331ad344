"""One worker of a registrar with several: the process that their supervisor starts (`python -m registrar.worker`).

It finds the link to its supervisor at a descriptor that it has inherited, and ends when that is closed.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from signal import SIG_IGN, SIGINT, SIGTERM, SIGUSR2, signal
from time import time
from typing import Any

import msgspec
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogBeginner
from twisted.python.usage import Options as UsageOptions

from registrar.clustering import this_life
from registrar.config import RegistrarConfig
from registrar.joining import Parts, build
from registrar.service import RegistrarService
from registrar.workers.member import Membership
from registrar.workers.processes import LINK_FD, adopt, stop_reactor
from rollcall.ops.config import ConfigError, load
from rollcall.ops.logs import observer

STATE_SECONDS = 0.1
"""How often a worker looks whether it is ready, to tell its supervisor when that changes."""


class Options(UsageOptions):
    """python -m registrar.worker [options]; started by the registrar itself"""

    optParameters = [
        ["config", "c", None, "The configuration file (TOML)."],
        ["worker", "w", None, "The number of this worker, from 1 on.", int],
        ["log", "l", "{}", "The options of twistd that say where the log goes, as JSON."],
    ]


class WorkerService(RegistrarService):
    """A registrar that tells its supervisor whether it is ready."""

    _log = Logger()

    def __init__(self, config: RegistrarConfig, parts: Parts, reactor: Any, config_file: Path,
                 membership: Membership) -> None:
        super().__init__(config, parts, reactor, config_file, has_site=False)
        self._node = membership.me.node
        self._membership = membership
        self._said: str | None = "starting"
        self._telling = LoopingCall(self._tell)
        self._telling.clock = reactor

    def startService(self) -> None:
        """Begin to start, and to tell."""
        super().startService()
        self._telling.start(STATE_SECONDS, now=False)

    def lost(self) -> None:
        """End, for there is no supervisor any more."""
        if not self._is_stopping:
            self._log.critical("the supervisor is gone")
            stop_reactor(self._reactor)

    def _tell(self) -> None:
        state = self.not_ready
        if state != self._said:
            self._said = state
            self._membership.tell_state(state)

    async def _stop(self) -> None:
        if self._telling.running:
            self._telling.stop()
        await super()._stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until it is told to end."""
    options = Options()
    options.parseOptions(sys.argv[1:] if arguments is None else arguments)
    from twisted.internet import reactor

    try:
        config = load(Path(options["config"]), RegistrarConfig)
        log_options = msgspec.json.decode(options["log"])
        globalLogBeginner.beginLoggingTo([observer(config.log, log_options, options["worker"])],
                                         redirectStandardIO=False)
        run(config, Path(options["config"]), options["worker"], reactor)
    except (ConfigError, OSError, ValueError) as problem:
        Logger().critical("cannot start: {problem}", problem=str(problem))
        return 1
    return 0


def run(config: RegistrarConfig, config_file: Path, index: int, reactor: Any) -> None:
    """Be worker `index` until the reactor stops. Raises ValueError and OSError when it cannot be built."""
    me = this_life(config, time(), index)

    def lost() -> None:
        service.lost()

    membership = Membership(reactor, me, config.workers.max_waiting_bytes, lost)
    service = WorkerService(config, build(config, reactor, membership), reactor, config_file, membership)
    signal(SIGUSR2, SIG_IGN)
    adopt(reactor, LINK_FD, membership.link)
    os.close(LINK_FD)
    membership.hello()
    reactor.callWhenRunning(service.startService)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.callWhenRunning(_end_at_signals, reactor)
    reactor.run()


def _end_at_signals(reactor: Any) -> None:
    """End at a signal that may come twice: from the supervisor, and from whoever ends all of us."""
    for number in (SIGINT, SIGTERM):
        signal(number, lambda *_: reactor.callFromThread(stop_reactor, reactor))


if __name__ == "__main__":
    # By its name, for that is what its log lines begin with.
    sys.exit(import_module("registrar.worker").main())
