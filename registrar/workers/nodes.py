"""What the admin site of several workers says of nodes, connections and subscriptions: what they say, put together.

Each worker is a node. Those that share their bindings by Redis know each other and all other nodes; others know only
themselves.
"""

from typing import Any
from urllib.parse import quote

from attrs import define
from twisted.internet.defer import Deferred, DeferredList

from registrar.api import Listings, asked_for
from registrar.cluster_api import DrainWish
from registrar.workers.contacts import read_answer
from registrar.workers.hub import NoAnswer
from registrar.workers.messages import Answer
from registrar.workers.supervisor import Supervisor
from rollcall.ops.api import ApiError, Call, Reply, Routes

NODES = "/v1/nodes"
FLOWS = "/v1/flows"
SUBSCRIPTIONS = "/v1/subscriptions"


class AllNodes:
    """Answers as `registrar.cluster_api` does, for all workers."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.get(NODES, self.nodes)
        routes.post(NODES + "/{node}/drain", self.drain)

    async def nodes(self, call: Call) -> Reply:
        """Answer which nodes there are; what a worker says of itself counts more than what others say of it."""
        pages = {index: read_answer(answer) for index, answer in (await ask_all(self._supervisor, NODES)).items()}
        nodes: dict[str, dict[str, Any]] = {}
        for page in pages.values():
            for node in page["nodes"]:
                if node["this"] or node["node"] not in nodes:
                    nodes[node["node"]] = node
        problems = [f"worker {index}: {page['problem']}" for index, page in pages.items() if page["problem"]]
        return Reply({"nodes": [nodes[name] for name in sorted(nodes)], "problem": "; ".join(problems) or None})

    async def drain(self, call: Call) -> Reply:
        """Have a node drained: each worker is told, for all of them may have to be."""
        call.body(DrainWish)
        path = f"{NODES}/{quote(call.parts['node'], safe='')}/drain"
        answers = await ask_all(self._supervisor, path, content=call.content)
        told = [read_answer(answer) for answer in answers.values() if answer.status == 202]
        if not told:
            # All have the same to say.
            read_answer(next(iter(answers.values())))
        return Reply({"nodes": sorted({name for page in told for name in page["nodes"]}),
                      "draining": told[0]["draining"]}, 202)


@define(eq=False)
class _Listing:
    """A walk over what one worker after the other lists."""

    size: int
    workers: list[int]
    after: str | None = None


class Walk:
    """Answers with what each worker lists of its own, one worker after the other, or about one address-of-record."""

    def __init__(self, supervisor: Supervisor, path: str) -> None:
        """The last word of `path` names the list in the answers."""
        self._supervisor = supervisor
        self._path = path
        self._name = path.rpartition("/")[2]
        self._listings: Listings[_Listing] = Listings()

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.get(self._path, self.listed)

    async def listed(self, call: Call) -> Reply:
        """Answer the next page, or all of one address-of-record."""
        aor, size = asked_for(call)
        if aor is not None:
            answers = await ask_all(self._supervisor, self._path, {"aor": aor})
            return Reply({self._name: [each for answer in answers.values() for each in read_answer(answer)[self._name]],
                          "next": None})
        listing = self._listings.resumed(call) or _Listing(size, list(self._supervisor.workers))
        try:
            shown = await self._page(listing)
        except NoAnswer as problem:
            raise ApiError(503, str(problem)) from problem
        return Reply({self._name: shown, "next": self._listings.keep(listing) if listing.workers else None})

    async def _page(self, listing: _Listing) -> list[dict[str, Any]]:
        query = {"size": str(listing.size)}
        if listing.after is not None:
            query["after"] = listing.after
        page = read_answer(await self._supervisor.hub.ask(listing.workers[0], self._path, query))
        listing.after = page["next"]
        if listing.after is None:
            del listing.workers[0]
        shown: list[dict[str, Any]] = page[self._name]
        return shown


async def ask_all(supervisor: Supervisor, path: str, query: dict[str, str] | None = None,
                  content: bytes | None = None) -> dict[int, Answer]:
    """Return what each worker answers that does. Raises ApiError (503) when none does."""
    asked: dict[int, Deferred[Answer]] = {}
    for index in supervisor.workers:
        try:
            asked[index] = supervisor.hub.ask(index, path, query, content)
        except NoAnswer:
            continue
    results = await DeferredList(asked.values(), consumeErrors=True)
    answers = {index: answer for index, (is_there, answer) in zip(asked, results, strict=True) if is_there}
    if not answers:
        raise ApiError(503, "no worker answers")
    return answers
