"""A redirect server for carriers' own proxies (RFC 3261 §8.3): an INVITE is answered with the nodes to send it to.

302 has the chosen node as its first Contact and others, in the order in which they would be chosen, with a lower q.
Only nodes that speak SIP can be sent calls in this way, unless [redirect] says otherwise.
"""

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from random import uniform
from typing import Any

from attrs import evolve, field, frozen
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from balancer.placing import Placing
from balancer.sip import Messages
from rollcall.media.selection import NoNode, Random, Wanted
from rollcall.media.snapshot import Kind, MediaNode, node_group
from rollcall.net.config import ListenerConfig, NetConfig
from rollcall.net.flow import Flow
from rollcall.net.transactions import ServerTransaction, Transactions
from rollcall.net.transports import Transports
from rollcall.net.wheel import TimerWheel
from rollcall.ops.allowed import at_least, between, each, host_and_port, network, unique
from rollcall.ops.metrics import Metrics
from rollcall.sip.chance import random_name
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request, Response
from rollcall.sip.transaction import TransactionConfig
from rollcall.sip.uri import SipUri, parse_uri

ALLOW = "INVITE, ACK, CANCEL, OPTIONS"

# Each further Contact is so much less wanted: ten are told apart by one digit (RFC 3261 §20.10).
Q_STEP = 0.1
MOST_CONTACTS = 10

# So many sources are remembered with whether they may ask.
REMEMBERED_SOURCES = 10_000

MEDIA_HOST = re.compile(rb"^c=IN IP[46] ([0-9A-Fa-f.:]{2,45})\r?$", re.MULTILINE)
NUMBER = re.compile(r"tel:(\+?[0-9A-Fa-f*#.()-]{1,64})(?:;.*)?", re.IGNORECASE)


@frozen(kw_only=True)
class RedirectConfig:
    """[redirect]: whether we answer SIP, and whom."""

    udp: tuple[str, ...] = field(default=(), validator=[each(host_and_port()), unique(what="addresses")])
    """Where we listen for datagrams: numeric host:port."""
    tcp: tuple[str, ...] = field(default=(), validator=[each(host_and_port()), unique(what="addresses")])
    """Where we listen for connections."""
    networks: tuple[str, ...] = field(default=("127.0.0.0/8", "::1/128"), validator=each(network()))
    """Whose requests we answer; to others we say nothing."""
    kinds: tuple[Kind, ...] = ("freeswitch", "other")
    """The kinds of nodes that calls are sent to. An rtpengine's Contact would be its ng port: only for proxies that
    take from it which rtpengine to use."""
    contacts: int = field(default=3, validator=between(1, MOST_CONTACTS))
    """How many nodes an answer names, if there are as many."""
    retry_after_seconds: int = field(default=10, validator=at_least(1))
    """What a 503 asks for at most; half of it is random."""

    @property
    def listeners(self) -> tuple[ListenerConfig, ...]:
        """The sockets that this asks for."""
        return tuple(_listener(transport, place) for transport, places in (("udp", self.udp), ("tcp", self.tcp))
                     for place in places)


class Redirect(MultiService):
    """Answers from startService to stopService."""

    _log = Logger()

    def __init__(self, reactor: Any, config: RedirectConfig, placing: Placing, group_of: Callable[[str], str],
                 metrics: Metrics, random: Random) -> None:
        """`group_of` returns the access group of a numeric address; `reactor.seconds` is the clock of `placing`."""
        super().__init__()
        self._config = config
        self._placing = placing
        self._group_of = group_of
        self._random = random
        self._now = reactor.seconds
        self._networks = tuple(ip_network(each) for each in config.networks)
        self._may_ask: dict[str, bool] = {}
        self._answers = metrics.counter(
            "rollcall_balancer_redirections_total",
            'INVITEs answered: with which node first, or why without; "refused" from sources that may not ask',
            ["node", "outcome"])
        self._wheel = TimerWheel(reactor)
        self.transactions = Transactions(self._wheel, TransactionConfig(), random_name, _ignore)
        self.transactions.user = self
        self.messages = Messages(self.transactions, self._admits)
        self.transports = Transports(reactor, self._wheel, self.messages, NetConfig(listeners=config.listeners))
        self.messages.serve(self.transports)
        self.transports.setServiceParent(self)

    def stopService(self) -> "Deferred[None]":
        """Listen no more, and answer nothing that was asked."""
        stopping: Deferred[None] = super().stopService()
        return stopping.addCallback(lambda _: self._wheel.stop())

    # --- what transactions call

    def request_received(self, request: Request, transaction: ServerTransaction) -> None:
        """Answer a request."""
        if request.method == "CANCEL":
            known = self.transactions.cancelled_by(request, transaction.via)
            transaction.refuse(481 if known is None else 200)  # it has been answered already (§9.2)
        elif parse_name_addr(request.get("To") or "").tag is not None:
            transaction.refuse(481)
        elif request.method == "INVITE":
            self._redirect(request, transaction)
        elif request.method == "OPTIONS":
            transaction.refuse(200, None, (("Allow", ALLOW), ("Accept", "application/sdp")))
        else:
            transaction.refuse(405, None, (("Allow", ALLOW),))

    def ack_received(self, request: Request, flow: Flow) -> None:
        """Nobody gets a 2xx to an INVITE from us, so that this acknowledges nothing."""

    # --- details

    def _admits(self, flow: Flow) -> bool:
        host = flow.peer[0]
        if host not in self._may_ask:
            if len(self._may_ask) >= REMEMBERED_SOURCES:
                self._may_ask.clear()
            address = ip_address(host)
            self._may_ask[host] = any(address in network for network in self._networks)
        if not self._may_ask[host]:
            self._answers.cell("", "refused").add()
            self._log.info("a request from {host} is not answered: it is in none of redirect.networks", host=host,
                           log_rationed=True)
        return self._may_ask[host]

    def _redirect(self, request: Request, transaction: ServerTransaction) -> None:
        try:
            user, callee = _called(request.uri)
        except ParseError as problem:
            transaction.refuse(problem.status, problem.reason)
            return
        wanted = self._wanted(request, transaction.flow.peer[0], callee)
        chosen = self._choose(wanted)
        if isinstance(chosen, NoNode):
            most = self._config.retry_after_seconds
            seconds = max(1, round(uniform(most / 2, most)))
            self._answers.cell("", chosen.reason.value).add()
            self._log.debug("no node for call {call_id}: {reason}", call_id=wanted.call_id, reason=chosen.reason.value)
            transaction.refuse(503, None, (("Retry-After", str(seconds)),))
            return
        self._answers.cell(chosen[0].id, "redirected").add()
        self._log.debug("call {call_id} goes to {node}", call_id=wanted.call_id, node=chosen[0].id)
        transaction.refuse(302, None, tuple(("Contact", each) for each in _contacts(user, chosen)))

    def _wanted(self, request: Request, source: str, callee: str) -> Wanted:
        """Return what the call asks of its node: the caller's side is where its media come from, if that is known."""
        snapshot = self._placing.board.snapshot
        found = MEDIA_HOST.search(request.body)
        side = (self._group_of(found[1].decode()) if found else "") or self._group_of(source)
        silent = frozenset(node.id for node in snapshot.nodes.values() if node.kind not in self._config.kinds)
        return Wanted(
            group=node_group(snapshot.tenants, _caller(request), callee), sides=(side,) if side else (),
            call_id=request.get("Call-ID") or "", without=silent)

    def _choose(self, wanted: Wanted) -> list[MediaNode] | NoNode:
        """Return the node that gets the call, and then those that would without it."""
        chosen = self._placing.choose(wanted, self._now())
        if isinstance(chosen, NoNode):
            return chosen
        nodes = [chosen.node]
        while len(nodes) < self._config.contacts:
            wanted = evolve(wanted, without=wanted.without | {nodes[-1].id})
            other = self._placing.board.choose(wanted, self._placing.uncounted, self._random)
            if isinstance(other, NoNode):
                break
            nodes.append(other.node)
        return nodes


def _called(text: str) -> tuple[str, str]:
    """Return the user part to send a call to, and the AOR that it is for; empty where there is none.

    Raises ParseError: 416 for schemes that our Contacts cannot have.
    """
    number = NUMBER.fullmatch(text)
    if number:
        return number[1], ""
    uri = parse_uri(text)
    if not isinstance(uri, SipUri) or uri.scheme != "sip":
        raise ParseError("only sip: and tel: can be redirected", 416)
    return uri.user or "", uri.aor()


def _caller(request: Request) -> str:
    """Return the caller's AOR; empty when there is none."""
    try:
        uri = parse_uri(parse_name_addr(request.get("From") or "").uri)
    except ParseError:
        return ""
    return uri.aor() if isinstance(uri, SipUri) else ""


def _contacts(user: str, nodes: list[MediaNode]) -> Iterator[str]:
    for place, node in enumerate(nodes):
        at = f"{user}@" if user else ""
        yield f"<sip:{at}{node.address}>;q={1 - place * Q_STEP:.1f}"


def _listener(transport: str, place: str) -> ListenerConfig:
    host, _, port = place.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    return ListenerConfig(
        name=f"redirect {transport} {place}", transport=transport, host=host, port=int(port))  # type: ignore[arg-type]


def _ignore(transaction: ServerTransaction, response: Response) -> None:
    pass
