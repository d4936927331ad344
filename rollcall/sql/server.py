"""One server: its two sets of threads, what it is doing, and what is known of it."""

from collections.abc import Callable
from enum import Enum
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred

from rollcall.sql.config import MysqlConfig
from rollcall.sql.contract import KINDS, Kind, Role, ServerState
from rollcall.sql.errors import is_lost, is_read_only, is_unavailable, told
from rollcall.sql.lanes import Asking, Outcome, Task, Trouble
from rollcall.sql.looking import Look

SILENCE = 0.25
"""For so much of timeout_seconds a server that is asked something may say nothing; then others are asked first."""


class Standing(Enum):
    """Whether a server may be asked."""

    UNKNOWN = "unknown"
    """Not looked at yet, or not since it failed: nobody asks it, but it is worth a moment's wait."""
    UP = "up"
    DOWN = "down"


@define(eq=False)
class Query(Task):
    """A read or a write, until its caller has an answer."""

    kind: Kind
    fresh: bool
    asked_at: float
    found: "Deferred[Any]" = field(init=False)
    server: "Server | None" = field(init=False, default=None)
    """Who has it now."""
    tried: list["Server"] = field(init=False, factory=list)
    error: Exception | None = field(init=False, default=None)
    """What came of the last attempt."""

    def cancelled(self, found: "Deferred[Any]") -> None:
        """The caller has lost interest: it is not begun any more, and what comes of it is told nobody."""
        self.is_over = True


class Server:
    """What the choice is made by. All of it happens in the reactor's thread."""

    def __init__(self, name: str, role: Role, config: MysqlConfig, asking: Asking, checking: Asking) -> None:
        """`checking` has a thread of its own, so that no queue delays what is known of the server."""
        self.name = name
        self.role: Role = role
        self.asking = asking
        self.checking = checking
        self.standing = Standing.UNKNOWN
        self.seen: Look | None = None
        """What it said when it was last looked at; None while it does not answer."""
        self.why: str | None = "it was not asked yet"
        self.outstanding = 0
        self.queries: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self.failures: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._heard_at = 0.0
        self._silence = SILENCE * config.timeout_seconds
        self._max_lag = config.max_lag_seconds
        self._most = config.connections + config.max_waiting

    @property
    def is_up(self) -> bool:
        return self.standing is Standing.UP

    @property
    def has_room(self) -> bool:
        return self.outstanding < self._most

    def is_silent(self, now: float) -> bool:
        """Tell whether it may hang: it has something to do, and has answered nothing for a while."""
        return self.outstanding > 0 and now - self._heard_at > self._silence

    @property
    def lag_seconds(self) -> float | None:
        return self.seen.lag_seconds if self.seen is not None else None

    @property
    def unfit(self) -> str | None:
        """Why it is read after others although it answers."""
        if self.seen is None or self.seen.unfit is not None:
            return self.seen.unfit if self.seen is not None else self.why
        if self.seen.lag_seconds is not None and self.seen.lag_seconds > self._max_lag:
            return f"it is {self.seen.lag_seconds:.1f} s behind"
        return None

    @property
    def is_fit(self) -> bool:
        return self.is_up and self.unfit is None

    @property
    def is_writable(self) -> bool:
        """Whether writes can go there: one that still applies another's changes is no primary yet."""
        return self.is_up and self.seen is not None and not (self.seen.is_read_only or self.seen.follows)

    @property
    def state(self) -> ServerState:
        return ServerState(
            name=self.name,
            role=self.role,
            is_up=self.is_up,
            is_fit=self.is_fit,
            is_writable=self.is_writable,
            lag_seconds=self.lag_seconds,
            outstanding=self.outstanding,
            waiting=self.asking.waiting,
            queries=dict(self.queries),
            failures=dict(self.failures),
            why=self.unfit if self.is_up else self.why,
        )

    def ask(self, query: Query, now: float) -> None:
        """Have it done here."""
        if not self.outstanding:
            self._heard_at = now
        query.server = self
        query.tried.append(self)
        self.outstanding += 1
        self.queries[query.kind] += 1
        self.asking.submit(query)

    def answered(self, query: Query, outcome: Outcome, now: float) -> list[Task]:
        """Count what came of it; return the queries to be done elsewhere, because this server is doubted now."""
        self.outstanding -= 1
        self._heard_at = now
        if not isinstance(outcome, Trouble) or query.is_over or not is_unavailable(outcome.error):
            return []
        self.failures[query.kind] += 1
        return self._doubt(outcome.error)

    def _doubt(self, error: Exception) -> list[Task]:
        """Ask it nothing until it was looked at. When a connection is lost, others of that time may be, too."""
        if is_lost(error):
            self.renew()
        if self.standing is not Standing.UP or not (is_lost(error) or is_read_only(error)):
            return []
        self.standing, self.why = Standing.UNKNOWN, told(error)
        return self._given_back()

    def renew(self) -> None:
        """Open every connection anew before it is next used, that of the checks, too: a password may have changed."""
        self.asking.renew()
        self.checking.renew()

    def saw(self, seen: Look) -> None:
        """It answers."""
        self.standing, self.seen, self.why = Standing.UP, seen, None

    def left(self, why: str) -> list[Task]:
        """It does not answer; return the queries that it has not begun, for others to do."""
        self.standing, self.seen, self.why = Standing.DOWN, None, why
        return self._given_back()

    def _given_back(self) -> list[Task]:
        given_back = self.asking.take_back()
        self.outstanding -= len(given_back)
        return given_back


Observe = Callable[[str, float], None]
"""Told "read", "write" or "check", and how many seconds it took."""
