"""What a SUBSCRIBE within a dialog of another node takes: to that node, and its answer back (RFC 3261 §§16.6, 16.7)."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from registrar.authorising import Refusal
from registrar.regevent.delivery import Delivery
from rollcall.net.flow import ConnectFailed, Flow
from rollcall.net.transactions import ClientTransaction, ServerTransaction
from rollcall.sip.forwarding import max_forwards, spend_hop
from rollcall.sip.message import Request, Response


class Elsewhere(Protocol):
    """The way to the other nodes."""

    async def pass_on(self, request: Request, server: ServerTransaction, node: str, epoch: int) -> bool:
        """Have the node answer `request`; return False when it lives no more in this epoch. Raises Refusal."""


class Nowhere:
    """There are no other nodes."""

    async def pass_on(self, request: Request, server: ServerTransaction, node: str, epoch: int) -> bool:
        """Nobody is there."""
        return False


class ToMembers:
    """The other nodes of a cluster, over the connections between nodes."""

    def __init__(self, is_living: Callable[[str, int], bool], flow_to: Callable[[str, int], Awaitable[Flow]],
                 delivery: Delivery, retry_after: Callable[[], int]) -> None:
        """`flow_to` returns the connection to a living node, or raises ConnectFailed."""
        self._is_living = is_living
        self._flow_to = flow_to
        self._delivery = delivery
        self._retry_after = retry_after

    async def pass_on(self, request: Request, server: ServerTransaction, node: str, epoch: int) -> bool:
        """Forward `request`; the answer goes back by itself."""
        if not self._is_living(node, epoch):
            return False
        if max_forwards(request) == 0:
            raise Refusal(483)
        try:
            flow = await self._flow_to(node, epoch)
        except ConnectFailed as problem:
            raise Refusal(503, None, (("Retry-After", str(self._retry_after())),)) from problem
        copy = request.copy()
        spend_hop(copy)
        # All of them name us, or the request would not be ours to answer; to the other node they would be strangers'.
        copy.remove("Route")
        self._delivery.send_over(copy, flow, Relay(server))
        return True


class Relay:
    """Hands the answers to a forwarded request back to who sent it."""

    def __init__(self, server: ServerTransaction) -> None:
        self._server = server

    def response_received(self, response: Response, transaction: ClientTransaction) -> None:
        """Hand an answer back without our Via."""
        response.remove_first_value("Via")
        if response.get("Via") is not None and response.status != 100:
            self._server.respond(response)

    def request_failed(self, transaction: ClientTransaction, timed_out: bool) -> None:
        """Say that it was not done: the subscriber asks again, and the subscription lives on or is dead by then."""
        if not self._server.answered:
            self._server.refuse(503)
