"""The way of NOTIFYs to subscribers: over the flow of the SUBSCRIBE, or by route set and Contact (RFC 3263)."""

from collections.abc import Callable
from enum import Enum

from attrs import frozen
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.routing import ByUri
from registrar.sending import Attempt, Forwarded, Sender, Undeliverable
from rollcall.net.flow import Flow, Listener
from rollcall.net.transactions import ClientTransaction, ClientUser, Transactions
from rollcall.net.transports import Transports
from rollcall.ops.coroutines import start
from rollcall.sip.errors import ParseError
from rollcall.sip.forwarding import loop_mark, make_strict, new_branch, same_host
from rollcall.sip.headers import delta_seconds
from rollcall.sip.message import Request, Response
from rollcall.sip.uri import SipUri, parse_uri


class Outcome(Enum):
    """What became of a NOTIFY."""

    TAKEN = "taken"
    POSTPONED = "postponed"
    """The subscriber, or a proxy, cannot take it now."""
    REFUSED = "refused"
    """The subscriber does not want it, or knows nothing of it: RFC 6665 §4.2.2 ends the subscription."""
    SILENT = "silent"
    UNREACHABLE = "unreachable"


Answered = Callable[[Outcome, int | None], None]
"""Told once what became of a NOTIFY, and the seconds of a Retry-After."""

# RFC 5057 §5.1: these "affect the transaction" only. All others end the subscription: they would come again.
PASSING = frozenset({500, 503, 504})


@frozen(eq=False)
class Way:
    """How a subscriber is reached."""

    source: Flow
    """The flow that its SUBSCRIBE came over."""
    flow: Flow | None
    """The flow to the subscriber itself; None when proxies are between, and the URIs say how to reach it."""


class Delivery:
    """Sends requests to subscribers."""

    _log = Logger()

    def __init__(self, transports: Transports, sender: Sender, transactions: Transactions, worker: int = 0) -> None:
        """`worker` is the number of ours among those that share our ports, so that answers find back."""
        self._transports = transports
        self._sender = sender
        self._transactions = transactions
        self._worker = worker

    def face(self, flow: Flow) -> Listener:
        """Return the listener whose name the peer of `flow` is given."""
        listener = flow.listener or self._transports.listener_for(flow.transport, flow.peer[0])
        return listener or next(iter(self._transports.listeners.values()))

    def way_to(self, request: Request, source: Flow, contact: str) -> Way:
        """Return how to reach who sent this SUBSCRIBE.

        A subscriber that is our peer hears us where it spoke from, whatever NAT is between. One that sends datagrams
        from another port of the same address hears us where its Contact says.
        """
        if source.member or len(request.values("Via")) > 1 or request.values("Record-Route"):
            return Way(source, None)
        uri = parse_uri(contact)
        listener = source.listener
        if source.reliable or listener is None or not isinstance(uri, SipUri):
            return Way(source, source)
        if not same_host(uri.host, source.peer[0]):
            return Way(source, source)
        flow = self._transports.datagram_flow(listener.name, source.peer[0], uri.port or 5060)
        return Way(source, flow or source)

    def send(self, request: Request, way: Way, answered: Answered) -> None:
        """Send `request`, which has no Via yet; `answered` is told of its end, at once when there is no way."""

        def broke(failure: Failure) -> None:
            self._log.failure("a NOTIFY broke", failure)
            answered(Outcome.UNREACHABLE, None)

        start(self._send(request, way, answered), broke)

    async def _send(self, request: Request, way: Way, answered: Answered) -> None:
        flow = way.flow
        if flow is None:
            try:
                flow = await self._found(request, way.source)
            except (Undeliverable, ParseError) as problem:
                self._log.info("no way to subscriber {uri}: {problem}", uri=request.uri, problem=str(problem),
                               log_rationed=True)
                answered(Outcome.UNREACHABLE, None)
                return
        make_strict(request)
        self.send_over(request, flow, _Waiting(answered))

    def send_over(self, request: Request, flow: Flow, user: ClientUser) -> None:
        """Send `request` over `flow`, with a Via of ours on top."""
        face, branch = self.face(flow), new_branch(loop_mark(request), self._worker)
        request.prepend("Via", f"SIP/2.0/{flow.transport} {face.host}:{face.port};branch={branch}")
        self._transactions.send(request, branch, flow, user)

    async def _found(self, request: Request, source: Flow) -> Flow:
        """Return a flow to the first hop by RFC 3263. Raises Undeliverable."""
        asked = Forwarded(request, source, "", False, b"", 1)
        problem = Undeliverable("nowhere to go")
        for target in await self._sender.targets(asked, Attempt(request.uri, ByUri())):
            try:
                return await self._sender.connect(target)
            except Undeliverable as failed:
                problem = failed
        raise problem


class _Waiting:
    """Waits for the answer to one NOTIFY."""

    def __init__(self, answered: Answered) -> None:
        self._answered = answered

    def response_received(self, response: Response, transaction: ClientTransaction) -> None:
        """Tell what a final answer means."""
        if response.status >= 200:
            self._answered(*_meaning(response))

    def request_failed(self, transaction: ClientTransaction, timed_out: bool) -> None:
        """Tell that nobody answered."""
        self._answered(Outcome.SILENT if timed_out else Outcome.UNREACHABLE, None)


def _meaning(response: Response) -> tuple[Outcome, int | None]:
    if response.status < 300:
        return Outcome.TAKEN, None
    seconds = _retry_after(response)
    if response.status in PASSING or (seconds is not None and response.status != 481):
        return Outcome.POSTPONED, seconds
    return Outcome.REFUSED, None


def _retry_after(response: Response) -> int | None:
    """Return the seconds of Retry-After, e.g. of "120 (in a meeting);duration=60" (RFC 3261 §20.33)."""
    text = (response.get("Retry-After") or "").partition(";")[0].partition("(")[0].strip()
    try:
        return delta_seconds(text)
    except ParseError:
        return None
