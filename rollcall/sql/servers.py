"""MySQL as a whole: reads go to replicas, writes to the primary, and nobody waits long for a server that hangs.

Each server has threads of its own, so that one that hangs holds up nobody else's queries. Every query has a limit: its
caller hears of it in time, whatever the network does. The reactor's thread does no I/O.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rollcall.sql.checking import Check, News
from rollcall.sql.choosing import Later, reader, why_nobody_answers
from rollcall.sql.config import MysqlConfig
from rollcall.sql.connecting import Connection, connect
from rollcall.sql.contract import Kind, Role, ServerState
from rollcall.sql.electing import Election
from rollcall.sql.errors import SqlUnavailable, is_lost, is_unavailable, told
from rollcall.sql.heartbeat import Heartbeat
from rollcall.sql.lanes import Answer, Asking, Lanes, Outcome, Task, Trouble
from rollcall.sql.server import Observe, Query, Server, Standing
from rollcall.sql.transaction import transacted

T = TypeVar("T")
MakeAsking = Callable[[str, int], Asking]
"""Makes the threads for a server: its address, and how many."""

ATTEMPTS = 2
"""A query that lost its connection is tried once more."""


class Servers:
    """The real `Sql`. Everything is called in the reactor's thread; nothing here waits."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        config: MysqlConfig,
        observe: Observe = lambda operation, seconds: None,
        lanes: MakeAsking | None = None,
    ) -> None:
        """`reactor` provides IReactorTime and IReactorFromThreads; `lanes` is for tests."""
        self._reactor = reactor
        self._config = config
        self._observe = observe
        make = self._lanes if lanes is None else lanes
        roles: list[tuple[str, Role]] = [(config.primary, "primary")]
        roles += [(name, "replica") for name in config.replicas]
        self._servers = [Server(name, role, config, make(name, config.connections), make(name, 1))
                         for name, role in roles]
        news = News(reactor.seconds, self._changed)
        self._checks = {server: Check(reactor, server, config, observe, news) for server in self._servers}
        self._election = Election(self._servers, may_be_many=config.lag == "none")
        self._heartbeat = Heartbeat(reactor, self, config.check_seconds) if config.lag == "heartbeat" else None
        self._limit = config.connect_seconds + ATTEMPTS * config.timeout_seconds
        self._pending: dict[Query, None] = {}
        """Those without an answer, the oldest first."""
        self._parked: list[Query] = []
        """Those of them that wait until a server has been looked at."""
        self._overdue: Any = None
        self._reads_late = False
        self._late_at = float("-inf")
        self._is_stopped = False

    def start(self) -> None:
        """Begin to look at every server; queries wait for the first look at most."""
        for check in self._checks.values():
            check.begin()
        if self._heartbeat is not None:
            self._heartbeat.start()

    async def stop(self) -> None:
        """Let what is asked already come to its end, for at most timeout_seconds; all else fails from now on."""
        if self._is_stopped:
            return
        self._is_stopped = True
        if self._heartbeat is not None:
            self._heartbeat.stop()
        for check in self._checks.values():
            check.stop()
        self._dispatch_parked()
        await self._threads_ended()
        if self._overdue is not None and self._overdue.active():
            self._overdue.cancel()
        for query in list(self._pending):
            self._drop(query, SqlUnavailable("MySQL is not asked any more: this process ends"))

    # --- what is asked

    def read(self, query: Callable[[Connection], T], fresh: bool = False) -> "Deferred[T]":
        """Return what `query` returns; it runs in a thread, may run twice, and only reads (autocommit is on).

        A fit replica is asked, else the primary, else a replica that is behind. With `fresh` the server that takes
        writes is asked first. Fails with SqlUnavailable, or with what `query` raised.
        """
        return self._ask(query, "read", fresh)

    def write(self, change: Callable[[Connection], T]) -> "Deferred[T]":
        """Return what `change` returned, once its transaction is committed; see `Sql.write`."""
        return self._ask(partial(transacted, change), "write", False)

    @property
    def may_be_late(self) -> bool:
        """See `Sql.may_be_late`: an answer comes within the limit after the question."""
        since = float(self._reactor.seconds()) - self._late_at
        return since <= self._limit

    @property
    def writer(self) -> str | None:
        """host:port of the server that writes go to now; None while there is none."""
        return self._election.writer.name if self._election.writer is not None else None

    @property
    def problem(self) -> str | None:
        """Why nothing can be read now; None while some server answers."""
        if self._is_stopped:
            return "MySQL is not asked any more: this process ends"
        if any(server.is_up for server in self._servers):
            return None
        return why_nobody_answers(self._servers)

    @property
    def states(self) -> tuple[ServerState, ...]:
        """The primary and its replicas, as configured."""
        return tuple(server.state for server in self._servers)

    # --- who is asked

    def _ask(self, work: Callable[[Connection], T], kind: Kind, fresh: bool) -> "Deferred[T]":
        query = Query(work, self._answered, kind=kind, fresh=fresh, asked_at=self._reactor.seconds())
        found: Deferred[T] = Deferred(query.cancelled)
        query.found = found
        self._pending[query] = None
        if self._overdue is None and not self._is_stopped:
            self._overdue = self._reactor.callLater(self._limit, self._look_for_overdue)
        self._dispatch(query)
        return found

    def _dispatch(self, query: Query) -> None:
        if query.is_over:
            self._pending.pop(query, None)
        elif self._is_stopped:
            self._fail(query, SqlUnavailable("MySQL is not asked any more: this process ends"))
        elif query.kind == "write":
            self._dispatch_write(query)
        else:
            self._dispatch_read(query)

    def _dispatch_read(self, query: Query) -> None:
        now = self._reactor.seconds()
        chosen = reader(self._servers, self._election.writer, query.fresh, now, query.tried)
        if isinstance(chosen, Server):
            self._tell_if_late(chosen)
            chosen.ask(query, now)
        elif chosen is Later.WAIT:
            self._park(query)
        elif chosen is Later.FULL:
            self._fail(query, SqlUnavailable("too many queries wait for MySQL already"))
        else:
            self._fail(query, SqlUnavailable(f"MySQL: {why_nobody_answers(self._servers)}"))

    def _dispatch_write(self, query: Query) -> None:
        writer = self._election.writer
        if writer is None and self._election.is_open:
            self._park(query)
        elif writer is None:
            self._fail(query, SqlUnavailable(f"MySQL: nothing was done: {self._election.why_nobody}"))
        elif not writer.has_room:
            self._fail(query, SqlUnavailable("nothing was done: too many queries wait for MySQL already"))
        else:
            writer.ask(query, self._reactor.seconds())

    def _tell_if_late(self, chosen: Server) -> None:
        is_late = not chosen.is_fit and chosen.role == "replica" and chosen is not self._election.writer
        if is_late and not self._reads_late:
            self._log.warn("MySQL replica {server} is read although {why}: no other answers",
                           server=chosen.name, why=chosen.unfit, log_rationed=True)
        self._reads_late = is_late
        if is_late:
            self._late_at = self._reactor.seconds()

    def _park(self, query: Query) -> None:
        if len(self._parked) >= self._config.max_waiting:
            self._fail(query, SqlUnavailable("too many queries wait for MySQL already"))
        else:
            self._parked.append(query)

    # --- what comes of it

    def _answered(self, query: Query, outcome: Outcome) -> None:
        server = query.server
        assert server is not None
        given_back = server.answered(query, outcome, self._reactor.seconds())
        if server.standing is Standing.UNKNOWN and isinstance(outcome, Trouble):
            self._checks[server].begin()
            self._reassign(given_back)
        if query.is_over:
            self._pending.pop(query, None)
        elif isinstance(outcome, Answer):
            self._succeed(query, outcome.value)
        elif self._may_try_again(query, outcome):
            query.error = outcome.error
            self._dispatch(query)
        else:
            self._fail(query, _as_told(query, outcome, server))

    def _may_try_again(self, query: Query, outcome: Trouble) -> bool:
        if len(query.tried) >= ATTEMPTS:
            return False
        return outcome.is_undone or (query.kind == "read" and is_unavailable(outcome.error))

    def _succeed(self, query: Query, value: Any) -> None:
        self._pending.pop(query, None)
        self._observe(query.kind, self._reactor.seconds() - query.asked_at)
        query.found.callback(value)

    def _fail(self, query: Query, error: Exception) -> None:
        self._pending.pop(query, None)
        self._observe(query.kind, self._reactor.seconds() - query.asked_at)
        query.found.errback(Failure(error))

    def _changed(self, given_back: list[Task]) -> None:
        """Somebody looked at a server."""
        self._reassign(given_back)
        self._dispatch_parked()

    def _reassign(self, given_back: list[Task]) -> None:
        """Let others do what a server has not begun, after something became known of it."""
        self._election.look_again()
        for query in given_back:
            assert isinstance(query, Query)
            query.tried.pop()
            query.server = None
            self._dispatch(query)

    def _dispatch_parked(self) -> None:
        parked, self._parked = self._parked, []
        for query in parked:
            self._dispatch(query)

    def _look_for_overdue(self) -> None:
        """Tell those whose time is over; they are the first of all."""
        self._overdue = None
        now = self._reactor.seconds()
        for query in list(self._pending):
            left = query.asked_at + self._limit - now
            if left > 0:
                self._overdue = self._reactor.callLater(left, self._look_for_overdue)
                return
            self._give_up(query)

    def _give_up(self, query: Query) -> None:
        where = "no server"
        if query.server is not None:
            query.server.asking.cut(query)
            query.server.failures[query.kind] += 1
            where = query.server.name
        text = f"MySQL: {where} gave no answer within {self._limit:g} s"
        if query.kind == "write" and query.server is not None:
            text += "; whether the change was made is not known"
        self._drop(query, SqlUnavailable(text))

    def _drop(self, query: Query, error: Exception) -> None:
        """Fail a query that may still be worked on; what comes of it then is told nobody."""
        query.is_over = True
        if query.found.called:  # cancelled
            self._pending.pop(query, None)
        else:
            self._fail(query, error)

    # --- threads

    def _lanes(self, name: str, count: int) -> Asking:
        return Lanes(name, count, partial(connect, self._config, name), self._reactor.callFromThread)

    def _threads_ended(self) -> "Deferred[None]":
        everything = [asking for server in self._servers for asking in (server.asking, server.checking)]
        ended: Deferred[None] = Deferred()
        left = len(everything)

        def one_ended() -> None:
            nonlocal left
            left -= 1
            if not left:
                limit.cancel()
                ended.callback(None)

        def too_long() -> None:
            nonlocal left
            left = -1  # who comes later is not counted
            for asking in everything:
                asking.cut_all()
            ended.callback(None)

        limit = self._reactor.callLater(self._config.timeout_seconds, too_long)
        for asking in everything:
            asking.stop(one_ended)
        return ended


def _as_told(query: Query, outcome: Trouble, server: Server) -> Exception:
    """Return what the caller is told: an error of the statement as it is, any other as SqlUnavailable."""
    error = outcome.error
    if not is_unavailable(error):
        return error
    text = told(error) if isinstance(error, SqlUnavailable) else f"MySQL at {server.name}: {told(error)}"
    if query.kind == "write":
        unknown = is_lost(error) and not outcome.is_undone
        text += "; whether the change was made is not known" if unknown else "; nothing was done"
    return SqlUnavailable(text)
