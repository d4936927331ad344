"""What is noted of calls: the answer, the refusal and the end of each, where its caller or who hangs up is connected.

RFC 3261 §§12 (a dialog is known by its Call-ID and both tags), 13.2.2.4, 15.1.1 (whoever sends a BYE has ended the
session, whatever is said to it).
"""

from collections.abc import Callable
from json import dumps

from registrar.calls.parts import CallPart, answered, ended, failed
from registrar.calls.records import CallRecords
from registrar.forking import Fork
from rollcall.net.transactions import ServerTransaction
from rollcall.ops.metrics import Metrics
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import NameAddr, parse_name_addr
from rollcall.sip.message import Request, Response
from rollcall.sip.uri import SipUri, parse_uri

# The phone goes on by itself, with the same call: it gives its password, or a longer time between refreshes (RFC 4028).
GOES_ON = frozenset({401, 407, 422})
# What we refuse for want of a phone. All else that we refuse ourselves nobody has proved to be a call of a subscriber.
NO_PHONE = frozenset({404, 480})
# RFC 5626 §5.3.1: the flow to the other side is gone, and with it the dialog.
FLOW_IS_GONE = 430

# What phones say of the sound when they hang up, in the BYE or in its answer (no RFC).
QUALITY = ("X-RTP-Stat", "P-RTP-Stat", "RTP-Stat", "RTP-RxStat", "RTP-TxStat")
QUALITY_CHARS = 512
"""They write some 200 characters."""


class CallNotes:
    """Hears what becomes of forwarded requests, and notes what it says of calls."""

    def __init__(self, record: Callable[[CallPart], None], node: str, now: Callable[[], float]) -> None:
        """`record` takes a part of a call's row; `now` is in seconds since the epoch."""
        self.node_of_call: Callable[[str], str] = lambda call_id: ""
        """Returns the media node of a call, by its Call-ID; empty for none."""
        self._record = record
        self._node = node
        self._now = now

    def ended(self, fork: Fork, status: int) -> None:
        """Note the final answer to a request that was forwarded."""
        request = fork.server.request
        if request.method == "INVITE":
            if fork.accepted is not None:
                self._answered(fork, fork.accepted)
            else:
                self._failed(fork.server, request, status)
        elif request.method == "BYE" and status not in GOES_ON:
            self._hung_up(fork.server, request, fork.accepted)

    def refused(self, server: ServerTransaction, status: int) -> None:
        """Note a request that was not forwarded."""
        if server.request.method == "INVITE" and status in NO_PHONE:
            self._failed(server, server.request, status)
        elif server.request.method == "BYE" and status == FLOW_IS_GONE:
            self._hung_up(server, server.request, None)

    def _answered(self, fork: Fork, response: Response) -> None:
        request = fork.server.request  # what the caller sent, wherever it went
        caller, callee = _sides(request)
        if caller is None or callee is None or callee.tag is not None:
            return  # an INVITE within a dialog begins no call
        _, answering = _sides(response)
        tags = caller.tag or "", (answering.tag if answering is not None else None) or ""
        call_id = request.get("Call-ID") or ""
        self._record(answered(call_id, tags, (_address(caller.uri), _address(request.uri)), fork.server.received_at,
                              self._now(), response.status, self._node, self.node_of_call(call_id) or None))

    def _failed(self, server: ServerTransaction, request: Request, status: int) -> None:
        caller, callee = _sides(request)
        if status in GOES_ON or caller is None or callee is None or callee.tag is not None:
            return
        parties = _address(caller.uri), _address(request.uri)
        self._record(failed(request.get("Call-ID") or "", caller.tag or "", parties, server.received_at, self._now(),
                            status, self._node))

    def _hung_up(self, server: ServerTransaction, request: Request, response: Response | None) -> None:
        if server.flow.member:
            return  # noted where it came in
        sender, other = _sides(request)
        if sender is None or other is None:
            return
        # An agent of RFC 2543 has no tag (RFC 3261 §12.1.1).
        tags = sender.tag or "", other.tag or ""
        self._record(ended(request.get("Call-ID") or "", tags, server.received_at, _quality(request, response)))


def watch_calls(metrics: Metrics, records: CallRecords) -> None:
    """Export what becomes of the records of calls."""
    metrics.total("rollcall_call_records_total", "Records of calls (answers, refusals, ends) by what became of them.",
                  ("outcome",), lambda: {
                      ("written",): float(records.written), ("lost",): float(records.lost),
                      ("rejected",): float(records.rejected)})
    metrics.gauge("rollcall_call_records_waiting", "Records of calls that the database does not have yet.", (),
                  lambda: records.waiting)
    metrics.gauge("rollcall_call_spool_bytes", "What records of calls take on disk, those of all workers.", (),
                  lambda: records.spool_bytes)


def _sides(message: Request | Response) -> tuple[NameAddr | None, NameAddr | None]:
    """Return From and To, None for one that cannot be understood."""
    return _side(message, "From"), _side(message, "To")


def _side(message: Request | Response, name: str) -> NameAddr | None:
    try:
        return parse_name_addr(message.get(name) or "")
    except ParseError:
        return None


def _address(text: str) -> str:
    """Return whom a URI names: without a password, and without what only says how to get there."""
    try:
        uri = parse_uri(text)
    except ParseError:
        return ""
    return uri.aor() if isinstance(uri, SipUri) else str(uri)


def _quality(request: Request, response: Response | None) -> str | None:
    """Return what both phones reported, as JSON: {"hung up": {header: value}, "other": …}; None when neither did."""
    said = {}
    for who, message in (("hung up", request), ("other", response)):
        reports = {name: value[:QUALITY_CHARS] for name in QUALITY if message is not None
                   and (value := message.get(name))}
        if reports:
            said[who] = reports
    return dumps(said) if said else None
