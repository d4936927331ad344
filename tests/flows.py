"""Flows in memory, and short ways to make the messages that tests send over them.

A MemoryFlow keeps what is written to it. `take` hands it out as parsed messages, `starts` as start lines, so that a
test reads as a transcript:

    flow = a_flow("TCP")
    flow.write(an_answer(a_request("INVITE"), 180).serialise())
    self.assertEqual(flow.starts(), ["SIP/2.0 180 Ringing"])

`close` breaks the flow: whatever is written afterwards raises FlowClosed, as with a real one.
"""

from itertools import count

from rollcall.net.flow import Address, Flow, FlowClosed, Listener
from rollcall.sip.headers import Via, parse_via
from rollcall.sip.message import Request, Response, check_request, check_response, parse_message, response_to

OUR_HOST = "192.0.2.1"
OUR_PORTS = {"UDP": 5060, "TCP": 5060, "TLS": 5061, "WS": 5080, "WSS": 5081}
LISTENERS = {
    transport: Listener(name=transport.lower(), transport=transport, host=OUR_HOST, port=port, local=(OUR_HOST, port))
    for transport, port in OUR_PORTS.items()
}

PHONE: Address = ("192.0.2.10", 5060)

Headers = tuple[tuple[str, str], ...]

_ids = count(1)


class MemoryFlow(Flow):
    """A flow of any transport that keeps what is written to it."""

    id = 0
    transport = "UDP"
    peer = PHONE
    local = (OUR_HOST, 5060)
    listener: Listener | None = None
    reliable = False
    secure = False
    is_open = True
    confirmed = False
    member = ""

    def __init__(self, transport: str, peer: Address, listener: Listener | None) -> None:
        self.transport = transport
        self.reliable = transport != "UDP"
        self.secure = transport in ("TLS", "WSS")
        self.id = next(_ids) if self.reliable else 0
        self.peer = peer
        self.listener = listener
        self.bound: object = None
        self.holds = 0
        self.written: list[bytes] = []
        self.close_reason = ""
        self.unread = b""
        """What has come that nobody has read."""

    def __repr__(self) -> str:
        return f"<flow {self.transport} {self.peer[0]}:{self.peer[1]}>"

    def write(self, data: bytes) -> None:
        """Keep one message; raise FlowClosed when the flow is broken."""
        if not self.is_open:
            raise FlowClosed("closed by the test")
        self.written.append(data)

    def close(self, reason: str) -> None:
        """Break the flow; its user is told by the test, as the reactor would."""
        self.is_open = False
        self.close_reason = reason

    def has_unread(self) -> bool:
        """Say whether something has come that nobody has read."""
        return bool(self.unread)

    def confirm(self) -> None:
        """Remember that a valid request came."""
        self.confirmed = True

    def take(self) -> list[Request | Response]:
        """Return the messages written since the last look, each found to be well-formed."""
        messages = [_checked(data) for data in self.written]
        self.written.clear()
        return messages

    def take_one(self) -> Request | Response:
        """Return the only message written since the last look."""
        (message,) = self.take()
        return message

    def take_request(self) -> Request:
        """Return the only message written since the last look, a request."""
        message = self.take_one()
        assert isinstance(message, Request), message.start_line
        return message

    def take_response(self) -> Response:
        """Return the only message written since the last look, a response."""
        message = self.take_one()
        assert isinstance(message, Response), message.start_line
        return message

    def starts(self) -> list[str]:
        """Return the start lines written since the last look, without the SIP version of requests."""
        return [message.start_line.removesuffix(" SIP/2.0") for message in self.take()]


def a_flow(transport: str = "UDP", host: str = PHONE[0], port: int = PHONE[1], accepted: bool = True) -> MemoryFlow:
    """Return a flow to `host`:`port`; one that we opened ourselves (`accepted` false) has no listener."""
    return MemoryFlow(transport, (host, port), LISTENERS[transport] if accepted else None)


def a_request(
    method: str = "INVITE",
    uri: str = "sip:bob@example.com",
    *,
    branch: str | None = "z9hG4bK-one",
    via: str | None = None,
    sent_by: str = "192.0.2.10:5060",
    transport: str = "UDP",
    caller: str = "<sip:alice@example.com>;tag=alice",
    callee: str = "<sip:bob@example.com>",
    call_id: str = "call-1@192.0.2.10",
    cseq: int = 1,
    max_forwards: int | None = 70,
    headers: Headers = (),
    body: bytes = b"",
) -> Request:
    """Return a request as a phone at PHONE makes it; `headers` come last. No `branch` is how RFC 2543 did it."""
    if via is None:
        via = f"SIP/2.0/{transport} {sent_by}" + (f";branch={branch}" if branch is not None else "")
    fields = [("Via", via)]
    if max_forwards is not None:
        fields.append(("Max-Forwards", str(max_forwards)))
    fields += [("From", caller), ("To", callee), ("Call-ID", call_id), ("CSeq", f"{cseq} {method}")]
    return Request.new(method, uri, [*fields, *headers], body)


def an_answer(
    request: Request, status: int, reason: str | None = None, tag: str = "bob", headers: Headers = ()
) -> Response:
    """Return what the peer that got `request` answers; a 100 has no tag."""
    return response_to(request, status, reason, None if status == 100 else tag, headers)


def top_via(message: Request | Response) -> Via:
    """Return the topmost Via of a message."""
    return parse_via(message.first_value("Via") or "")


def top_branch(message: Request | Response) -> str:
    """Return the branch of the topmost Via, by which transactions are known."""
    branch = top_via(message).branch
    assert branch is not None
    return branch


def _checked(data: bytes) -> Request | Response:
    message = parse_message(data)
    if isinstance(message, Request):
        check_request(message)
    else:
        check_response(message)
    return message
