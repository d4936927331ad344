"""What every store of subscribers does, and what a subscriber may be called."""

import re
import unicodedata
from collections.abc import AsyncIterator
from typing import Protocol

from registrar.auth import Subscriber
from rollcall.sip.digest import ALGORITHMS, ha1

# The columns of Kamailio's table are this wide.
MAX_NAME_CHARS = 64
MAX_PASSWORD_CHARS = 256
PAGE_SIZE = 500

# ":" would end the name within the hash, "@" would end it in an address; the others have to be escaped in
# credentials, and not every phone does that.
_NOT_IN_USERNAMES = frozenset(':@"\\<>')
_DOMAIN = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")


class InvalidSubscriber(ValueError):
    """This cannot be a username, domain or password here; the text says why."""


class SubscriberExists(Exception):
    """There is a subscriber of this name already."""


class NoSuchSubscriber(Exception):
    """There is no subscriber of this name."""


class SubscriberStore(Protocol):
    """Where subscribers are kept. Every implementation passes tests/registrar/subscriber_contract.py.

    Each method may raise StoreUnavailable; then nothing has been changed, and nothing is known. Those that change
    something raise InvalidSubscriber for names or passwords that cannot be. Domains are compared in lower case.
    """

    async def start(self) -> None:
        """Make ready to answer."""

    async def stop(self) -> None:
        """Let go of everything; afterwards every method raises StoreUnavailable."""

    async def find(self, username: str, domain: str) -> Subscriber | None:
        """Return the subscriber, or None when there is none, whatever the texts are."""

    async def add(self, username: str, domain: str, password: str) -> None:
        """Add a subscriber. Raises SubscriberExists."""

    async def set_password(self, username: str, domain: str, password: str) -> None:
        """Give a subscriber another password. Raises NoSuchSubscriber."""

    async def remove(self, username: str, domain: str) -> None:
        """Remove a subscriber. Raises NoSuchSubscriber."""

    def list(self, page_size: int = PAGE_SIZE) -> AsyncIterator[Subscriber]:
        """Iterate over all subscribers by username and domain, read in pages of this size.

        Who is added or removed meanwhile may be missed or seen; everybody else is seen once.
        """

    async def count(self) -> int:
        """Return how many subscribers there are."""


def subscriber_with(username: str, domain: str, password: str) -> Subscriber:
    """Return the subscriber with all hashes of `password`, which is itself forgotten. Raises InvalidSubscriber.

    The password is brought into Unicode's composed form, in which phones are to hash it (RFC 7616 §4).
    """
    username, domain = checked_username(username), checked_domain(domain)
    password = checked_password(password)
    return Subscriber(
        username,
        domain,
        {algorithm: ha1(algorithm, username, domain, password) for algorithm in ALGORITHMS},
        {"MD5": ha1("MD5", f"{username}@{domain}", domain, password)},
    )


def checked_username(text: str) -> str:
    """Return `text` when it can be a username; else raise InvalidSubscriber."""
    if not 0 < len(text) <= MAX_NAME_CHARS:
        raise InvalidSubscriber(f"a username has 1 to {MAX_NAME_CHARS} characters")
    # str.isprintable knows no control characters, no surrogates, and of white space the plain blank only.
    if not text.isprintable() or " " in text or not _NOT_IN_USERNAMES.isdisjoint(text):
        raise InvalidSubscriber('a username has no blanks, control characters, and none of : @ " \\ < >')
    return text


def checked_domain(text: str) -> str:
    """Return `text` in lower case when it can be a domain; else raise InvalidSubscriber."""
    domain = text.lower()
    if len(domain) > MAX_NAME_CHARS or _DOMAIN.fullmatch(domain) is None:
        raise InvalidSubscriber(f"a domain is a host name or address of at most {MAX_NAME_CHARS} characters")
    return domain


def checked_password(text: str) -> str:
    """Return `text` in the form in which it is hashed when it can be a password; else raise InvalidSubscriber."""
    password = unicodedata.normalize("NFC", text)
    if not 0 < len(password) <= MAX_PASSWORD_CHARS:
        raise InvalidSubscriber(f"a password has 1 to {MAX_PASSWORD_CHARS} characters")
    if not password.isprintable():
        raise InvalidSubscriber("a password has no control characters")
    return password


def is_subscriber_name(username: str, domain: str) -> bool:
    """Say whether there can be such a subscriber; `domain` is in lower case."""
    try:
        return bool(checked_username(username)) and checked_domain(domain) == domain
    except InvalidSubscriber:
        return False
