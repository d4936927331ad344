"""What the rest of the program sees of MySQL: queries that are asked somewhere, and how each server is."""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred

from rollcall.sql.connecting import Connection

T = TypeVar("T")

Role = Literal["primary", "replica"]
Kind = Literal["read", "write", "check"]
KINDS: tuple[Kind, ...] = ("read", "write", "check")


@frozen(kw_only=True)
class ServerState:
    """How one server is, for metrics and for operators."""

    name: str
    """host:port."""
    role: Role
    """As configured; see `is_writable` for one that was promoted."""
    is_up: bool
    """Whether it answered when it was last asked."""
    is_fit: bool
    """Whether it is read before others: up, and not too far behind."""
    is_writable: bool
    """Whether it said, when it was last looked at, that it takes writes and follows nobody."""
    lag_seconds: float | None
    """How far it is behind; None for the primary, and where that is not known."""
    outstanding: int
    """Queries that it has been given and that have no outcome yet, those that wait included."""
    waiting: int
    """Those of them that wait for a connection."""
    queries: Mapping[Kind, int]
    failures: Mapping[Kind, int]
    """Queries without an answer: no connection, a connection that was lost, or time was over."""
    why: str | None
    """Why it is not up or not fit; None when it is."""


class Sql(Protocol):
    """A primary and its replicas. `Servers` is the real one; everything is called in the reactor's thread."""

    def read(self, query: Callable[[Connection], T], fresh: bool = False) -> "Deferred[T]":
        """Return what `query` returns; it runs in a thread, may run twice, and only reads (autocommit is on).

        A fit replica is asked, else the primary, else a replica that is behind. With `fresh` the server that takes
        writes is asked first, so that one's own writes are seen. Fails with SqlUnavailable or what `query` raised.
        """

    def write(self, change: Callable[[Connection], T]) -> "Deferred[T]":
        """Return what `change` returned, once its transaction is committed on the server that takes writes.

        `change` neither commits nor rolls back. It may run twice, but its effects come once: it is tried again only
        when nothing of the first attempt can have stayed. Fails with SqlUnavailable (then it may be committed or not,
        unless the text says that nothing was done) or, rolled back, with what `change` raised.
        """

    @property
    def may_be_late(self) -> bool:
        """Whether what was read last may come from a replica that is behind, because no other server answered."""

    @property
    def writer(self) -> str | None:
        """host:port of the server that writes go to now; None while there is none."""

    @property
    def problem(self) -> str | None:
        """Why nothing can be read now; None while some server answers."""

    @property
    def states(self) -> tuple[ServerState, ...]:
        """The primary and its replicas, as configured."""
