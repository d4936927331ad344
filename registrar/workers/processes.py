"""Workers as processes: each has one end of a pair of sockets as its link, and ends when the other end is gone."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socketpair
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ReactorNotRunning
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.python.failure import Failure

from registrar.workers.link import Link

LINK_FD = 3
"""The descriptor that a worker finds its link at."""

CLAIM_FD = 4
"""The descriptor that keeps the data directory claimed until the last worker has ended, when there is one."""


class _Process(ProcessProtocol):
    """Tells how a process has ended."""

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended

    def processEnded(self, reason: Failure) -> None:
        """Twisted: it has."""
        signal = getattr(reason.value, "signal", None)
        if isinstance(reason.value, ProcessDone):
            self._ended("has ended")
        elif signal is not None:
            self._ended(f"was ended by signal {signal}")
        else:
            self._ended(f"has failed with status {getattr(reason.value, 'exitCode', None)}")


class WorkerProcess:
    """A Child."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self.pid: int = process.pid

    def signal(self, name: str) -> None:
        """Send a signal, if there is still somebody to hear it."""
        try:
            self._process.signalProcess(name)
        except ProcessExitedAlready:
            return


class Launcher:
    """Starts worker processes that run `module` with these arguments, and --worker with their number."""

    def __init__(self, reactor: Any, module: str, arguments: Sequence[str]) -> None:
        self.claim: int | None = None
        """A descriptor that they all keep open."""
        self._reactor = reactor
        self._command = (sys.executable, "-m", module, *arguments)

    def __call__(self, index: int, link: Link, ended: Callable[[str], None]) -> WorkerProcess:
        """Start the process of one worker."""
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        with ours, theirs, Path(os.devnull).open("rb") as nothing:
            ours.setblocking(False)
            adopt(self._reactor, ours.fileno(), link)
            descriptors: dict[int, Any] = {0: nothing.fileno(), 1: 1, 2: 2, LINK_FD: theirs.fileno()}
            if self.claim is not None:
                descriptors[CLAIM_FD] = self.claim
            process = self._reactor.spawnProcess(
                _Process(ended), self._command[0], [*self._command, "--worker", str(index)], os.environ,
                childFDs=descriptors)
        return WorkerProcess(process)


def adopt(reactor: Any, descriptor: int, link: Link) -> None:
    """Let `link` speak over one end of a pair of sockets; the descriptor is copied."""
    factory = Factory.forProtocol(lambda: link)
    factory.noisy = False
    reactor.adoptStreamConnection(descriptor, AF_UNIX, factory)


def stop_reactor(reactor: Any) -> None:
    """Stop the reactor, unless somebody has before."""
    with suppress(ReactorNotRunning):
        reactor.stop()


def exit_with_failure() -> None:
    """End this process at once, so that whoever watches it sees that this was no clean end."""
    sys.stdout.flush()
    os._exit(1)
