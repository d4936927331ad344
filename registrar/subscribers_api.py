"""What the admin site does with users: `/v1/users`. Hashes are never shown."""

from collections.abc import Awaitable
from typing import Protocol, TypeVar

import msgspec

from registrar.auth import StoreUnavailable, Subscriber
from registrar.subscribers.contract import InvalidSubscriber, NoSuchSubscriber, SubscriberExists
from rollcall.ops.api import ApiError, Call, Reply, Routes

T = TypeVar("T")

USERS = "/v1/users"
ONE = USERS + "/{name}"
PASSWORD = "/password"
REMOVE = "/remove"
FORGET = "/forget"


class NewUser(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/users."""

    username: str
    domain: str
    password: str


class NewPassword(msgspec.Struct, forbid_unknown_fields=True):
    """The body of PUT /v1/users/{name}/password."""

    password: str


class Subscribers(Protocol):
    """Who knows the users, and lets all registrars hear of changes."""

    async def find(self, username: str, domain: str) -> Subscriber | None:
        """Return a user or None."""

    async def add(self, username: str, domain: str, password: str) -> None:
        """Add a user."""

    async def set_password(self, username: str, domain: str, password: str) -> None:
        """Give a user another password."""

    async def remove(self, username: str, domain: str) -> None:
        """Remove a user."""

    async def forget(self, username: str, domain: str) -> None:
        """Have all registrars look up a user again."""


class Users:
    """Adds, changes and removes users. `name` is "alice@example.com".

    What PUT and DELETE do can be asked for by POST, too: to …/password and …/remove.
    422 when something cannot be a name or a password, 503 when the database cannot be asked now.
    """

    def __init__(self, subscribers: Subscribers) -> None:
        self._subscribers = subscribers

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.post(USERS, self.add)
        routes.get(ONE, self.show)
        routes.delete(ONE, self.remove)
        routes.post(ONE + REMOVE, self.remove)
        routes.add("PUT", ONE + PASSWORD, self.set_password)
        routes.post(ONE + PASSWORD, self.set_password)
        routes.post(ONE + FORGET, self.forget)

    async def add(self, call: Call) -> Reply:
        """Add a user: 201, or 409 when there is one of this name."""
        new = call.body(NewUser)
        await _done(self._subscribers.add(new.username, new.domain, new.password))
        return Reply(_shown(new.username, new.domain), 201)

    async def show(self, call: Call) -> Reply:
        """Say whether there is such a user: {"username": …, "domain": …, "algorithms": […]}, or 404."""
        username, domain = _name(call)
        found = await _done(self._subscribers.find(username, domain))
        if found is None:
            raise ApiError(404, f"there is no subscriber {username}@{domain}")
        return Reply(_shown(found.username, found.domain) | {"algorithms": sorted(found.ha1)})

    async def set_password(self, call: Call) -> Reply:
        """Give a user another password: 204, or 404 when there is none."""
        new = call.body(NewPassword)
        await _done(self._subscribers.set_password(*_name(call), new.password))
        return Reply(b"", 204)

    async def remove(self, call: Call) -> Reply:
        """Remove a user: 204, or 404 when there is none. Phones stay registered until their registration lapses."""
        await _done(self._subscribers.remove(*_name(call)))
        return Reply(b"", 204)

    async def forget(self, call: Call) -> Reply:
        """Have all registrars look up a user again, who was changed by other means: 204."""
        await _done(self._subscribers.forget(*_name(call)))
        return Reply(b"", 204)


async def _done(asked: Awaitable[T]) -> T:
    """Return what is answered; errors become those of the API."""
    try:
        return await asked
    except InvalidSubscriber as problem:
        raise ApiError(422, str(problem)) from problem
    except NoSuchSubscriber as problem:
        raise ApiError(404, str(problem)) from problem
    except SubscriberExists as problem:
        raise ApiError(409, str(problem)) from problem
    except StoreUnavailable as problem:
        raise ApiError(503, f"users cannot be looked up or changed now: {problem}") from problem


def _name(call: Call) -> tuple[str, str]:
    username, _, domain = call.parts["name"].rpartition("@")
    if not username:
        raise ApiError(422, "a user is named with the domain, as in alice@example.com")
    return username, domain.lower()


def _shown(username: str, domain: str) -> dict[str, object]:
    return {"username": username, "domain": domain.lower()}
