"""What nodes of other sites are told: who lives here, and what is bound here. It is never asked on anywhere."""

from collections import Counter
from collections.abc import Callable, Iterable

from attrs import evolve
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.location.contract import LocationStore, LocationUnavailable, Snapshot
from registrar.owners import Cluster, living
from registrar.records import Binding, aor_of_key
from registrar.sites.words import (
    CONTENT_TYPE,
    WordsNotUnderstood,
    is_question,
    nodes_answer,
    read_question,
    record_answer,
)
from rollcall.cluster.nodes import Node
from rollcall.net.flow import Flow
from rollcall.net.transactions import ServerTransaction
from rollcall.ops.coroutines import start
from rollcall.sip.message import Request
from rollcall.sip.replies import response_to

MOST_AT_A_TIME = 1000
"""Questions that wait for our own Redis; further ones are answered 503, and their callers do without."""


class Answering:
    """Answers members of other sites."""

    _log = Logger()

    def __init__(self, me: tuple[str, int], nodes: Callable[[], Iterable[Node]], cluster: Cluster,
                 location: LocationStore, now: Callable[[], float]) -> None:
        """`me` is our node's name and epoch; `nodes` are those of our site, which `cluster` knows, too."""
        self._me = me
        self._nodes = nodes
        self._cluster = cluster
        self._location = location
        self._now = now
        self._waiting = 0
        self.outcomes: Counter[str] = Counter({
            "nodes": 0, "found": 0, "nobody": 0, "malformed": 0, "unavailable": 0, "too_many": 0})
        """What they were told."""

    def wants(self, request: Request, flow: Flow) -> bool:
        """Say whether this is a question of a member."""
        return is_question(request, flow)

    def receive(self, request: Request, server: ServerTransaction) -> None:
        """Answer a question; every way out answers `server`."""
        start(self._answer(request, server), lambda failure: self._broke(failure, server))

    async def _answer(self, request: Request, server: ServerTransaction) -> None:
        try:
            question = read_question(request.body)
        except WordsNotUnderstood as problem:
            self._log.warn("a question of {peer} is not understood: {problem}", peer=server.flow.peer,
                           problem=str(problem), log_rationed=True)
            self._refuse(server, 400, "malformed")
            return
        if question.aor is None:
            self._tell(server, "nodes", nodes_answer(self._nodes()))
        elif self._waiting >= MOST_AT_A_TIME:
            self._refuse(server, 503, "too_many")
        else:
            await self._look(server, question.aor)

    async def _look(self, server: ServerTransaction, key: bytes) -> None:
        self._waiting += 1
        try:
            found = self._there(await self._location.load(aor_of_key(key)))
        except LocationUnavailable:
            self._refuse(server, 503, "unavailable")
        else:
            self._tell(server, "found" if found.bindings else "nobody", record_answer(found))
        finally:
            self._waiting -= 1

    def _there(self, snapshot: Snapshot) -> Snapshot:
        """Return what can be reached, and else when the last of it was lost, as our own calls would see it."""
        there = living(snapshot.bindings, self._cluster)
        if not there:
            ended = [self._cluster.ended_at(each.source.node, each.source.epoch) for each in snapshot.bindings]
            return Snapshot(0, (), max([snapshot.lost_at, *(at for at in ended if at is not None)]))
        now = self._now()
        return Snapshot(0, tuple(self._adopted(each) for each in there if each.expires_at > now))

    def _adopted(self, binding: Binding) -> Binding:
        """Return a binding by UDP whose node is gone as one of ours: any node of the site speaks to that phone."""
        if binding.connection_bound or self._cluster.node(binding.source.node) is not None:
            return binding
        node, epoch = self._me
        return evolve(binding, source=evolve(binding.source, node=node, epoch=epoch))

    def _tell(self, server: ServerTransaction, outcome: str, body: bytes) -> None:
        self.outcomes[outcome] += 1
        answer = response_to(server.request, 200, headers=(("Content-Type", CONTENT_TYPE),))
        answer.body = body
        server.respond(answer)

    def _refuse(self, server: ServerTransaction, status: int, outcome: str) -> None:
        self.outcomes[outcome] += 1
        server.refuse(status)

    def _broke(self, failure: Failure, server: ServerTransaction) -> None:
        self._log.failure("a question of another site broke", failure)
        if not server.answered:
            server.refuse(500)
