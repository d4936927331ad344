"""Subscribers in memory: the fake for tests, and for trying things out. It forgets everybody at the end."""

from collections.abc import AsyncIterator

from registrar.auth import StoreUnavailable, Subscriber
from registrar.subscribers.contract import (
    PAGE_SIZE,
    NoSuchSubscriber,
    SubscriberExists,
    checked_domain,
    checked_username,
    subscriber_with,
)


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
