"""SIP as a balancer speaks it: what comes over flows is parsed, checked and matched to transactions.

Nobody registers here and nothing is forwarded, so that there is neither a short way nor anything bound to a flow.
"""

from collections.abc import Callable

from twisted.logger import Logger

from rollcall.net.flow import Flow, FlowClosed, Listener, PackedAddress
from rollcall.net.transactions import Transactions
from rollcall.net.transports import Transports
from rollcall.sip.errors import ParseError
from rollcall.sip.forwarding import answer_port, stamp_source
from rollcall.sip.framing import FramingError
from rollcall.sip.headers import Via
from rollcall.sip.message import Request, check_request, check_response, parse_message, salvage_response
from rollcall.sip.scanner import UsualRegister

Admitted = Callable[[Flow], bool]
"""Says whether requests from there may have a transaction; those that may not are dropped without a word."""


class Messages:
    """The user of a balancer's flows."""

    _log = Logger()

    def __init__(self, transactions: Transactions, admits: Admitted) -> None:
        self._transactions = transactions
        self._admits = admits
        self._transports: Transports | None = None

    def serve(self, transports: Transports) -> None:
        """Join the transports, which need this: a datagram is answered where its Via says."""
        self._transports = transports

    def message_received(self, data: bytes, flow: Flow) -> None:
        """Take one whole message; whatever it is, nothing is raised into the transport."""
        try:
            message = parse_message(data)
            via = check_request(message) if isinstance(message, Request) else check_response(message)
        except ParseError as error:
            self._log.info("a message from {peer} over {transport} is malformed: {reason}", peer=flow.peer,
                           transport=flow.transport, reason=error.reason, log_rationed=True)
            self._refuse(data, error, flow)
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
        self._refuse(error.head, error, flow)

    def flow_closed(self, flow: Flow, reason: str) -> None:
        """Fail what waits for an answer on `flow`."""
        self._transactions.flow_closed(flow)

    def short_way(self, register: UsualRegister, flow: Flow, now: float) -> bytes | None:
        """There is none: a REGISTER is a request like others."""
        return None

    def datagram_short_way(self, register: UsualRegister, listener: Listener, address: PackedAddress,
                           now: float) -> bytes | None:
        """There is none."""
        return None

    def _request_received(self, request: Request, via: Via, flow: Flow) -> None:
        if not self._admits(flow):
            return
        flow.confirm()
        host, port = flow.peer
        stamp_source(request, via, host, port)
        if not flow.reliable and flow.listener is not None and self._transports is not None:
            to_port = answer_port(via, host, port)
            if to_port != port:
                flow = self._transports.datagram_flow(flow.listener.name, host, to_port) or flow
        self._transactions.request_received(request, flow, via)

    def _refuse(self, data: bytes, error: ParseError, flow: Flow) -> None:
        answer = salvage_response(data, error)
        if answer is None or not self._admits(flow):
            return
        try:
            flow.write(answer.serialise())
        except FlowClosed:
            self._log.debug("no flow left to refuse a malformed message on")
