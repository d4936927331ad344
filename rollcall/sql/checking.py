"""Looks at one server again and again, and at once when it is doubted."""

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.logger import Logger

from rollcall.sql.config import MysqlConfig
from rollcall.sql.errors import SqlUnavailable, is_lost, timed_out, told
from rollcall.sql.lanes import Outcome, Task, Trouble
from rollcall.sql.looking import Look, look
from rollcall.sql.server import Observe, Server


class Check:
    """The timing: a look every check_seconds, one at a time, each with a limit.

    What a server says during a look that began before it was doubted is no proof: it is looked at once more. So it is
    when the connection of the looks was lost: a new one decides.
    """

    def __init__(self, reactor: Any, server: Server, config: MysqlConfig, observe: Observe, news: "News") -> None:
        self._reactor = reactor
        self._server = server
        self._config = config
        self._observe = observe
        self._news = news
        self._task: Task | None = None
        self._is_doubted = False
        self._is_second = False
        self._is_stopped = False
        self._began_at = 0.0
        self._limit: Any = None
        self._next: Any = None

    def begin(self) -> None:
        """Look now; when somebody looks already, once more after that."""
        if self._task is not None or self._is_stopped:
            self._is_doubted = True
            return
        self._cancel()
        self._is_doubted = False
        self._began_at = self._reactor.seconds()
        self._server.queries["check"] += 1
        self._limit = self._reactor.callLater(self._config.connect_seconds + self._config.timeout_seconds, self._late)
        work = partial(look, role=self._server.role, lag=self._config.lag)
        self._task = Task(work, self._looked)
        self._server.checking.submit(self._task)

    def stop(self) -> None:
        """Look no more."""
        self._is_stopped = True
        self._cancel()

    def _looked(self, task: Task, outcome: Outcome) -> None:
        self._task = None
        if self._is_stopped:
            return
        took = self._reactor.seconds() - self._began_at
        if not task.is_over:
            self._observe("check", took)
            self._told(outcome)
        self._cancel()
        if self._is_stopped:  # by somebody who heard it just now
            return
        if self._is_doubted:
            self.begin()
        else:
            self._next = self._reactor.callLater(max(self._config.check_seconds - took, 0.0), self.begin)

    def _told(self, outcome: Outcome) -> None:
        is_second, self._is_second = self._is_second, False
        if isinstance(outcome, Trouble):
            self._server.failures["check"] += 1
            if not is_second and _may_be_the_connection(outcome.error):
                self._server.renew()
                self._is_second = self._is_doubted = True
                return
            self._is_doubted = False
            self._news.away(self._server, told(outcome.error).removeprefix(f"MySQL at {self._server.name}: "))
        elif not self._is_doubted:
            self._news.seen(self._server, outcome.value)

    def _late(self) -> None:
        """It hangs where no time-out of a socket helps. The next look waits until its thread is back."""
        assert self._task is not None
        self._limit = None
        self._task.is_over = True
        self._server.checking.cut(self._task)
        self._server.failures["check"] += 1
        limit = self._config.connect_seconds + self._config.timeout_seconds
        self._news.away(self._server, f"no answer within {limit:g} s")

    def _cancel(self) -> None:
        for call in (self._limit, self._next):
            if call is not None and call.active():
                call.cancel()
        self._limit = self._next = None


def _may_be_the_connection(error: Exception) -> bool:
    """Tell whether an open connection was lost, and not by waiting in vain."""
    return is_lost(error) and not isinstance(error, SqlUnavailable) and not timed_out(error)


class News:
    """What the looks bring, told in the log when it differs from what was known, and handed on."""

    _log = Logger()

    def __init__(self, seconds: Callable[[], float], changed: Callable[[list[Task]], None]) -> None:
        """`changed` is called after each look, with the queries that the server has given back."""
        self._seconds = seconds
        self._changed = changed
        self._away_since: dict[str, float] = {}
        self._told: dict[str, str | None] = {}
        self._noticed: set[tuple[str, str]] = set()

    def seen(self, server: Server, seen: Look) -> None:
        """A server answers."""
        server.saw(seen)
        since = self._away_since.pop(server.name, None)
        if since is not None:
            self._log.info("MySQL {role} {server} answers again, after {seconds:.1f} s",
                           role=server.role, server=server.name, seconds=self._seconds() - since)
        self._tell_fitness(server)
        if seen.notice is not None and (server.name, seen.notice) not in self._noticed:
            self._noticed.add((server.name, seen.notice))
            self._log.warn("MySQL {role} {server}: {notice}",
                           role=server.role, server=server.name, notice=seen.notice)
        self._changed([])

    def away(self, server: Server, why: str) -> None:
        """A server does not answer, or does not let us in."""
        if server.name not in self._away_since or server.why != why:
            self._log.warn("MySQL {role} {server} is left out until it answers: {why}",
                           role=server.role, server=server.name, why=why, log_rationed=True)
        self._away_since.setdefault(server.name, self._seconds())
        self._changed(server.left(why))

    def _tell_fitness(self, server: Server) -> None:
        if server.role == "primary" or server.is_writable:
            return
        unfit, before = server.unfit, self._told.get(server.name)
        self._told[server.name] = unfit
        if unfit is not None and before is None:
            self._log.warn("MySQL replica {server} is read only when no other can be: {why}",
                           server=server.name, why=unfit, log_rationed=True)
        elif unfit is None and before is not None:
            self._log.info("MySQL replica {server} is up to date again", server=server.name, log_rationed=True)


