"""Our end of a subscriber's dialog: what its requests bring, and what ours to it are made of (RFC 3261 §12)."""

from attrs import define

from rollcall.sip.forwarding import DEFAULT_MAX_FORWARDS
from rollcall.sip.headers import parse_cseq, parse_name_addr
from rollcall.sip.message import Request


@define
class Dialog:
    """A dialog that a SUBSCRIBE began; its own side is ours."""

    tag: str
    """Ours, unique among all dialogs of all nodes."""
    call_id: str
    local: str
    """From of our requests: the subscriber's To with our tag."""
    remote: str
    """To of our requests."""
    remote_tag: str | None
    routes: tuple[str, ...]
    """The Record-Route of the SUBSCRIBE in its order (§12.1.1): Route of our requests."""
    target: str
    """The subscriber's Contact."""
    contact: str
    """Ours, as a whole header field value."""
    remote_cseq: int
    cseq: int = 0

    @classmethod
    def begun_by(cls, request: Request, tag: str, target: str, contact: str) -> "Dialog":
        """Return the dialog that a checked `request` without a To tag begins."""
        sender = request.get("From") or ""
        return cls(tag, request.get("Call-ID") or "", f"{request.get('To')};tag={tag}", sender,
                   parse_name_addr(sender).tag, tuple(request.values("Record-Route")), target, contact,
                   parse_cseq(request.get("CSeq") or "").number)

    def is_of(self, request: Request) -> bool:
        """Say whether `request` is of this dialog (§12: Call-ID and both tags)."""
        return (request.get("Call-ID") == self.call_id
                and parse_name_addr(request.get("From") or "").tag == self.remote_tag
                and parse_name_addr(request.get("To") or "").tag == self.tag)

    def take(self, request: Request, target: str) -> bool:
        """Take note of a request within the dialog, and its new target; False when it comes out of order (§12.2.2)."""
        number = parse_cseq(request.get("CSeq") or "").number
        if number <= self.remote_cseq:
            return False
        self.remote_cseq = number
        self.target = target
        return True

    def request(self, method: str, headers: tuple[tuple[str, str], ...], body: bytes = b"") -> Request:
        """Return the next request of ours, still without a Via (§12.2.1.1)."""
        self.cseq += 1
        return Request.new(method, self.target, [
            ("Max-Forwards", str(DEFAULT_MAX_FORWARDS)), *(("Route", route) for route in self.routes),
            ("From", self.local), ("To", self.remote), ("Call-ID", self.call_id), ("CSeq", f"{self.cseq} {method}"),
            ("Contact", self.contact), *headers,
        ], body)
