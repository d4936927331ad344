"""How a node is asked how it is: rtpengine for its statistics by ng, others by OPTIONS of SIP (RFC 3261 §11)."""

from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from balancer.nodes.config import NodeConfig
from balancer.nodes.statistics import Load, read_statistics
from balancer.sip import Messages
from rollcall.media.ng import NgClient, NgRefused, NgUnreachable
from rollcall.media.ng_ways import resolved
from rollcall.net.config import ListenerConfig, NetConfig
from rollcall.net.flow import ConnectFailed, Flow
from rollcall.net.transactions import ClientTransaction, Transactions
from rollcall.net.transports import Transports
from rollcall.net.wheel import TimerWheel
from rollcall.ops.allowed import is_address
from rollcall.sip.chance import random_name
from rollcall.sip.forwarding import MAGIC_COOKIE
from rollcall.sip.message import Request, Response
from rollcall.sip.transaction import TransactionConfig

# A question over UDP is sent again after this time, then after twice as long: a lost packet is no missed answer.
T1_SECONDS = 0.1

BUSY = 503


class Unanswered(Exception):
    """A node has not answered; says why."""

    def __init__(self, why: str, is_refused: bool = False) -> None:
        """`is_refused` says that nobody listens there."""
        super().__init__(why)
        self.is_refused = is_refused


@frozen
class Answer:
    """A node lives."""

    load: Load | None = None
    """What it says of its load."""
    is_full: bool = False
    """It says that it has no room."""


class Asking(Protocol):
    """Who asks nodes."""

    async def ask(self, node: NodeConfig, seconds: float) -> Answer:
        """Return a node's answer. Raises Unanswered when there is none within `seconds`."""


class AskingByKind:
    """Asks each node in the way of its kind."""

    def __init__(self, by_ng: Asking, by_options: Asking) -> None:
        self._by_ng = by_ng
        self._by_options = by_options

    async def ask(self, node: NodeConfig, seconds: float) -> Answer:
        """See Asking."""
        return await (self._by_ng if node.kind == "rtpengine" else self._by_options).ask(node, seconds)


class AskingByNg:
    """Asks rtpengines: first whether they live, then for their load.

    They count what each host has asked them, 1.2 kB of it in their statistics: over UDP these get no answer once there
    are some fifty registrars and balancers. Such an rtpengine is well; its load is what registrars count.
    """

    _log = Logger()

    def __init__(self, client: NgClient) -> None:
        self._client = client

    async def ask(self, node: NodeConfig, seconds: float) -> Answer:
        """See Asking; `seconds` are for each of the two questions. A refusal is an answer, too."""
        is_tcp = node.transport == "tcp"
        try:
            await self._client.ask(node.address, "ping", {}, seconds, is_tcp)
        except NgUnreachable as problem:
            raise Unanswered(str(problem), problem.is_refused) from problem
        except NgRefused as refusal:
            return Answer(is_full=refusal.is_full)
        try:
            return Answer(read_statistics(await self._client.ask(node.address, "statistics", {}, seconds, is_tcp)))
        except (NgUnreachable, NgRefused, ValueError) as problem:
            self._log.warn("media node {node} lives, but its load is unknown: {problem}; its statistics may be too "
                           "long for UDP, then transport = \"tcp\" helps", node=node.id, problem=str(problem),
                           log_rationed=True)
            return Answer()


class AskingByOptions:
    """Asks SIP servers. Its sockets are opened when the first is asked."""

    def __init__(self, reactor: Any, hosts: tuple[str, ...]) -> None:
        """`hosts` are the addresses that datagrams leave from, one for each family."""
        self._reactor = reactor
        self._wheel = TimerWheel(reactor)
        self._transactions = Transactions(
            self._wheel, TransactionConfig(t1_seconds=T1_SECONDS), random_name, lambda transaction, response: None)
        self._transports = Transports(
            reactor, self._wheel, Messages(self._transactions, lambda flow: False),
            NetConfig(listeners=tuple(
                ListenerConfig(name=f"options from {host}", transport="udp", host=host, port=0) for host in hosts)))

    async def ask(self, node: NodeConfig, seconds: float) -> Answer:
        """See Asking. Whatever a server answers, it lives; 503 says that it has no room."""
        try:
            response = await Deferred.fromCoroutine(self._ask(node)).addTimeout(seconds, self._reactor, _too_late)
        except (ConnectFailed, OSError) as problem:
            raise Unanswered(str(problem)) from problem
        return Answer(is_full=response.status == BUSY)

    def stop(self) -> "Deferred[None]":
        """Close all sockets."""
        return self._transports.stopService().addCallback(lambda _: self._wheel.stop())

    async def _ask(self, node: NodeConfig) -> Response:
        if not self._transports.running:
            self._transports.startService()
        host = node.host if is_address(node.host) else await resolved(self._reactor, node.host)
        port = int(node.address.rpartition(":")[2])
        flow = await self._transports.connect(node.transport.upper(), host, port)
        branch = MAGIC_COOKIE + random_name()
        waiting = _Waiting()
        waiting.transaction = self._transactions.send(_options(node, flow, branch), branch, flow, waiting)
        return await waiting.answered


class _Waiting:
    """Who waits for the answer to one OPTIONS."""

    def __init__(self) -> None:
        self.answered: Deferred[Response] = Deferred(self._given_up)
        self.transaction: ClientTransaction | None = None

    def response_received(self, response: Response, transaction: ClientTransaction) -> None:
        if response.status >= 200 and not self.answered.called:
            self.answered.callback(response)

    def request_failed(self, transaction: ClientTransaction, timed_out: bool) -> None:
        if not self.answered.called:
            self.answered.errback(Unanswered("it did not answer in time" if timed_out else "it cannot be reached"))

    def _given_up(self, answered: "Deferred[Response]") -> None:
        if self.transaction is not None:
            self.transaction.abandon()


def _too_late(result: object, seconds: float) -> Response:
    raise Unanswered("it did not answer in time")


def _options(node: NodeConfig, flow: Flow, branch: str) -> Request:
    listener = flow.listener
    host, port = (listener.host, listener.port) if listener is not None else flow.local
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return Request.new("OPTIONS", f"sip:{node.address};transport={node.transport}", (
        ("Via", f"SIP/2.0/{flow.transport} {host}:{port};branch={branch};rport"),
        ("Max-Forwards", "70"),
        ("From", f"<sip:balancer@{host}>;tag={random_name()}"),
        ("To", f"<sip:{node.address}>"),
        ("Call-ID", random_name()),
        ("CSeq", "1 OPTIONS"),
        ("Accept", "application/sdp"),
    ))
