"""What the admin site of several workers says about bindings: what its workers say, and what only the file knows."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from attrs import define

from registrar.api import NODE, Listings, as_shown, asked_for
from registrar.bindings import Binding
from registrar.records import record_key
from registrar.workers.hub import NoAnswer
from registrar.workers.messages import Answer
from registrar.workers.supervisor import Supervisor
from rollcall.ops.api import ApiError, Call, Reply, Routes

PATH = "/v1/contacts"

ReadAfter = Callable[[str, int, float], Awaitable[list[tuple[str, tuple[Binding, ...]]]]]
"""Reads so many rows of the file that follow an address-of-record."""


@define(eq=False)
class _Listing:
    """A walk over the workers, one after the other, and then over the file."""

    query: dict[str, str]
    """What each worker is asked."""
    size: int
    workers: list[int]
    after: str | None = None
    row: str = ""


class AllContacts:
    """Answers as `registrar.api.Contacts` does, for all workers.

    Who registers while a listing goes on, on another worker than before, may be missing from it or be there twice.
    """

    def __init__(self, supervisor: Supervisor, now: Callable[[], float], read_after: ReadAfter | None,
                 shared: bool = False) -> None:
        """`read_after` is None when nothing is kept in a file; `shared` says that each worker knows all bindings."""
        self._supervisor = supervisor
        self._hub = supervisor.hub
        self._now = now
        self._read_after = read_after
        self._shared = shared
        self._listings: Listings[_Listing] = Listings()

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.get(PATH, self.contacts)

    async def contacts(self, call: Call) -> Reply:
        """Answer about one address-of-record, or page by page about all."""
        aor, size = asked_for(call, NODE)
        query = {NODE: call.query[NODE]} if NODE in call.query else {}
        try:
            if aor is not None:
                return await self._of_one(aor, query)
            listing = self._listings.resumed(call) or self._begun(query, size)
            shown, is_over = await self._page(listing)
        except NoAnswer as problem:
            raise ApiError(503, str(problem)) from problem
        return Reply({"contacts": shown, "next": None if is_over else self._listings.keep(listing)})

    def _begun(self, query: dict[str, str], size: int) -> _Listing:
        workers = [self._supervisor.a_ready_one()] if self._shared else list(self._supervisor.workers)
        return _Listing(query | {"size": str(size)}, size, workers)

    async def _of_one(self, aor: str, query: dict[str, str]) -> Reply:
        answer = await self._hub.ask_holder(aor, self._supervisor.a_ready_one, PATH, query | {"aor": aor})
        return Reply(answer.content, answer.status, answer.content_type)

    async def _page(self, listing: _Listing) -> tuple[list[dict[str, Any]], bool]:
        """Return the contacts of the next page, and whether it is the last."""
        if listing.workers:
            return await self._page_of_worker(listing), False
        if self._read_after is None:
            return [], True
        now = self._now()
        rows = await self._read_after(listing.row, listing.size, now)
        if not rows:
            return [], True
        listing.row = rows[-1][0]
        # What a worker holds it has told itself, and better than the file.
        loose = [(aor, bindings) for aor, bindings in rows if self._hub.directory.holder(record_key(aor)) is None]
        node = listing.query.get(NODE)
        return [as_shown(aor, binding, now) for aor, bindings in loose for binding in bindings
                if node is None or binding.source.node == node], False

    async def _page_of_worker(self, listing: _Listing) -> list[dict[str, Any]]:
        query = listing.query if listing.after is None else listing.query | {"after": listing.after}
        page = read_answer(await self._hub.ask(listing.workers[0], PATH, query))
        listing.after = page["next"]
        if listing.after is None:
            del listing.workers[0]
        contacts: list[dict[str, Any]] = page["contacts"]
        return contacts


def read_answer(answer: Answer) -> dict[str, Any]:
    """Return what a worker has answered. Raises ApiError when that was a refusal."""
    page: dict[str, Any] = msgspec.json.decode(answer.content)
    if not 200 <= answer.status < 300:
        raise ApiError(answer.status, str(page.get("error", "a worker cannot answer")))
    return page
