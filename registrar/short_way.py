"""The short way of a REGISTER: what nearly every phone sends nearly every time is answered at once (RFC 3261 §10.3).

A usual REGISTER, as the scanner calls it, that refreshes the one contact of its address-of-record, or brings the first
one, changes a few numbers of a packed record. It takes the steps of the whole way (`registrar.registering`) and leaves
the same binding and the same answer. Whatever needs a further rule, has to wait for somebody, or is to be refused for
another reason than missing credentials returns None and takes the whole way: until then nothing was changed.

Where bindings are kept elsewhere first, the answer is written when that is acknowledged (`registrar.answering_later`).
"""

import sys
from collections.abc import Callable
from functools import partial
from random import random
from typing import cast

from attrs import frozen

from registrar.answering import ROUNDING_SECONDS, SUPPORTED, sip_date
from registrar.answering_later import LATER, AnsweringLater
from registrar.auth import Authentication, register_ha2
from registrar.bans import Receivers, receivers
from registrar.bindings import BRIEF_BELOW_SECONDS
from registrar.bound import tie
from registrar.location.at_once import AtOnceStore, RecordStore
from registrar.location.memory import SLOT_SECONDS
from registrar.location.packing import COMPACT, CONNECTION_BOUND, DIRECT, HEAD
from registrar.location.renewal import is_early, renewed
from registrar.observing import ANSWER_SECONDS, Face, Observing
from registrar.records import BindingConfig
from registrar.routing import Domains
from rollcall.net.flow import PORT_BYTES, Flow, Listener, PackedAddress, unpack_address
from rollcall.net.transactions import Transactions
from rollcall.sip.chance import random_number, random_tag
from rollcall.sip.compiled import compiled_module
from rollcall.sip.errors import ParseError
from rollcall.sip.scanner import GRUU, OUTBOUND, UsualRegister
from rollcall.sip.uri import SipUri, parse_often

UNAUTHORIZED = b"SIP/2.0 401 Unauthorized"
UNAVAILABLE = b"SIP/2.0 503 Service Unavailable"
REG_ID = b";reg-id="
INSTANCE = b";+sip.instance="

MAX_LEARNT = 1024
"""Request-URIs and times that are remembered: phones of a site agree on both, strangers may invent others."""

# As in renewal.py: the compiled one moves numbers as the machine has them.
_compiled = compiled_module("registrar._short_way") if sys.byteorder == "little" else None

HEAD_SIZE = HEAD.size
NO_BODY = "Content-Length: 0\r\n\r\n"
DEFAULT_PORT = 5060

LOW_HALF = 0xFFFFFFFF
"""Of a hash as much as fits beside the 32 bits of chance in a tag, which RFC 3261 §19.3 asks for at least."""


@frozen
class Served:
    """A domain that Request-URIs name."""

    domain: str
    realm: bytes
    """The same in bytes."""
    ending: bytes
    """How the record keys of its addresses-of-record end."""
    ha2: bytes
    """H(A2) by MD5 of a REGISTER to this Request-URI."""


class ShortWay:
    """Answers usual REGISTERs, those over connections and those in datagrams."""

    def __init__(self, *, domains: Domains, location: RecordStore, authentication: Authentication | None,
                 admits: Callable[[bytes, float], bool], refuse: Callable[[PackedAddress, str], int],
                 config: BindingConfig, node: str, epoch: int, transactions: Transactions,
                 now: Callable[[], float], observing: Observing, later: AnsweringLater | None = None,
                 refuses_new: Callable[[], bool] = lambda: False) -> None:
        """`admits(source, now)` counts a request; `refuse(address, transport)` logs one too many, and returns the
        seconds for Retry-After. `later` is there for a location that keeps later; any other is an
        AtOnceStore. `refuses_new` says whether first bindings are refused now, which the whole way does.
        """
        self._later = later
        self._refuses_new = refuses_new
        self._admits = admits
        self._refuse = refuse
        self._domains = domains
        self._location = location
        self._at_once = cast(AtOnceStore, location)
        self._authentication = authentication
        self._config = config
        self._jitter = config.expiry_jitter
        self._node = node
        self._epoch = epoch
        self._transactions = transactions
        self._now = now
        self._observing = observing
        self._repeated_within = 64 * transactions.config.t1_seconds
        self._agents = location.packing.agents
        self._agents.index(b"")  # that of phones which name none
        self._served: dict[bytes, Served] = {}
        domains.on_change.append(self._served.clear)
        self._spans: dict[int, tuple[int, float, int]] = {}
        self._faces: dict[str, Face] = {}
        self._accepted, self._missing = observing.verdict("accepted"), observing.verdict("missing")
        self._forget_spans: Callable[[], None] = self._spans.clear
        self._ends_at = 0
        self._end = self._end_outbound = self._end_over_flow = b""
        self.over_connection, self.in_datagram = self.plainly_over_connection, self.plainly_in_datagram
        """Answer what came over a connection, or in a datagram; compiled where that could be done (_short_way.pyx)."""
        if _compiled is not None and later is None:
            shortest = _compiled.ShortestWay(
                self.over_connection, self.in_datagram, self._serve, self._span, self._face, self._end_at,
                self._turn_away, location, admits, transactions.knows, now, authentication, ANSWER_SECONDS)
            observing.settle_by(shortest.settle)
            domains.on_change.append(shortest.forget_uri)
            self._forget_spans = shortest.forget_spans
            self.over_connection, self.in_datagram = shortest.over_connection, shortest.in_datagram

    def plainly_over_connection(self, register: UsualRegister, flow: Flow, now: float) -> bytes | None:
        """Return the answer to what came over a connection, or None for the whole way."""
        listener = flow.listener
        served = self._serve(register.request_uri)
        if served is None or listener is None:
            return None
        key = register.user + served.ending
        location = self._location
        # Asked first, so that a store that has to fetch the record does so while the phone answers the challenge.
        is_at_once = location.takes_at_once(key, True)
        face = self._face(listener)
        address = flow.address
        if self._authentication is not None and not register.has_credentials:
            return self._challenge(register, served, address, face, now, receivers(address, False))
        seconds = self._granted(register.expires)
        agent = self._agents.known(register.user_agent)
        if not is_at_once or not seconds or agent is None:
            return None
        old = location.records.get(key)
        new = self._record(register, old, address, face.place, flow.id, agent, seconds, 0, now)
        if new is None or not self._is_proven(register, key, served, now, address, False, old is None):
            return None
        if not self._admits(address[PORT_BYTES:], now):
            return self._turn_away(register, address, face, now)
        if self._later is not None:
            accept = partial(self._accept, register, random_tag(), address, seconds, now, face, True)
            return self._later.over_connection(register, key, old, new, face, flow, accept)
        self._keep(key, old is None, new, face, address)
        if old is None:
            tie(flow, key)
        return self._accept(register, random_tag(), address, seconds, now, face, True)

    def plainly_in_datagram(self, register: UsualRegister, listener: Listener, address: PackedAddress,
                            now: float) -> bytes | None:
        """Return the answer to a datagram, which goes where it came from; or None for the whole way.

        A repeated request that changed the record gets its answer again from the record, which remembers a hash of
        the transaction and the tag (RFC 3261 §17.2.2) until the next request changes it: a phone makes none before it
        has its answer (§10.2.4). What the whole way remembers it repeats, challenges made here too.
        """
        served = self._serve(register.request_uri)
        if served is None or not (register.wants_rport or _is_from(register, address)):
            return None
        key = register.user + served.ending
        location = self._location
        transaction = register.transaction_key
        if self._later is not None and transaction in self._later.datagrams:
            return LATER
        if self._transactions.knows(transaction):
            return None
        is_at_once = location.takes_at_once(key, False)
        face = self._face(listener)
        if self._authentication is not None and not register.has_credentials:
            answer = self._challenge(register, served, address, face, now, receivers(address, True))
            if answer is not None:
                self._transactions.answers.put(transaction, answer)
            return answer
        seconds = self._granted(register.expires)
        agent = self._agents.known(register.user_agent)
        if not is_at_once or not seconds or agent is None:
            return None
        chance = random_number()
        repeat = (hash(transaction) & LOW_HALF) << 32 | chance
        old = location.records.get(key)
        new = self._record(register, old, address, face.place, 0, agent, seconds, repeat, now)
        if new is None and old is not None:
            return self._repeated(register, old, address, repeat, now)
        if new is None or not self._is_proven(register, key, served, now, address, True, old is None):
            return None
        if not self._admits(address[PORT_BYTES:], now):
            return self._turn_away(register, address, face, now)
        if self._later is not None:
            accept = partial(self._accept, register, b"%08x" % chance, address, seconds, now, face, False)
            return self._later.in_datagram(register, key, old, new, face, listener, address, accept)
        self._keep(key, old is None, new, face, address)
        return self._accept(register, b"%08x" % chance, address, seconds, now, face, False)

    def spread(self, jitter: float) -> None:
        """Shorten granted times by up to this part from now on."""
        self._jitter = jitter
        self._spans.clear()
        self._forget_spans()

    def domain_of(self, register: UsualRegister, came_from: PackedAddress | None = None) -> str | None:
        """Return the domain that a request is for when it can be refused here; `came_from` is there for a datagram."""
        served = self._serve(register.request_uri)
        if served is None or (came_from is not None and not (register.wants_rport or _is_from(register, came_from))):
            return None
        if came_from is not None and self._is_repeat(register):
            return None
        return served.domain

    def _is_repeat(self, register: UsualRegister) -> bool:
        """Say whether a datagram came before: it gets, or waits for, the same answer (RFC 3261 §17.2.2)."""
        later = self._later
        return self._transactions.knows(register.transaction_key) or (
            later is not None and register.transaction_key in later.datagrams)

    def _granted(self, asked: int) -> int:
        """Return the seconds to grant; 0 when they are none, or too few (RFC 3261 §10.3 step 7)."""
        most, spread, least = self._span(asked)
        return max(most - int(spread * random()), least)

    def _span(self, asked: int) -> tuple[int, float, int]:
        """Return what `bindings.granted_seconds` computes with: the most, what chance takes off it, and the least."""
        span = self._spans.get(asked)
        if span is not None:
            return span
        config = self._config
        seconds = asked if asked >= 0 else config.default_expires_seconds
        if seconds < config.min_expires_seconds and seconds < BRIEF_BELOW_SECONDS:
            return 0, 0.0, 0
        if len(self._spans) >= MAX_LEARNT:
            self._spans.clear()
        most = min(seconds, config.max_expires_seconds)
        span = self._spans[asked] = most, most * self._jitter, min(seconds, config.min_expires_seconds)
        return span

    def _record(self, register: UsualRegister, old: bytes | None, address: PackedAddress, place: int, flow_id: int,
                agent: int, seconds: int, repeat: int, now: float) -> bytes | None:
        """Return the record as it is after this request, or None for the whole way."""
        if old is None:
            return self._first(register, address, place, flow_id, agent, seconds, repeat, now)
        end = _same_binding(register, old, address)
        if end < 0 or _wants_gruus(register):
            return None
        return renewed(old, HEAD_SIZE + len(address), end, place, flow_id, agent, register.cseq, now, seconds, repeat)

    def _keep(self, key: bytes, is_first: bool, record: bytes, face: Face, address: PackedAddress) -> None:
        """Put a record into its place, and count it."""
        if is_first:
            self._at_once.insert(key, record, face.transport)
        elif is_early(record):
            self._at_once.refresh(key, record)
        else:
            self._location.records[key] = record
        face.kept(key, is_first, address)

    def _first(self, register: UsualRegister, address: PackedAddress, place: int, flow_id: int, agent: int,
               seconds: int, repeat: int, now: float) -> bytes | None:
        """Return the record of an address-of-record with its first binding, or None for the whole way."""
        if place < 0 or not register.is_plain or self._refuses_new():
            return None
        expires_at = now + seconds
        kind = COMPACT | DIRECT | (CONNECTION_BOUND if flow_id else 0)
        return HEAD.pack(1, int(expires_at // SLOT_SECONDS), kind, len(address), agent, place, expires_at, now, now,
                         register.cseq, flow_id, repeat) + address + register.identity

    def _repeated(self, register: UsualRegister, record: bytes, address: PackedAddress, repeat: int,
                  now: float) -> bytes | None:
        """Return the answer to the request that made the record what it is, when it comes again."""
        head = HEAD.unpack_from(record)
        kind, length, expires_at, refreshed_at, cseq, last = head[2], head[3], head[6], head[7], head[9], head[11]
        if not kind & COMPACT or length != len(address) or _same_binding(register, record, address) < 0:
            return None
        if cseq != register.cseq or last >> 32 != repeat >> 32 or now - refreshed_at > self._repeated_within:
            return None
        if not self._admits(address[PORT_BYTES:], now):
            return None
        remaining = max(1, int(expires_at - now + ROUNDING_SECONDS))
        return register.accept(b"%08x" % (last & LOW_HALF), address, remaining, self._ending(register, False, now))

    def _is_proven(self, register: UsualRegister, key: bytes, served: Served, now: float, address: PackedAddress,
                   is_datagram: bool, is_first: bool) -> bool:
        """Say whether the password is proven. A phone that is registered is listened to where it is, whoever guesses.

        `renewed` has seen to it that a request which is not the first comes from there.
        """
        authentication = self._authentication
        if authentication is None:
            return True
        if is_first and authentication.may_refuse(key.decode(), address, now):
            return False
        given_to = receivers(address, is_datagram)
        if not authentication.is_proven(register, key.decode(), served.realm, now, given_to, is_first):
            return False
        self._accepted.value += 1
        return True

    def _challenge(self, register: UsualRegister, served: Served, address: PackedAddress, face: Face,
                   now: float, given_to: Receivers) -> bytes | None:
        """Return the 401 to a request without credentials, or None when its user has to be looked up for it."""
        assert self._authentication is not None
        agent = register.user_agent.decode("utf-8", "surrogateescape")
        if self._authentication.asks_by_user(agent):
            return None
        if not self._admits(address[PORT_BYTES:], now):
            return self._turn_away(register, address, face, now)
        asked = self._authentication.ask(agent, served.domain, now, given_to).headers
        lines = [f"{name}: {value}\r\n" for name, value in asked]
        lines.append(NO_BODY)
        self._missing.value += 1
        face.challenged(self._now() - now)
        return register.reply(UNAUTHORIZED, random_tag(), address, "".join(lines).encode())

    def _turn_away(self, register: UsualRegister, address: PackedAddress, face: Face, now: float) -> bytes:
        """Return the 503 to a request that is one too many."""
        return self._put_off(register, address, face, now, self._refuse(address, face.transport))

    def put_off(self, register: UsualRegister, listener: Listener, address: PackedAddress, now: float,
                seconds: int) -> bytes:
        """Return the 503 to a request that may come again in so many seconds."""
        return self._put_off(register, address, self._face(listener), now, seconds)

    def _put_off(self, register: UsualRegister, address: PackedAddress, face: Face, now: float, seconds: int) -> bytes:
        face.turned_away(self._now() - now)
        return register.reply(UNAVAILABLE, random_tag(), address, f"Retry-After: {seconds}\r\n{NO_BODY}".encode())

    def _accept(self, register: UsualRegister, tag: bytes, address: PackedAddress, seconds: int, now: float,
                face: Face, over_flow: bool) -> bytes:
        """Return the 200 that reports the binding (see `registrar.answering`)."""
        answer = register.accept(tag, address, seconds, self._ending(register, over_flow, now))
        face.accepted(self._now() - now)
        return answer

    def _ending(self, register: UsualRegister, over_flow: bool, now: float) -> bytes:
        """Return what comes after Contact in a 200."""
        if not self._ends_at - 1 <= now < self._ends_at:
            self._renew_endings(int(now))
        if register.is_plain or not register.supported & OUTBOUND or REG_ID not in register.params:
            return self._end
        return self._end_over_flow if over_flow else self._end_outbound

    def _end_at(self, now: float) -> tuple[bytes, float]:
        """Return what comes after Contact in a 200 to a plain phone, and until when."""
        if not self._ends_at - 1 <= now < self._ends_at:
            self._renew_endings(int(now))
        return self._end, self._ends_at

    def _renew_endings(self, second: int) -> None:
        """Write what comes after Contact, which changes with the second."""
        config = self._config
        routes = f"Service-Route: {', '.join(config.service_route)}\r\n" if config.service_route else ""
        timer = f"Flow-Timer: {config.flow_timer_seconds}\r\n" if config.flow_timer_seconds else ""
        end = f"{routes}Supported: {SUPPORTED}\r\nDate: {sip_date(second)}\r\n{NO_BODY}"
        self._end = end.encode()
        self._end_outbound = f"Require: outbound\r\n{end}".encode()
        self._end_over_flow = f"Require: outbound\r\n{timer}{end}".encode()
        self._ends_at = second + 1

    def _serve(self, request_uri: bytes) -> Served | None:
        """Return the domain that a Request-URI names when it is ours and its REGISTERs can be answered here."""
        served = self._served.get(request_uri)
        if served is not None:
            return served
        if self._config.require_outbound:
            return None
        try:
            uri = parse_often(request_uri.decode())
        except ParseError:
            return None
        domain = self._domains.served(uri) if isinstance(uri, SipUri) else None
        if domain is None:
            return None
        if len(self._served) >= MAX_LEARNT:
            self._served.clear()
        served = self._served[request_uri] = Served(
            domain, domain.encode(), f"@{domain}".encode(), register_ha2(request_uri))
        return served

    def _face(self, listener: Listener) -> Face:
        """Return a listener as records and metrics see it."""
        known = self._faces.get(listener.name)
        if known is not None:
            return known
        place = self._location.packing.places.index(listener.transport, listener.name, self._node, self._epoch)
        face = self._faces[listener.name] = Face(self._observing, listener.transport, -1 if place is None else place)
        return face


def _is_from(register: UsualRegister, address: PackedAddress) -> bool:
    """Say whether a request comes from where its Via says: then the answer goes there (RFC 3261 §18.2.2)."""
    host, port = unpack_address(address)
    return register.via_host == host.encode() and (register.via_port or DEFAULT_PORT) == port


def _same_binding(register: UsualRegister, record: bytes, address: PackedAddress) -> int:
    """Return where the identity of a record's binding ends, if it came from `address` and is this one's; else -1."""
    return register.same_as(record, HEAD_SIZE + len(address)) if record.startswith(address, HEAD_SIZE) else -1


def _wants_gruus(register: UsualRegister) -> bool:
    """Say whether the answer has to name GRUUs (RFC 5627 §5.2)."""
    return not register.is_plain and register.supported & GRUU != 0 and INSTANCE in register.params
