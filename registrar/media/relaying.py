"""Offers, answers and ends of calls, told to rtpengines: whoever does not answer in time is left for another node.

A node that is killed must fail no call that is being set up. An offer that it leaves alone goes to another one. When it
leaves an answer alone, the offer's addresses lead nowhere: then another node gets both, and the call is stranded until
its callee hears of that one.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from attrs import evolve, frozen
from twisted.logger import Logger

from registrar.media.choosing import Choosing, Place
from registrar.media.flags import Arguments, End, answer_arguments, offer_arguments
from rollcall.media.ng import NgRefused, NgUnreachable
from rollcall.media.snapshot import MediaNode
from rollcall.ops.coroutines import start

DELETE_SECONDS = 3.0
"""How long a node is asked to end a call: nobody waits for it. What it never hears of ends with its own time-outs."""

MOST_REFUSALS = 2
"""A description that two nodes do not take is no node's fault."""

MOST_AWAY = 3
"""So many nodes are asked that do not answer: what kills a node must not be tried on all of them."""

MAX_BYTES = 20_000
"""No description is longer, with all that a node is told beside it; a browser's with video has half of that. What fits
no datagram, be it the node's reply, would look as if the node were away."""


class Asks(Protocol):
    """An NgClient."""

    async def ask(self, address: str, command: str, arguments: Mapping[str, Any], seconds: float,
                  is_tcp: bool = False) -> dict[str, Any]:
        """See rollcall.media.ng.NgClient."""


class NoPlace(Exception):
    """No node can have the call."""


class Unacceptable(Exception):
    """Nodes do not understand what is offered."""


class Lost(Exception):
    """The node that had the offer does not know it any more."""

    def __init__(self, why: str, is_away: bool) -> None:
        """`is_away` says that it did not answer; else it may take the offer once more."""
        super().__init__(why)
        self.is_away = is_away


@frozen
class Exchange:
    """One offer and its answer, as phones have written them, and between whom."""

    call_id: str
    offerer: End
    answerer: End
    offer: bytes
    answer: bytes = b""
    branch: str = ""

    def offer_arguments(self) -> Arguments:
        """Return what a node is told with the offer."""
        return offer_arguments(self.call_id, self.offerer, self.answerer, self.branch) | {"sdp": self.offer}

    def answer_arguments(self) -> Arguments:
        """Return what a node is told with the answer."""
        return answer_arguments(self.call_id, self.offerer, self.answerer, self.branch) | {"sdp": self.answer}

    def unanswered(self) -> "Exchange":
        """Return what a node hears first of a call: its answerer is not known yet when it has a branch."""
        return evolve(self, answerer=End("", self.answerer.is_webrtc)) if self.branch else self


@frozen
class Relayed:
    """What the other side gets to read, and where that was made of what its peer has written."""

    node: MediaNode
    sdp: bytes
    is_stranded: bool = False
    """Whether the answerer still has the addresses of another node."""


class Relaying:
    """Speaks with nodes about the calls of one registrar."""

    _log = Logger()

    def __init__(self, asks: Asks, choosing: Choosing, seconds: float) -> None:
        """`seconds` is how long a node may take to answer."""
        self.outcomes: Counter[str] = Counter()
        """How often which command came to what, e.g. "offer ok"; for metrics."""
        self._asks = asks
        self._choosing = choosing
        self._seconds = seconds

    async def offered(self, place: Place, exchange: Exchange) -> Relayed:
        """Tell the node of `place` what is offered, or the next one that takes it. Raises NoPlace and Unacceptable."""
        refusals = away = 0
        while away < MOST_AWAY and (node := place.node) is not None:
            try:
                return Relayed(node, await self._tell(node, "offer", exchange.unanswered().offer_arguments()))
            except NgUnreachable as problem:
                away += 1
                self._is_away(node, exchange.call_id, problem)
            except NgRefused as problem:
                refusals += not problem.is_full
                self._log.info("{node} does not take a call: {why}", node=node.id, why=problem.reason,
                               log_rationed=True)
                if refusals >= MOST_REFUSALS:
                    raise Unacceptable(problem.reason) from problem
            place.failed(node)
        if refusals:
            raise Unacceptable("no node takes it")
        raise NoPlace

    async def answered(self, node: MediaNode, exchange: Exchange) -> Relayed:
        """Tell `node` what was answered to the offer that it knows. Raises Lost."""
        try:
            return Relayed(node, await self._tell(node, "answer", exchange.answer_arguments()))
        except NgUnreachable as problem:
            self._is_away(node, exchange.call_id, problem)
            raise Lost(str(problem), is_away=True) from problem
        except NgRefused as problem:
            raise Lost(problem.reason, is_away=False) from problem

    async def answered_anywhere(self, node: MediaNode, place: Place, exchange: Exchange) -> Relayed:
        """Tell `node` what was answered, or another node both that and the offer. Raises NoPlace and Unacceptable."""
        try:
            return await self.answered(node, exchange)
        except Lost as problem:
            self._log.warn("{node} has lost a call that was being set up: {why}", node=node.id, why=str(problem),
                           log_rationed=True)
            if problem.is_away:
                place.failed(node)
        for _ in range(MOST_AWAY):
            there = await self.offered(place, exchange)
            try:
                return evolve(await self.answered(there.node, exchange), is_stranded=True)
            except Lost:
                place.failed(there.node)
        raise NoPlace

    async def told_again(self, node: MediaNode, exchange: Exchange) -> None:
        """Have `node` believe what was agreed on before: what was offered since is refused."""
        try:
            await self._tell(node, "offer", exchange.offer_arguments())
            await self._tell(node, "answer", exchange.answer_arguments())
        except (NgUnreachable, NgRefused) as problem:
            self._log.info("{node} does not go back to what was agreed on: {why}", node=node.id, why=str(problem),
                           log_rationed=True)

    def delete(self, address: str, arguments: Arguments) -> None:
        """Have a node end a call, or a branch of it, without waiting for that."""
        start(self._delete(address, arguments), lambda failure: self._log.failure("a delete broke", failure=failure))

    async def _delete(self, address: str, arguments: Arguments) -> None:
        try:
            await self._asks.ask(address, "delete", arguments, DELETE_SECONDS)
        except NgUnreachable as problem:
            self._count("delete", "unreachable")
            self._log.debug("{address} was not told that a call has ended: {why}", address=address, why=str(problem))
        except NgRefused:
            # It has ended there already.
            self._count("delete", "unknown")
        else:
            self._count("delete", "ok")

    async def _tell(self, node: MediaNode, command: str, arguments: Arguments) -> bytes:
        if sum(len(value) for value in arguments.values() if isinstance(value, bytes | str)) > MAX_BYTES:
            self._count(command, "refused")
            raise NgRefused("too long", is_full=False)
        try:
            reply = await self._asks.ask(node.address, command, arguments, self._seconds)
        except NgUnreachable:
            self._count(command, "unreachable")
            raise
        except NgRefused as problem:
            self._count(command, "full" if problem.is_full else "refused")
            raise
        sdp = reply.get("sdp")
        if not isinstance(sdp, bytes) or not sdp:
            self._count(command, "refused")
            raise NgRefused("no session description", is_full=False)
        self._count(command, "ok")
        return sdp

    def _is_away(self, node: MediaNode, call_id: str, problem: NgUnreachable) -> None:
        self._choosing.failed(node.id)
        self._log.warn("{node} does not answer: {why}", node=node.id, why=str(problem), log_rationed=True)
        # It may have heard of the call all the same, and come back with it.
        self.delete(node.address, {"call-id": call_id, "delete-delay": 0})

    def _count(self, command: str, outcome: str) -> None:
        self.outcomes[f"{command} {outcome}"] += 1


Stranded = Callable[[str], None]
"""Is told the Call-ID of a call whose callee has to be led to another node."""
