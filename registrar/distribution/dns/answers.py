"""What is answered: nearly always what was answered to the same question before, with another ID.

Whether a question is the same is decided by its bytes after the ID, in lower case. Its name may come in any case
(draft-vixie-dnsext-dns0x20) and is repeated as it came. What follows the name is compared as it is, and of the ten
bytes before the name only such questions are kept as have no letters there that matter.
"""

from collections.abc import Callable
from struct import Struct

from attrs import frozen
from dns.rdatatype import RdataType

from registrar.distribution.dns.compiling import Compiled, CompiledView
from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.rates import MAX_CLIENTS, Rates, Row
from registrar.distribution.dns.snapshot import Snapshot
from registrar.distribution.dns.subnets import Entry, SubnetAnswers
from registrar.distribution.dns.wire import (
    AUTHORITATIVE,
    HEADER_BYTES,
    IN,
    OPCODE,
    RECURSION_DESIRED,
    RESPONSE,
    TRUNCATED,
    Edns,
    Query,
    Rcode,
    Type,
    WireError,
    is_query,
    opt_record,
    parse_query,
)
from rollcall.net.flow import PORT_BYTES, PackedAddress

_HEAD = Struct("!BBHHHH")
"""A header after its ID."""

MAX_TCP_BYTES = 65_535

# No usual query is longer: what is, is answered but not kept.
MAX_KEPT_QUERY = 320

IPV6_BYTES = 16

TYPE_CLASS_BYTES = 4

# What is counted apart, and has a rate of its own.
KINDS = ("data", "no_data", "no_such_name", "truncated", "refused", "malformed", "not_implemented", "bad_version",
         "failed")
DATA, NO_DATA, NO_SUCH_NAME, CUT, REFUSED, MALFORMED, NOT_IMPLEMENTED, BAD_VERSION, FAILED = range(len(KINDS))

KIND_OF = {Rcode.FORMERR: MALFORMED, Rcode.NOTIMP: NOT_IMPLEMENTED, Rcode.REFUSED: REFUSED,
           Rcode.BADVERS: BAD_VERSION, Rcode.SERVFAIL: FAILED}

KEPT = frozenset((DATA, NO_DATA, CUT))
"""A flood of other questions does not push the usual ones out."""

NOT_HERE = frozenset((Type.AXFR, Type.MAILA, Type.MAILB))
"""Types that are no question for a record (RFC 5936 §4.2: AXFR is for TCP; RFC 1035 §3.2.3)."""

NO_QUESTION = frozenset((Type.OPT, Type.TSIG, Type.TKEY))

Cache = dict[bytes, Entry]
Client = tuple[Cache, Row | None]


@frozen
class Shown:
    """A snapshot, and what was compiled of it."""

    snapshot: Snapshot
    views: dict[str, CompiledView]
    caches: dict[str, Cache]
    subnets: SubnetAnswers


class Answers:
    """Answers queries from the last snapshot."""

    def __init__(self, config: DnsConfig, may_transfer: Callable[[bytes], bool]) -> None:
        """`may_transfer` says whether a packed address is that of a secondary."""
        self.rates = Rates(config, len(KINDS))
        self.counts = [0] * len(KINDS)
        """Answers by kind, and what was dropped without one."""
        self.ignored = 0
        self.snapshot: Snapshot | None = None
        self._may_transfer = may_transfer
        self._payload = config.udp_payload_bytes
        self._most = config.max_cached
        self._kept = 0
        self._now = 0.0
        self._shown: Shown | None = None
        self._clients: dict[bytes, Client] = {}
        self._nothing: Cache = {}

    def publish(self, snapshot: Snapshot) -> None:
        """Answer from this snapshot from now on. Raises ValueError when a zone lacks its SOA, or a view is missing."""
        views = {snapshot.default, *snapshot.views}
        for name in views:
            if name not in snapshot.views:
                raise ValueError(f"there is no view {name}")
            for origin in snapshot.origins:
                if (origin, RdataType.SOA) not in snapshot.views[name].rrsets:
                    raise ValueError(f"zone {origin} has no SOA in view {name}")
        self.snapshot = snapshot
        self._shown = Shown(snapshot, {}, {name: {} for name in views}, SubnetAnswers())
        self._clients = {}
        self._kept = 0

    def datagrams(self, batch: list[tuple[bytes, PackedAddress]], now: float) -> list[tuple[bytes, PackedAddress]]:
        """Return the answers to a batch of queries, each with whom it is for. This is the hot path: mind each line."""
        if now < self._now:  # the clock was set back, and all rates would be used up until that moment comes again
            self.rates.forget_all()
            self._clients.clear()
        self._now = now
        answers = []
        rates, counts = self.rates, self.counts
        step, latest = rates.step, now + rates.burst
        for data, address in batch:
            cache, row = self._clients.get(address[PORT_BYTES:]) or self._client(address[PORT_BYTES:], now)
            entry = cache.get(data[2:].lower())
            if entry is None or not data.endswith(entry[0]):
                entry = self._entry(data, address, cache)
                if entry is None:
                    continue
            _, head, end, rest, kind, cut_head, cut_rest = entry
            if row is not None:
                due = row[kind]
                if due > latest:
                    if not rates.slips(row):
                        continue
                    head, rest, kind = cut_head, cut_rest, CUT
                else:
                    row[kind] = (due if due > now else now) + step
            counts[kind] += 1
            answers.append((data[:2] + head + data[HEADER_BYTES:end] + rest, address))
        return answers

    def over_stream(self, data: bytes, host: bytes) -> bytes | None:
        """Return the answer to a query that came by TCP from a packed address; None when there is none."""
        if not is_query(data):
            self.ignored += 1
            return None
        _, head, end, rest, kind, _, _ = self._made(data, host, MAX_TCP_BYTES)[0]
        self.counts[kind] += 1
        return data[:2] + head + data[HEADER_BYTES:end] + rest

    # --- details

    def _client(self, scoped: bytes, now: float) -> Client:
        """Find, and remember, which view a client sees and what its network's rates are."""
        if len(self._clients) >= MAX_CLIENTS:
            self._clients.clear()
        host = _host(scoped)
        shown = self._shown
        cache = shown.caches[shown.snapshot.select(host)] if shown is not None else self._nothing
        client = self._clients[scoped] = (cache, self.rates.row(host, now))
        return client

    def _entry(self, data: bytes, address: PackedAddress, cache: Cache) -> Entry | None:
        """Make an answer, and keep it when the like of it may come again."""
        if not is_query(data):
            self.ignored += 1
            return None
        shown = self._shown
        if shown is not None:
            found = shown.subnets.find(data, shown.snapshot.select)
            if found is not None:
                return found
        host = _host(address[PORT_BYTES:])
        entry, query = self._made(data, host, self._payload)
        if (query is not None and shown is not None and entry[4] in KEPT and len(data) <= MAX_KEPT_QUERY
                and _comes_again(query) and self._most):
            self._keep(shown, data, query, host, entry, cache)
        return entry

    def _keep(self, shown: Shown, data: bytes, query: Query, host: bytes, entry: Entry, cache: Cache) -> None:
        if shown.subnets.keep(data, query, shown.snapshot.select(_asker(query, host, shown.snapshot)[0]), entry):
            return
        if self._kept >= self._most:
            self._forget()
        self._kept += 1
        cache[data[2:].lower()] = entry

    def _forget(self) -> None:
        # what is asked often is back at once
        self._kept = 0
        assert self._shown is not None
        for cache in self._shown.caches.values():
            cache.clear()

    def _made(self, data: bytes, host: bytes, most: int) -> tuple[Entry, Query | None]:
        """Return the answer of at most `most` bytes, and the query when it was one."""
        try:
            query = parse_query(data)
            return self._answer(data, query, host, most), query
        except WireError as error:
            return self._error(data, error.rcode, error.question_end, error.edns), None

    def _answer(self, data: bytes, query: Query, host: bytes, most: int) -> Entry:
        """Return the answer to a question for records. Raises WireError."""
        edns, shown = query.edns, self._shown
        question_end = query.name_end + TYPE_CLASS_BYTES
        rcode = _refusal(query, most) or (Rcode.SERVFAIL if shown is None else None)
        if rcode is not None or shown is None:
            raise WireError(rcode or Rcode.SERVFAIL, question_end, edns)
        host, scope = _asker(query, host, shown.snapshot)
        if query.type == Type.IXFR:
            compiled = self._latest(shown, host, query)
        else:
            compiled = self._view(shown, shown.snapshot.select(host)).find(query.name, query.type)
        if compiled is None:
            raise WireError(Rcode.REFUSED, question_end, edns)
        opt = b"" if edns is None else opt_record(edns, self._payload, 0, scope)
        if most < MAX_TCP_BYTES:
            most = min(most, edns.payload if edns is not None else 512)
        return _assembled(data, query, compiled, opt, most)

    def _view(self, shown: Shown, name: str) -> CompiledView:
        view = shown.views.get(name)
        if view is None:
            view = shown.views[name] = CompiledView(shown.snapshot.views[name], shown.snapshot.origins)
        return view

    def _latest(self, shown: Shown, host: bytes, query: Query) -> Compiled | None:
        """Return the SOA for a secondary that asks by UDP: if it is newer, it comes by TCP (RFC 1995 §2)."""
        view = self._view(shown, shown.snapshot.default)
        if view.origin(query.name) != query.name or not self._may_transfer(host):
            return None
        return view.find(query.name, Type.SOA)

    def _error(self, data: bytes, rcode: Rcode, question_end: int, edns: Edns | None) -> Entry:
        """Return an answer without records."""
        has_question = question_end > HEADER_BYTES
        name_end = question_end - TYPE_CLASS_BYTES if has_question else HEADER_BYTES
        opt = b"" if edns is None else opt_record(edns, self._payload, rcode)
        flags = RESPONSE | data[2] & (OPCODE | RECURSION_DESIRED)
        head = _HEAD.pack(flags, rcode & 0xF, has_question, 0, 0, bool(opt))
        rest = data[name_end:question_end] + opt
        return b"", head, name_end, rest, KIND_OF[rcode], head, rest


def _asker(query: Query, host: bytes, snapshot: Snapshot) -> tuple[bytes, int]:
    """Return the address that the view is for, and how much of a subnet the answer is for (RFC 7871 §7.2.1)."""
    subnet = query.edns.subnet if query.edns is not None else None
    if subnet is None or not subnet.bits or not snapshot.is_split:
        return host, 0
    return subnet.address, subnet.bits


def _comes_again(query: Query) -> bool:
    """Whether others, or the same one later, may ask just so, and get the same answer."""
    return query.type != Type.IXFR and not (query.edns is not None and query.edns.has_others)


def _refusal(query: Query, most: int) -> Rcode | None:
    """Return why a question is none for records of ours."""
    if query.edns is not None and query.edns.version:
        return Rcode.BADVERS
    if query.class_ != IN:
        return Rcode.REFUSED
    if query.type in NO_QUESTION:
        return Rcode.FORMERR
    if query.type == Type.AXFR and most >= MAX_TCP_BYTES:
        return Rcode.REFUSED  # the one of a secondary does not come here
    return Rcode.NOTIMP if query.type in NOT_HERE else None


def _assembled(data: bytes, query: Query, compiled: Compiled, opt: bytes, most: int) -> Entry:
    tail = data[query.name_end:]
    question = tail[:TYPE_CLASS_BYTES]
    flags = RESPONSE | AUTHORITATIVE | query.flags & RECURSION_DESIRED
    cut_head = _HEAD.pack(flags | TRUNCATED, compiled.rcode, 1, 0, 0, bool(opt))
    cut_rest = question + opt
    room = most - query.name_end - TYPE_CLASS_BYTES - len(opt)
    fitting = compiled.fitting(room)
    if fitting is None:
        return tail, cut_head, query.name_end, cut_rest, CUT, cut_head, cut_rest
    body, count = fitting
    head = _HEAD.pack(flags, compiled.rcode, 1, compiled.answers, compiled.authorities, count + bool(opt))
    kind = NO_SUCH_NAME if compiled.rcode else DATA if compiled.answers else NO_DATA
    return tail, head, query.name_end, question + body + opt, kind, cut_head, cut_rest


def _host(scoped: bytes) -> bytes:
    """Return a packed address without the scope of a link-local one."""
    return scoped[:IPV6_BYTES]
