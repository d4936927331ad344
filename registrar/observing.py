"""What operators see of the conversations: counts for Prometheus, and one log line per call."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

from attrs import asdict, evolve
from twisted.logger import Logger

from registrar.admission import Admission
from registrar.forking import Fork
from registrar.location.contract import LocationStore
from registrar.records import aor_of_key
from rollcall.net.flow import PackedAddress, unpack_address
from rollcall.net.transactions import ServerTransaction, Transactions
from rollcall.net.transports import Transports
from rollcall.ops.gathering import Gathered
from rollcall.ops.metrics import Buckets, Cell, Metrics
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import REASONS, Request, Response
from rollcall.sip.uri import SipUri, parse_uri

KNOWN_METHODS = frozenset({"INVITE", "ACK", "CANCEL", "BYE", "REGISTER", "OPTIONS", "MESSAGE", "SUBSCRIBE", "NOTIFY",
                           "REFER", "INFO", "PRACK", "UPDATE", "PUBLISH"})

REGISTERED = "REGISTER", 200

TOLD_TOGETHER = 8
"""A herd is hundreds; to tell of each one would cost as much as to count it."""

# A phone rings for a minute or so, a REGISTER takes a millisecond.
ANSWER_SECONDS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 180.0)


class Observing:
    """Counts what happens. Its methods are handed to the parts that make it happen."""

    _log = Logger()

    def __init__(self, metrics: Metrics, now: Callable[[], float],
                 later: Callable[[Callable[[], None]], object]) -> None:
        """`later(call)` calls soon, but not at once."""
        self._now = now
        self.bound_first: Callable[[int], None] = lambda count: None
        """Told of first bindings, TOLD_TOGETHER at a time."""
        self._untold = 0
        self.register_took: Callable[[float, float], None] = lambda seconds, now: None
        """Told how long a REGISTER took that was answered by 200, and when, unless the compiled way answered it."""
        self._metrics = metrics
        self._settling: list[Callable[[], None]] = []
        self.first_bindings = Gathered(self._log, "{aor} new over {transport} from {host}:{port}, 1 bound", later)
        self._by_answer: dict[tuple[str, int], tuple[Cell, Buckets]] = {}
        self.registrations = metrics.counter(
            "rollcall_registrations_total", "REGISTERs that took effect, and bindings lost with their connection.",
            ("transport", "kind"))
        self._answers = metrics.counter(
            "rollcall_answers_total", "Final answers to requests, ours and forwarded ones.", ("method", "status"))
        self._seconds = metrics.histogram(
            "rollcall_answer_seconds", "Time from a request to its final answer.", ("method",), ANSWER_SECONDS)
        self._auth = metrics.counter(
            "rollcall_authentications_total", "Outcomes of looking at credentials.", ("outcome",))
        self._malformed = metrics.counter(
            "rollcall_malformed_total", "Messages that could not be understood, by the status they were worth.",
            ("status",))
        self._calls = metrics.counter("rollcall_calls_total", "INVITEs that were forwarded, by outcome.", ("status",))
        self._store = metrics.histogram(
            "rollcall_store_seconds", "Time until a store had done what it was asked.", ("store", "operation"))

    def settle_by(self, settle: Callable[[], None]) -> None:
        """See `Metrics.settle_by`."""
        self._settling.append(settle)
        self._metrics.settle_by(settle)

    def registered(self, transport: str, kind: str) -> None:
        """Count a registration: new, refreshed, removed, fetched or unbound."""
        self.registrations.cell(transport, kind).value += 1
        if kind == "new":
            self.count_first()

    def count_first(self) -> None:
        """Count a first binding, for who wants to know of herds."""
        self._untold += 1
        if self._untold == TOLD_TOGETHER:
            self._untold = 0
            self.bound_first(TOLD_TOGETHER)

    def registers_answered(self) -> int:
        """Return how many REGISTERs were answered by 200 or 401 since the start."""
        for settle in self._settling:
            settle()
        return int(self._answers.cell("REGISTER", "200").value + self._answers.cell("REGISTER", "401").value)

    def answered(self, transaction: ServerTransaction, response: Response) -> None:
        """Count a final answer and the time it took."""
        kind = transaction.request.method, response.status
        cells = self._by_answer.get(kind)
        if cells is None:
            cells = self.cells_of(*kind)
        now = self._now()
        cells[0].value += 1
        cells[1].observe(now - transaction.received_at)
        if kind == REGISTERED:
            self.register_took(now - transaction.received_at, now)

    def took(self, seconds: float) -> None:
        """Take note how long a REGISTER took."""
        self.register_took(seconds, self._now())

    def cells_of(self, method: str, status: int) -> tuple[Cell, Buckets]:
        """Return what counts answers of this status to this method, and their times."""
        name = method if method in KNOWN_METHODS else "other"
        cells = self._answers.cell(name, _status(status)), self._seconds.cell(name)
        if method == name:
            self._by_answer[method, status] = cells
        return cells

    def authenticated(self, outcome: str) -> None:
        """Count a verdict on credentials."""
        self._auth.cell(outcome).value += 1

    def verdict(self, outcome: str) -> Cell:
        """Return what counts an outcome of authentication."""
        return self._auth.cell(outcome)

    def malformed(self, status: int) -> None:
        """Count a message that was no SIP."""
        self._malformed.cell(str(status)).value += 1

    def of_store(self, store: str) -> Callable[[str, float], None]:
        """Return what counts how long an operation of `store` took, in seconds."""
        return lambda operation, seconds: self._store.cell(store, operation).observe(seconds)

    def call_ended(self, fork: Fork, status: int) -> None:
        """Log what became of a forwarded INVITE; count it."""
        if not fork.is_invite:
            return
        self._calls.cell(_status(status)).value += 1
        request = fork.request
        self._log.info("call {call_id}: {caller} to {callee} got {status} after {seconds:.2f} s",
                       call_id=request.get("Call-ID"), caller=_caller(request), callee=_without_password(request.uri),
                       status=status, seconds=self._now() - fork.server.received_at)


class Face:
    """A listener as records and metrics see it: counts its REGISTERs that are answered at once, all cells at hand."""

    __slots__ = ("_challenge_seconds", "_challenges", "_new", "_observing", "_ok", "_ok_seconds", "_proven",
                 "_refusal_seconds", "_refusals", "_tell", "place", "refreshed", "transport")

    def __init__(self, observing: Observing, transport: str, place: int) -> None:
        """`place` is its number in packed records, -1 for none."""
        self.transport = transport
        self.place = place
        self._tell = observing.first_bindings.tell
        self._observing = observing
        self._new = observing.registrations.cell(transport, "new")
        self.refreshed = observing.registrations.cell(transport, "refreshed")
        self._proven = observing.verdict("accepted")
        self._ok, self._ok_seconds = observing.cells_of("REGISTER", 200)
        self._challenges, self._challenge_seconds = observing.cells_of("REGISTER", 401)
        self._refusals, self._refusal_seconds = observing.cells_of("REGISTER", 503)

    def bound(self, aor: str, address: PackedAddress) -> None:
        """Count and log a first binding."""
        self._new.value += 1
        self._observing.count_first()
        host, port = unpack_address(address)
        self._tell(aor=aor, transport=self.transport, host=host, port=port)

    def kept(self, key: bytes, is_first: bool, address: PackedAddress) -> None:
        """Count a record that was put into its place."""
        if is_first:
            self.bound(aor_of_key(key), address)
        else:
            self.refreshed.value += 1

    def accepted(self, seconds: float) -> None:
        """Count a 200 and the time it took."""
        self._ok.value += 1
        buckets = self._ok_seconds
        buckets.counts[bisect_left(buckets.bounds, seconds)] += 1
        buckets.total += seconds
        self._observing.took(seconds)

    def refreshed_at_once(self, accepted: Sequence[int], seconds: float, proven: int) -> None:
        """Count refreshes by how long they took (see ANSWER_SECONDS), their time in all, and those with a password."""
        count = sum(accepted)
        self.refreshed.value += count
        self._ok.value += count
        self._proven.value += proven
        buckets = self._ok_seconds
        buckets.counts = [known + new for known, new in zip(buckets.counts, accepted, strict=False)]
        buckets.total += seconds

    def challenged(self, seconds: float) -> None:
        """Count a 401 and the time it took."""
        self._challenges.value += 1
        self._challenge_seconds.observe(seconds)

    def turned_away(self, seconds: float) -> None:
        """Count a 503 and the time it took."""
        self._refusals.value += 1
        self._refusal_seconds.observe(seconds)


def watch(metrics: Metrics, location: LocationStore, transports: Transports, transactions: Transactions) -> None:
    """Export what there is now, read at each scrape: bindings, connections, transactions."""
    metrics.gauge("rollcall_bindings", "Bindings of all addresses-of-record, by transport.", ("transport",),
                  lambda: _labelled(location.counts().bindings))
    metrics.gauge("rollcall_aors", "Addresses-of-record with a binding.", (), lambda: location.counts().aors)
    metrics.gauge("rollcall_flows", "Open connections.", ("transport",), lambda: _labelled(transports.flow_counts()))
    metrics.total("rollcall_socket_events_total", "What happened at our sockets, as the fields of Tallies say.",
                  ("event",), lambda: _labelled(asdict(transports.tallies)))
    metrics.gauge("rollcall_transactions", "Transactions, with those that only absorb retransmissions.", (),
                  lambda: len(transactions))


def watch_admission(metrics: Metrics, admission: Admission) -> None:
    """Export what is refused because too much comes."""
    metrics.total("rollcall_admission_refused_total", "Requests refused at sight, by the limit of [admission].",
                  ("kind", "limit"), admission.refused)
    metrics.gauge("rollcall_admission_sources", "Sources that have a count of requests now.", (), admission.sources)


def _labelled(counts: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    return {(name,): float(count) for name, count in counts.items()}


def _status(status: int) -> str:
    """Return the label of a status: phones may make up as many as they like."""
    return str(status) if status in REASONS else f"{status // 100}xx"


def _caller(request: Request) -> str:
    try:
        return _without_password(parse_name_addr(request.get("From") or "").uri)
    except ParseError:
        return "?"


def _without_password(text: str) -> str:
    """Return a URI fit for the log: a password may stand in it (RFC 3261 §19.1.1)."""
    try:
        uri = parse_uri(text)
    except ParseError:
        return "?"
    return str(evolve(uri, password=None, headers=None) if isinstance(uri, SipUri) else uri)
