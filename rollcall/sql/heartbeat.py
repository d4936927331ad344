"""Writes the moment at the server that takes writes, so that each replica shows how far it is behind."""

from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from rollcall.sql.contract import Sql
from rollcall.sql.errors import told
from rollcall.sql.looking import beat


class Heartbeat:
    """One write every `seconds`, never two at a time. Each registrar does it: the latest moment stands."""

    _log = Logger()

    def __init__(self, reactor: Any, sql: Sql, seconds: float) -> None:
        self._reactor = reactor
        self._sql = sql
        self._seconds = seconds
        self._next: Any = None
        self._last_error: str | None = None

    def start(self) -> None:
        """Write now, and then again and again."""
        self._next = None
        if self._sql.writer is None:
            self._again()
        else:
            self._sql.write(beat).addCallbacks(self._written, self._failed).addBoth(self._again)

    def stop(self) -> None:
        """Write no more."""
        self._seconds = 0.0
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _again(self, result: object = None) -> None:
        if self._seconds:
            self._next = self._reactor.callLater(self._seconds, self.start)

    def _written(self, nothing: object) -> None:
        self._last_error = None

    def _failed(self, failure: Failure) -> None:
        assert failure.value is not None
        error = told(failure.value)
        if error != self._last_error:
            self._last_error = error
            self._log.warn("no heartbeat is written, so that replicas seem to fall behind: {error}", error=error,
                           log_rationed=True)
