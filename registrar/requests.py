"""What comes over the flows: parsed, checked, matched to transactions, and handed to the conversation it is for."""

from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

from registrar.admission import Admission, Budget
from registrar.proxying import Proxying
from registrar.registering import Registering
from registrar.routing import Domains
from registrar.shedding import Shedding
from registrar.short_way import ShortWay
from rollcall.net.flow import PORT_BYTES, Address, Flow, FlowClosed, Listener, PackedAddress, unpack_address
from rollcall.net.transactions import ServerTransaction, Transactions
from rollcall.net.transports import Transports
from rollcall.sip.errors import ParseError
from rollcall.sip.forwarding import answer_port, stamp_source
from rollcall.sip.framing import FramingError
from rollcall.sip.headers import Via, parse_name_addr
from rollcall.sip.message import Request, Response, check_request, check_response, parse_message, salvage_response
from rollcall.sip.scanner import UsualRegister
from rollcall.sip.uri import SipUri, parse_often

# What never begins anything, whatever its To says.
OF_CALLS = frozenset({"ACK", "CANCEL"})


class Events(Protocol):
    """Who answers subscriptions to what we know ourselves (RFC 6665)."""

    def wants(self, request: Request) -> bool:
        """Say whether this SUBSCRIBE is for us, and not for a phone or another server."""

    def receive(self, request: Request, server: ServerTransaction) -> None:
        """Answer a SUBSCRIBE; every way out answers `server`."""

    def flow_closed(self, flow: Flow) -> None:
        """Learn that a connection has ended, and whoever subscribed over it with it."""


class Reports(Protocol):
    """Who takes what phones publish of how calls sound (RFC 6035)."""

    def wants(self, request: Request) -> bool:
        """Say whether this PUBLISH is such a report, and for us."""

    def receive(self, request: Request, server: ServerTransaction) -> None:
        """Answer a PUBLISH; every way out answers `server`."""


class Questions(Protocol):
    """Who answers nodes of other sites, see `registrar.sites`."""

    def wants(self, request: Request, flow: Flow) -> bool:
        """Say whether this OPTIONS is what another node wants to know of us."""

    def receive(self, request: Request, server: ServerTransaction) -> None:
        """Answer a question; every way out answers `server`."""


class Requests:
    """The user of all flows and of all server transactions."""

    _log = Logger()

    def __init__(self, transactions: Transactions, domains: Domains, malformed: Callable[[int], None],
                 admission: Admission, retry_after: Callable[[], int], now: Callable[[], float]) -> None:
        """`malformed` is told the status of each message that could not be understood."""
        self._transactions = transactions
        self._domains = domains
        self._malformed = malformed
        self._admission = admission
        self._retry_after = retry_after
        self._now = now
        self._refused: Request | None = None
        self._is_stopping = False
        self._sheds = False
        self._let_in: Flow | None = None
        self._transports: Transports
        self._short_way: ShortWay
        self._registering: Registering
        self._proxying: Proxying
        self._events: Events | None = None
        self._reports: Reports | None = None
        self._questions: Questions | None = None
        self._shedding: Shedding

    def serve(self, transports: Transports, short_way: ShortWay, registering: Registering, proxying: Proxying) -> None:
        """Join the conversations, which need the transports, which need this."""
        self._transports = transports
        self._short_way = short_way
        self._registering = registering
        self._proxying = proxying

    def serve_events(self, events: Events) -> None:
        """Join who answers subscriptions."""
        self._events = events

    def serve_sites(self, questions: Questions) -> None:
        """Join who answers nodes of other sites."""
        self._questions = questions

    def serve_reports(self, reports: Reports) -> None:
        """Join who takes what phones publish of how calls sound."""
        self._reports = reports

    def shed_by(self, shedding: Shedding) -> None:
        """Join who decides which REGISTERs are let in while answers take too long."""
        self._shedding = shedding
        shedding.on_change.append(self._shed)

    def _shed(self, is_shedding: bool) -> None:
        self._sheds = is_shedding

    def short_way(self, register: UsualRegister, flow: Flow, now: float) -> bytes | None:
        """Answer a usual REGISTER at once, if that can be; whatever happens, nothing is raised into the transport."""
        try:
            if self._sheds:
                return self._selected(register, flow, now)
            return self._short_way.over_connection(register, flow, now)
        except Exception:
            self._log.failure("a REGISTER from {peer} broke the short way", peer=flow.peer)
            return None

    def datagram_short_way(self, register: UsualRegister, listener: Listener, address: PackedAddress,
                           now: float) -> bytes | None:
        """Do the same for one that came in a datagram."""
        try:
            if self._sheds:
                refused = self._turned_away(register, listener, address, now, address)
                if refused is not None:
                    return refused
            return self._short_way.in_datagram(register, listener, address, now)
        except Exception:
            self._log.failure("a REGISTER to {listener} broke the short way", listener=listener.name)
            return None

    def _selected(self, register: UsualRegister, flow: Flow, now: float) -> bytes | None:
        """Do as `short_way`, but not for everybody."""
        listener = flow.listener
        refused = None if listener is None else self._turned_away(register, listener, flow.address, now)
        if refused is not None:
            return refused
        answer = self._short_way.over_connection(register, flow, now)
        # What is to go the whole way now is not asked about again.
        self._let_in = flow if answer is None else None
        return answer

    def _turned_away(self, register: UsualRegister, listener: Listener, address: PackedAddress, now: float,
                     came_from: PackedAddress | None = None) -> bytes | None:
        """Return the 503 to a usual REGISTER that has to wait for its time, unless the whole way is to judge it."""
        domain = self._short_way.domain_of(register, came_from)
        if domain is None:
            return None
        seconds = self._shedding.turns_away(register, domain, address, now)
        return None if seconds is None else self._short_way.put_off(register, listener, address, now, seconds)

    def message_received(self, data: bytes, flow: Flow) -> None:
        """Take one whole message; whatever it is, nothing is raised into the transport."""
        try:
            message = parse_message(data)
            via = check_request(message) if isinstance(message, Request) else check_response(message)
        except ParseError as error:
            self._refuse_malformed(data, error, flow)
            return
        try:
            if isinstance(message, Request):
                self._request_received(message, via, flow)
            else:
                self._transactions.response_received(message, flow)
        except Exception:
            self._log.failure("a message from {peer} broke us", peer=flow.peer)

    def framing_failed(self, error: FramingError, flow: Flow) -> None:
        """Answer a message whose end cannot be told; the transport closes the flow afterwards."""
        self._refuse_malformed(error.head, error, flow)

    def flow_closed(self, flow: Flow, reason: str) -> None:
        """Fail what waits for an answer on `flow` and unbind what was bound to it."""
        self._log.debug("flow {id} to {peer} closed: {reason}", id=flow.id, peer=flow.peer, reason=reason)
        if not self._is_stopping:
            self._transactions.flow_closed(flow)
            self._registering.flow_closed(flow)
            if self._events is not None:
                self._events.flow_closed(flow)

    def stop(self) -> None:
        """Let flows close without a word about each: all of them do, and nobody is left to be told."""
        self._is_stopping = True

    def request_received(self, request: Request, transaction: ServerTransaction) -> None:
        """Hand a new request to the conversation it is for.

        Nobody registers through another node: what that sends on is for a phone of ours, whatever it may look like.
        """
        if request is self._refused:
            # Without state, but for the repeats and the ACK of a datagram: to remember a flood would be to feed it.
            transaction.turn_away(503, None, (("Retry-After", str(self._retry_after())),))
        elif request.method == "CANCEL":
            self._cancel(request, transaction)
        elif request.method == "REGISTER" and not transaction.flow.member and self._is_for_us(request):
            self._register(request, transaction)
        elif request.method == "SUBSCRIBE" and self._events is not None and self._events.wants(request):
            self._events.receive(request, transaction)
        elif request.method == "PUBLISH" and self._reports is not None and self._reports.wants(request):
            self._reports.receive(request, transaction)
        elif self._questions is not None and self._questions.wants(request, transaction.flow):
            self._questions.receive(request, transaction)
        else:
            self._proxying.receive(request, transaction)

    def _register(self, request: Request, transaction: ServerTransaction) -> None:
        seconds = None
        if self._sheds and self._let_in is not transaction.flow:
            seconds = self._shedding.refuses(request, transaction.flow, self._now())
        self._let_in = None
        if seconds is None:
            self._registering.receive(request, transaction)
        else:
            transaction.turn_away(503, None, (("Retry-After", str(seconds)),))

    def ack_received(self, request: Request, flow: Flow) -> None:
        """Forward the ACK of a 2xx."""
        self._proxying.acknowledge(request, flow)

    def _request_received(self, request: Request, via: Via, flow: Flow) -> None:
        flow.confirm()
        is_admitted = self._admits(request, flow)
        if request.method == "ACK" and not is_admitted:
            return  # nobody may answer it (RFC 3261 §17.1.1.3)
        host, port = flow.peer
        stamp_source(request, via, host, port)
        if not flow.reliable and flow.listener is not None:
            to_port = answer_port(via, host, port)
            if to_port != port:
                flow = self._transports.datagram_flow(flow.listener.name, host, to_port) or flow
        self._refused = None if is_admitted else request
        self._transactions.request_received(request, flow, via)

    def _admits(self, request: Request, flow: Flow) -> bool:
        """Count a request; what belongs to a call that is there, or is to end one that rings, counts apart.

        What another node sends was counted there.
        """
        if flow.member:
            return True
        is_of_call = request.method in OF_CALLS or (
            request.method != "REGISTER" and parse_name_addr(request.get("To") or "").tag is not None)
        budget = self._admission.in_calls if is_of_call else self._admission.beginning
        if budget.admits(flow.address[PORT_BYTES:], self._now()):
            return True
        self._log_refused(request.method, flow.peer, flow.transport, budget)
        return False

    def refuse_register(self, address: PackedAddress, transport: str) -> int:
        """Log a REGISTER that admission refused to the short way; return the seconds for Retry-After."""
        self._log_refused("REGISTER", unpack_address(address), transport, self._admission.beginning)
        return self._retry_after()

    def _log_refused(self, method: str, peer: Address, transport: str, budget: Budget) -> None:
        config = self._admission.config
        self._log.warn("{method} from {peer} over {transport} refused: admission.{limit} is {most} in {seconds} s",
                       method=method, peer=peer, transport=transport, limit=budget.reached,
                       most=getattr(config, budget.reached), seconds=config.window_seconds, log_rationed=True)

    def _is_for_us(self, request: Request) -> bool:
        uri = parse_often(request.uri)
        return isinstance(uri, SipUri) and (self._domains.served(uri) is not None or self._domains.is_ours(uri))

    def _cancel(self, request: Request, transaction: ServerTransaction) -> None:
        """End the INVITE that `request` means; 481 when there is none (RFC 3261 §9.2)."""
        invite = self._transactions.cancelled_by(request, transaction.via)
        if invite is None or not _are_same_hop(invite.flow, transaction.flow):
            # §22.1: accepted "if it comes from the same hop". Who is called knows the caller's branch, too.
            transaction.refuse(481)
            return
        transaction.refuse(200)
        if invite.on_cancel is not None:
            invite.on_cancel(request)
        elif not invite.answered:
            invite.refuse(487)

    def _refuse_malformed(self, data: bytes, error: ParseError, flow: Flow) -> None:
        self._malformed(error.status)
        self._log.info("a message from {peer} over {transport} is malformed: {reason}", peer=flow.peer,
                       transport=flow.transport, reason=error.reason, log_rationed=True)
        answer: Response | None = salvage_response(data, error)
        if answer is None or not (flow.member or self._admission.admits(flow.address[PORT_BYTES:], self._now())):
            return
        try:
            flow.write(answer.serialise())
        except FlowClosed:
            self._log.debug("no flow left to refuse a malformed message on")


def _are_same_hop(one: Flow, other: Flow) -> bool:
    """Say whether two flows are with the same neighbour, as far as that can be told: another node is nobody's phone."""
    return one.peer[0] == other.peer[0] and one.member == other.member
