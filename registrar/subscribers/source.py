"""What a database of subscribers does below the caches: nothing here is remembered."""

from collections.abc import Sequence
from typing import Protocol

from registrar.auth import Subscriber
from rollcall.sip.values import frozen


@frozen
class Changed:
    """Who was changed since one asked last."""

    mark: int
    """What to ask with the next time."""
    names: tuple[tuple[str, str], ...] | None
    """Username and domain of each; None: it cannot be told who, it may be anybody."""


class Source(Protocol):
    """Where subscribers are kept in the end. Each method but `start` and `stop` may raise StoreUnavailable.

    Names are checked, and domains are in lower case, before they come here. Those that change something raise as those
    of SubscriberStore do.
    """

    async def start(self) -> None:
        """Make ready to answer. Does not wait for a server that is away."""

    async def stop(self) -> None:
        """Let go of everything; afterwards every method raises StoreUnavailable."""

    @property
    def may_be_late(self) -> bool:
        """Whether what was returned last may be older than what others have heard of long ago."""

    async def find(self, username: str, domain: str, fresh: bool) -> Subscriber | None:
        """Return the subscriber or None. `fresh`: not from where a change may arrive late, if that can be had."""

    async def page(self, after: tuple[str, str], size: int) -> Sequence[Subscriber]:
        """Return the first `size` subscribers that come after this username and domain; none at the end."""

    async def count(self) -> int:
        """Return how many subscribers there are."""

    async def add(self, username: str, domain: str, password: str) -> None:
        """Add a subscriber."""

    async def set_password(self, username: str, domain: str, password: str) -> None:
        """Give a subscriber another password."""

    async def remove(self, username: str, domain: str) -> None:
        """Remove a subscriber."""

    async def changes(self, since: int | None) -> Changed:
        """Return who was changed since a mark; with None only the mark of now."""
