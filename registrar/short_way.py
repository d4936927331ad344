"""The short way of a REGISTER: what nearly every phone sends nearly every time is answered at once (RFC 3261 §10.3).

A usual REGISTER, as the scanner calls it, that refreshes the one contact of its address-of-record, or brings the first
one, changes a few numbers of a packed record. It takes the steps of the whole way (`registrar.registering`) and leaves
the same binding and the same answer. Whatever needs a further rule, has to wait for somebody, or is to be refused for
another reason than missing credentials returns None and takes the whole way: until then nothing was changed.
"""

from collections.abc import Callable
from random import random

from twisted.logger import Logger

from registrar.answering import ROUNDING_SECONDS, SUPPORTED, sip_date
from registrar.auth import Authentication
from registrar.bindings import BRIEF_BELOW_SECONDS, granted_seconds
from registrar.bound import tie
from registrar.location.at_once import AtOnceStore
from registrar.location.memory import SLOT_SECONDS
from registrar.location.packing import COMPACT, CONNECTION_BOUND, DIRECT, GENERATION, HEAD
from registrar.observing import AtOnce, Observing
from registrar.records import BindingConfig, aor_of_key
from registrar.routing import Domains
from rollcall.net.flow import PORT_BYTES, Flow, Listener, PackedAddress, unpack_address
from rollcall.net.transactions import Transactions
from rollcall.sip.chance import random_name
from rollcall.sip.errors import ParseError
from rollcall.sip.scanner import GRUU, OUTBOUND, UsualRegister
from rollcall.sip.uri import SipUri, parse_often

OK = b"SIP/2.0 200 OK"
UNAUTHORIZED = b"SIP/2.0 401 Unauthorized"
UNAVAILABLE = b"SIP/2.0 503 Service Unavailable"
REG_ID = b";reg-id="
INSTANCE = b";+sip.instance="

MAX_TARGETS = 1024
"""Request-URIs that are remembered to be ours."""

USUAL = COMPACT | DIRECT
NO_BODY = "Content-Length: 0\r\n\r\n"
DEFAULT_PORT = 5060

LOW_HALF = 0xFFFFFFFF
TAG_DIGITS = 8
"""Of the tags in answers to datagrams: what fits beside the hash (RFC 3261 §19.3: "at least 32 bits of randomness")."""


class ShortWay:
    """Answers usual REGISTERs, those over connections and those in datagrams."""

    _log = Logger()

    def __init__(self, *, domains: Domains, location: AtOnceStore, authentication: Authentication | None,
                 admits: Callable[[bytes, float], bool], refuse: Callable[[PackedAddress, str], int],
                 config: BindingConfig, node: str, epoch: int, transactions: Transactions,
                 now: Callable[[], float], observing: Observing) -> None:
        """`admits(source, now)` counts a request; `refuse(address, transport)` logs one too many, and returns the
        seconds for Retry-After.
        """
        self._admits = admits
        self._refuse = refuse
        self._domains = domains
        self._location = location
        self._authentication = authentication
        self._config = config
        self._node = node
        self._epoch = epoch
        self._transactions = transactions
        self._now = now
        self._observing = observing
        self._repeated_within = 64 * transactions.config.t1_seconds
        self._domain_of: dict[bytes, tuple[str, bytes]] = {}
        self._faces: dict[str, tuple[int | None, AtOnce]] = {}
        self._accepted, self._missing = observing.verdict("accepted"), observing.verdict("missing")
        self._ends_at = -1
        self._end = self._end_outbound = self._end_over_flow = b""

    def over_connection(self, register: UsualRegister, flow: Flow, now: float) -> bytes | None:
        """Return the answer to what came over a connection, or None for the whole way."""
        listener = flow.listener
        served = self._domain_of.get(register.request_uri) or self._learn(register.request_uri)
        if served is None or listener is None:
            return None
        domain, ending = served
        key = register.user + ending
        location = self._location
        if not location.takes_at_once(key, True):
            return None
        place, observed = self._faces.get(listener.name) or self._new_face(listener)
        address, flow_id = flow.address, flow.id
        if self._authentication is not None and not register.has_credentials:
            if not self._admits(address[PORT_BYTES:], now):
                return self._turn_away(register, address, observed, now)
            return self._challenge(register, domain, address, observed, now)
        old = location.records.get(key)
        if old is None:
            new = self._bound(register, address, place, CONNECTION_BOUND, flow_id, 0, now)
        else:
            new = self._refreshed(register, old, address, place, flow_id, 0, now)
        if new is None or not self._is_proven(register, domain, now):
            return None
        if not self._admits(address[PORT_BYTES:], now):
            return self._turn_away(register, address, observed, now)
        if old is None:
            location.insert(key, new, listener.transport)
            tie(flow, key)
            observed.new(aor_of_key(key), address)
        else:
            location.refresh(key, new)
            observed.refreshed.value += 1
        return self._answer(register, new, random_name().encode(), address, observed, now)

    def in_datagram(self, register: UsualRegister, listener: Listener, address: PackedAddress,
                    now: float) -> bytes | None:
        """Return the answer to a datagram, which goes where it came from; or None for the whole way.

        A repeated request that changed the record gets its answer again from the record, which remembers a hash of
        the transaction and the tag (RFC 3261 §17.2.2) until the next request changes it: a phone makes none before it
        has its answer (§10.2.4). Other answers are remembered as those of the whole way are.
        """
        served = self._domain_of.get(register.request_uri) or self._learn(register.request_uri)
        if served is None or not (register.wants_rport or _is_from(register, address)):
            return None
        domain, ending = served
        key = register.user + ending
        location, transactions = self._location, self._transactions
        transaction = register.transaction_key
        if not location.takes_at_once(key, False) or transactions.is_known(transaction):
            return None
        place, observed = self._faces.get(listener.name) or self._new_face(listener)
        old = location.records.get(key)
        tag = random_name()[:TAG_DIGITS]
        repeat = (hash(transaction) & LOW_HALF) << 32 | int(tag, 16)
        if old is None:
            new = self._bound(register, address, place, 0, 0, repeat, now)
        else:
            again = self._repeated(register, old, address, repeat, now)
            if again is not None:
                return again if self._admits(address[PORT_BYTES:], now) else None
            new = self._refreshed(register, old, address, place, 0, repeat, now)
        remembered = transactions.answers.get(transaction)
        if remembered is not None:
            return remembered if self._admits(address[PORT_BYTES:], now) else None
        if self._authentication is not None and not register.has_credentials:
            if not self._admits(address[PORT_BYTES:], now):
                return self._turn_away(register, address, observed, now)
            answer = self._challenge(register, domain, address, observed, now)
            transactions.answers.put(transaction, answer)
            return answer
        if new is None or not self._is_proven(register, domain, now):
            return None
        if not self._admits(address[PORT_BYTES:], now):
            return self._turn_away(register, address, observed, now)
        if old is None:
            location.insert(key, new, listener.transport)
            observed.new(aor_of_key(key), address)
        else:
            location.refresh(key, new)
            observed.refreshed.value += 1
        return self._answer(register, new, tag.encode(), address, observed, now)

    def _bound(self, register: UsualRegister, address: PackedAddress, place: int | None, is_bound: int, flow_id: int,
               repeat: int, now: float) -> bytes | None:
        """Return the record of an address-of-record with its first binding, or None for the whole way."""
        agent = self._location.packing.agents.index(register.user_agent)
        granted = self._granted(register)
        if agent is None or place is None or not granted or not register.is_plain:
            return None
        expires_at = now + granted
        head = HEAD.pack(1, int(expires_at // SLOT_SECONDS), COMPACT | DIRECT | is_bound, len(address), agent, place,
                         expires_at, now, now, register.cseq, flow_id, repeat)
        return head + address + register.identity

    def _refreshed(self, register: UsualRegister, old: bytes, address: PackedAddress, place: int | None, flow_id: int,
                   repeat: int, now: float) -> bytes | None:
        """Return the record after a refresh of its one binding, or None for the whole way."""
        (version, slot, kind, length, agent, old_place, expires_at, _, registered_at, cseq, old_flow,
         _) = HEAD.unpack_from(old)
        if kind & USUAL != USUAL or old_place != place or old_flow != flow_id or expires_at <= now:
            return None
        if register.cseq <= cseq or not _is_same(register, old, address, length, kind):
            return None
        granted = self._granted(register)
        if not granted or self._location.packing.agents.index(register.user_agent) != agent:
            return None
        if not register.is_plain and register.supported & GRUU and INSTANCE in register.params:
            return None
        head = HEAD.pack(version + 1, slot, kind, length, agent, place, now + granted, now, registered_at,
                         register.cseq, flow_id, repeat)
        return head + old[HEAD.size:]

    def _repeated(self, register: UsualRegister, old: bytes, address: PackedAddress, repeat: int,
                  now: float) -> bytes | None:
        """Return the answer to the request that made the record what it is, when it comes again."""
        head = HEAD.unpack_from(old)
        kind, length, refreshed_at, cseq, last = head[2], head[3], head[7], head[9], head[11]
        if cseq != register.cseq or last >> 32 != repeat >> 32 or now - refreshed_at > self._repeated_within:
            return None
        if not kind & COMPACT or not _is_same(register, old, address, length, kind):
            return None
        return self._ok(register, old, b"%08x" % (last & LOW_HALF), address, now)

    def _granted(self, register: UsualRegister) -> int:
        """Return the seconds to grant; 0 when they are none, or too few (RFC 3261 §10.3 step 7)."""
        config = self._config
        seconds = register.expires if register.expires >= 0 else config.default_expires_seconds
        if seconds < config.min_expires_seconds and seconds < BRIEF_BELOW_SECONDS:
            return 0
        return granted_seconds(seconds, config, random)

    def _is_proven(self, register: UsualRegister, domain: str, now: float) -> bool:
        authentication = self._authentication
        if authentication is None:
            return True
        if not authentication.is_proven(register, domain, now):
            return False
        self._accepted.value += 1
        return True

    def _challenge(self, register: UsualRegister, domain: str, address: PackedAddress, observed: AtOnce,
                   now: float) -> bytes:
        """Return the 401 to a request without credentials."""
        assert self._authentication is not None
        agent = register.user_agent.decode("utf-8", "surrogateescape")
        lines = [f"{name}: {value}\r\n" for name, value in self._authentication.ask(agent, domain, now).headers]
        lines.append(NO_BODY)
        self._missing.value += 1
        observed.challenged(self._now() - now)
        return register.reply(UNAUTHORIZED, random_name().encode(), address, "".join(lines).encode())

    def _turn_away(self, register: UsualRegister, address: PackedAddress, observed: AtOnce, now: float) -> bytes:
        """Return the 503 to a request that is one too many."""
        seconds = self._refuse(address, observed.transport)
        observed.turned_away(self._now() - now)
        return register.reply(UNAVAILABLE, random_name().encode(), address,
                              f"Retry-After: {seconds}\r\n{NO_BODY}".encode())

    def _answer(self, register: UsualRegister, record: bytes, tag: bytes, address: PackedAddress, observed: AtOnce,
                now: float) -> bytes:
        answer = self._ok(register, record, tag, address, now)
        observed.accepted(self._now() - now)
        return answer

    def _ok(self, register: UsualRegister, record: bytes, tag: bytes, address: PackedAddress, now: float) -> bytes:
        """Return the 200 that reports the binding (see `registrar.answering`)."""
        second = int(now)
        if second != self._ends_at:
            self._renew_endings(second)
        head = HEAD.unpack_from(record)
        remaining = max(1, int(head[6] - now + ROUNDING_SECONDS))
        end = self._end
        if not register.is_plain and register.supported & OUTBOUND and REG_ID in register.params:
            end = self._end_over_flow if head[10] else self._end_outbound
        contact = b"Contact: <%b>;expires=%d%b\r\n%b" % (register.contact, remaining, register.params, end)
        return register.reply(OK, tag, address, contact)

    def _renew_endings(self, second: int) -> None:
        """Write what comes after Contact, which changes with the second."""
        config = self._config
        routes = f"Service-Route: {', '.join(config.service_route)}\r\n" if config.service_route else ""
        timer = f"Flow-Timer: {config.flow_timer_seconds}\r\n" if config.flow_timer_seconds else ""
        end = f"{routes}Supported: {SUPPORTED}\r\nDate: {sip_date(second)}\r\n{NO_BODY}"
        self._end = end.encode()
        self._end_outbound = f"Require: outbound\r\n{end}".encode()
        self._end_over_flow = f"Require: outbound\r\n{timer}{end}".encode()
        self._ends_at = second

    def _learn(self, request_uri: bytes) -> tuple[str, bytes] | None:
        """Return the domain that a Request-URI names when it is ours, and how its record keys end."""
        if self._config.require_outbound:
            return None
        try:
            uri = parse_often(request_uri.decode())
        except ParseError:
            return None
        domain = self._domains.served(uri) if isinstance(uri, SipUri) else None
        if domain is None:
            return None
        if len(self._domain_of) >= MAX_TARGETS:
            self._domain_of.clear()
        served = self._domain_of[request_uri] = domain, f"@{domain}".encode()
        return served

    def _new_face(self, listener: Listener) -> tuple[int | None, AtOnce]:
        """Return a listener's index in records, and what counts what happens on it."""
        places = self._location.packing.places
        place = places.index(listener.transport, listener.name, self._node, self._epoch)
        face = self._faces[listener.name] = place, AtOnce(self._observing, listener.transport)
        return face


def _is_same(register: UsualRegister, record: bytes, address: PackedAddress, length: int, kind: int) -> bool:
    """Say whether a record's binding has this source, contact and Call-ID."""
    identity = register.identity
    start = HEAD.size + length
    if length != len(address) or not record.startswith(address, HEAD.size) or not record.startswith(identity, start):
        return False
    end = start + len(identity)
    return end == len(record) or (kind & GENERATION != 0 and record[end] == 0)


def _is_from(register: UsualRegister, address: PackedAddress) -> bool:
    """Say whether a request comes from where its Via says: then the answer goes there (RFC 3261 §18.2.2)."""
    host, port = unpack_address(address)
    return register.via_host == host.encode() and (register.via_port or DEFAULT_PORT) == port
