"""The way to the process that sends tickles (see sender.py): a Unix socket, opened again when broken."""

import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.logger import Logger

from registrar.distribution.tickle.packets import MAX_RECORDS

TRY_SECONDS = 1.0
"""How often it is looked for a sender that is not there."""


class SenderLink:
    """Hands records to the sender. Nothing here waits: what the sender does not take now is offered again later."""

    _log = Logger()

    def __init__(self, path: str, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._socket: Any = None
        self._tried_at = -TRY_SECONDS
        self._problem = ""

    @property
    def is_there(self) -> bool:
        """Whether the sender listens; looked at again, after a while, when it did not."""
        if self._socket is not None:
            self._look()
        if self._socket is None and self._now() >= self._tried_at + TRY_SECONDS:
            self._connect()
        return self._socket is not None

    def send(self, records: Sequence[bytes]) -> int:
        """Return how many of the records, the first ones, the sender has taken."""
        taken = 0
        while taken < len(records) and self.is_there:
            some = records[taken:taken + MAX_RECORDS]
            try:
                self._socket.send(b"".join(some))
            except BlockingIOError:
                break
            except OSError as problem:
                self._lose(problem)
                break
            taken += len(some)
        return taken

    def close(self) -> None:
        """Let go of it; harmless twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _look(self) -> None:
        """See whether it has hung up; it never says anything else."""
        try:
            self._socket.recv(1)
        except BlockingIOError:
            return
        except OSError as problem:
            self._lose(problem)
            return
        self._lose(None)

    def _connect(self) -> None:
        self._tried_at = self._now()
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            made.connect(self._path)
        except OSError as problem:
            made.close()
            self._lose(problem)
            return
        self._socket, self._problem = made, ""
        self._log.info("the sender of tickles is there: {path}", path=self._path)

    def _lose(self, problem: OSError | None) -> None:
        self.close()
        why = problem.strerror or str(problem) if problem is not None else "it has ended"
        if why != self._problem:
            self._problem = why
            self._log.warn("no phone can be woken: the sender of tickles is not at {path}: {why}; it is looked for "
                           "again", path=self._path, why=why)
