"""Subscribers in memory: the fakes for tests, and for trying things out. They forget everybody at the end."""

from collections.abc import AsyncIterator, Sequence

from registrar.auth import StoreUnavailable, Subscriber
from registrar.subscribers.contract import (
    PAGE_SIZE,
    NoSuchSubscriber,
    SubscriberExists,
    checked_domain,
    checked_username,
    subscriber_with,
)
from registrar.subscribers.source import Changed


class MemorySubscribers:
    """A SubscriberStore that keeps to its contract and never waits.

    `unavailable` can be set to a text, which every method then raises as StoreUnavailable; `found` is the transcript
    of who was looked up.
    """

    def __init__(self) -> None:
        self.unavailable: str | None = "not started"
        self.found: list[tuple[str, str]] = []
        self._subscribers: dict[tuple[str, str], Subscriber] = {}

    async def start(self) -> None:
        """Begin to answer."""
        self.unavailable = None

    async def stop(self) -> None:
        """Answer no more."""
        self.unavailable = "stopped"

    async def find(self, username: str, domain: str) -> Subscriber | None:
        """Return the subscriber or None."""
        self._check()
        self.found.append((username, domain))
        return self._subscribers.get((username, domain.lower()))

    def peek(self, name: str, now: float) -> bytes | None:
        """Return H(A1) by MD5 of "username@domain" when `find` would find it. See auth.Peek."""
        username, _, domain = name.partition("@")
        subscriber = self._subscribers.get((username, domain))
        held = subscriber.ha1.get("MD5") if subscriber is not None and self.unavailable is None else None
        return None if held is None else held.encode()

    async def add(self, username: str, domain: str, password: str) -> None:
        """Add a subscriber."""
        self._check()
        subscriber = subscriber_with(username, domain, password)
        key = subscriber.username, subscriber.domain
        if key in self._subscribers:
            raise SubscriberExists(f"{username}@{domain} exists already")
        self._subscribers[key] = subscriber

    async def set_password(self, username: str, domain: str, password: str) -> None:
        """Give a subscriber another password."""
        self._check()
        subscriber = subscriber_with(username, domain, password)
        self._subscribers[self._key(username, domain)] = subscriber

    async def remove(self, username: str, domain: str) -> None:
        """Remove a subscriber."""
        self._check()
        del self._subscribers[self._key(username, domain)]

    async def list(self, page_size: int = PAGE_SIZE) -> AsyncIterator[Subscriber]:
        """Iterate over all subscribers by username and domain."""
        self._check()
        for _, subscriber in sorted(self._subscribers.items()):
            yield subscriber

    async def count(self) -> int:
        """Return how many subscribers there are."""
        self._check()
        return len(self._subscribers)

    def _key(self, username: str, domain: str) -> tuple[str, str]:
        key = checked_username(username), checked_domain(domain)
        if key not in self._subscribers:
            raise NoSuchSubscriber(f"there is no subscriber {username}@{domain}")
        return key

    def _check(self) -> None:
        if self.unavailable is not None:
            raise StoreUnavailable(self.unavailable)


class MemorySource:
    """A Source that keeps to its contract and never waits.

    `found` is the transcript of who was looked up, and whether that had to be fresh.
    """

    may_be_late = False

    def __init__(self) -> None:
        self.store = MemorySubscribers()
        self.found: list[tuple[str, str, bool]] = []
        self._changed: list[tuple[str, str]] = []

    async def start(self) -> None:
        """Begin to answer."""
        await self.store.start()

    async def stop(self) -> None:
        """Answer no more."""
        await self.store.stop()

    async def find(self, username: str, domain: str, fresh: bool) -> Subscriber | None:
        """Return the subscriber or None."""
        self.found.append((username, domain, fresh))
        return await self.store.find(username, domain)

    async def page(self, after: tuple[str, str], size: int) -> Sequence[Subscriber]:
        """Return the first `size` subscribers that come after this username and domain; none at the end."""
        everybody = [each async for each in self.store.list()]
        return [each for each in everybody if (each.username, each.domain) > after][:size]

    async def count(self) -> int:
        """Return how many subscribers there are."""
        return await self.store.count()

    async def add(self, username: str, domain: str, password: str) -> None:
        """Add a subscriber."""
        await self.store.add(username, domain, password)
        self._changed.append((username, domain))

    async def set_password(self, username: str, domain: str, password: str) -> None:
        """Give a subscriber another password."""
        await self.store.set_password(username, domain, password)
        self._changed.append((username, domain))

    async def remove(self, username: str, domain: str) -> None:
        """Remove a subscriber."""
        await self.store.remove(username, domain)
        self._changed.append((username, domain))

    async def changes(self, since: int | None) -> Changed:
        """Return who was changed since a mark, as far as this object was asked to."""
        await self.store.count()
        return Changed(len(self._changed), () if since is None else tuple(self._changed[since:]))
