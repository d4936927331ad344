"""Whom a REGISTER is from when not all can be answered in time, and what those hear who have to come again later.

Shed first are devices that nobody knows; then those that are known here: they have a binding, had one a short while
ago, or show a nonce that we gave them. Who refreshes what is bound over its own connection is shed last of all. Each
hears a time at which there is room for him (`registrar.avalanche.appointments`), and is let in then. Calls are none of
its business: they never wait for it.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from random import uniform

from attrs import define
from twisted.logger import Logger

from registrar.auth import Authentication
from registrar.avalanche.appointments import SLOTS_PER_SECOND, Appointments, Standing
from registrar.avalanche.config import AvalancheConfig
from registrar.avalanche.herd import Herd
from registrar.avalanche.load import Load
from registrar.bound import keys_on
from registrar.claims import credentials_for
from registrar.location.packing import HEAD
from registrar.records import record_key
from registrar.routing import Domains, aor_of
from rollcall.net.flow import PORT_BYTES, Flow, PackedAddress
from rollcall.ops.metrics import Metrics
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request
from rollcall.sip.scanner import UsualRegister
from rollcall.sip.uri import SipUri, parse_uri

HEAD_SIZE = HEAD.size

LOOK_SECONDS = 0.25
"""While registrations are turned away it is looked so often whether that has to go on."""


class Kind(Enum):
    """Who asks."""

    UNKNOWN = "unknown"
    KNOWN = "known"
    BOUND = "bound"


PATIENCE = {Kind.UNKNOWN: 1.0, Kind.KNOWN: 2.0, Kind.BOUND: 8.0}
"""Somebody is turned away when answers take so many times target_seconds."""

CHALLENGED_UNITS = 2.0
"""Who shows no credentials is going to ask twice."""


@define
class _Asking:
    """Somebody who asks."""

    key: bytes
    address: PackedAddress
    kind: Kind
    units: float

    @property
    def name(self) -> int:
        """What he is remembered by: the same user from another host is another one, for anybody may name any user."""
        return hash(self.key + self.source)

    @property
    def source(self) -> bytes:
        """The host."""
        return self.address[PORT_BYTES:]


class Shedding:
    """Decides who is let in while answers take too long. Until then nobody asks it."""

    _log = Logger()

    def __init__(self, config: AvalancheConfig, usual_jitter: float, *, domains: Domains,
                 records: Mapping[bytes, bytes], authentication: Authentication | None,
                 has_left: Callable[[bytes, float], bool], admits: Callable[[bytes, float], bool],
                 answered: Callable[[], int], now: Callable[[], float],
                 later: Callable[[float, Callable[[], None]], object]) -> None:
        """`has_left(key, now)` says whether the connection of a record has ended a short while ago; `admits(source,
        now)` counts a request; `answered` counts the REGISTERs that were answered by 200 or 401; `later(seconds, call)`
        calls then.
        """
        self.load = Load(config.target_seconds, config.start_rate, answered)
        self.appointments = Appointments(config.max_retry_seconds, config.late_seconds, config.max_appointments)
        self.load.outstanding = lambda: self.waited_for
        self.refused = dict.fromkeys((*(kind.value for kind in Kind), "early"), 0)
        """Answers by 503, by who got them; "early" are those who did not wait for their time."""
        self.unbooked = 0
        """Those who were given no time: there was no room for them."""
        self.on_change: list[Callable[[bool], None]] = []
        """Told when it begins, and when it ends."""
        self.on_jitter: list[Callable[[float], None]] = []
        """Told how far times are to be spread from now on."""
        self._config = config
        self._herd = Herd(usual_jitter, config.expiry_jitter)
        self._domains = domains
        self._records = records
        self._authentication = authentication
        self._has_left = has_left
        self._admits = admits
        self._now = now
        self._later = later
        self._began_at = 0.0
        self._is_looking = False
        if config.enabled:
            self.load.on_change.append(self._changed)

    @property
    def waited_for(self) -> int:
        """How many have an appointment that is neither kept nor missed."""
        book = self.appointments
        return book.booked - book.kept - book.missed

    def rate(self) -> float:
        """Return how many REGISTERs this process can take in a second, as far as is known."""
        self.load.look(self._now())
        return self.load.rate

    def wait_seconds(self) -> float:
        """Return the shortest wait for an answer a moment ago."""
        self.load.look(self._now())
        return self.load.latency

    def pace(self) -> float:
        """Return how many who sleep may be woken in a second, who come at once then.

        Nobody while answers take too long, for he would be turned away; and while those who were turned away are to
        come again, what is not kept for them.
        """
        rate = self.rate()
        if self.load.is_late:
            return 0.0
        return rate * (1.0 - self._config.appointments) if self.load.is_shedding else rate

    # --- while it lasts

    def turns_away(self, register: UsualRegister, domain: str, address: PackedAddress, now: float) -> int | None:
        """Return the seconds after which a usual REGISTER may come again; None when it is let in, and counted there."""
        key = register.user + b"@" + domain.encode()
        nonce = register.nonce.decode("ascii", "replace") if register.has_credentials else None
        record = self._records.get(key)
        is_bound = record is not None and record.startswith(address, HEAD_SIZE)
        asking = self._asking(key, address, is_bound, record is not None, nonce, now)
        return self._verdict(asking, now, self._admits)

    def refuses(self, request: Request, flow: Flow, now: float) -> int | None:
        """Do the same for any REGISTER for a domain of ours, which was counted before."""
        try:
            uri = parse_uri(parse_name_addr(request.get("To") or "").uri)
            domain = self._domains.served(uri) if isinstance(uri, SipUri) else None
            if not isinstance(uri, SipUri) or domain is None:
                return None  # what it is worth is said at once
            key = record_key(aor_of(uri, domain))
            credentials = credentials_for(domain, request.get_all("Authorization"))
        except ParseError:
            return None
        nonce = credentials.nonce if credentials is not None else None
        return self._verdict(
            self._asking(key, flow.address, key in keys_on(flow), key in self._records, nonce, now), now)

    def _asking(self, key: bytes, address: PackedAddress, is_bound: bool, has_record: bool, nonce: str | None,
                now: float) -> _Asking:
        authentication = self._authentication
        kind = Kind.BOUND if is_bound else Kind.KNOWN if has_record or self._has_left(key, now) else Kind.UNKNOWN
        if kind is Kind.UNKNOWN and nonce is not None and authentication is not None:
            kind = Kind.KNOWN if authentication.is_ours(nonce, now, address) else kind
        units = CHALLENGED_UNITS if nonce is None and authentication is not None else 1.0
        return _Asking(key, address, kind, units)

    def _verdict(self, asking: _Asking, now: float,
                 admits: Callable[[bytes, float], bool] = lambda source, now: True) -> int | None:
        load, book = self.load, self.appointments
        standing, seconds = book.standing(asking.name, now)
        if standing is Standing.DUE:
            return None
        if standing is Standing.EARLY:
            admits(asking.source, now)
            self.refused["early"] += 1
            return seconds
        room = load.rate / SLOTS_PER_SECOND
        is_in_time = not load.is_late or load.latency <= PATIENCE[asking.kind] * self._config.target_seconds
        # Whoever is let in takes of the room; but known devices do not have to wait for some.
        if is_in_time and (book.has_room(asking.units, room, now) or asking.kind is not Kind.UNKNOWN):
            return None
        self.refused[asking.kind.value] += 1
        if admits(asking.source, now):  # who sends too much shall not take the times of others
            booked = book.book(asking.name, asking.units, room * self._config.appointments, now)
            if booked is not None:
                return booked
        self.unbooked += 1
        most = self._config.max_retry_seconds
        return round(uniform(most / 2, most))

    # --- how it begins and ends

    def bound_first(self, count: int = 1) -> None:
        """Count first bindings."""
        now = self._now()
        if self._herd.bound(now, self.load.rate, count) and self._config.enabled:
            self._spread()
            self._watch()

    def _changed(self, is_shedding: bool) -> None:
        load, target = self.load, self._config.target_seconds
        if is_shedding:
            self._began_at = self._now()
            self._log.warn("REGISTERs are turned away: answers take {seconds:.2f} s, avalanche.target_seconds is "
                           "{target}; {rate:.0f} in a second can be answered", seconds=load.latency, target=target,
                           rate=load.rate)
            self._watch()
        else:
            book = self.appointments
            self._log.info("no REGISTER is turned away any more, after {seconds:.1f} s; since the start {refused}; "
                           "appointments: {booked} made, {kept} kept, {missed} missed; {rate:.0f} in a second can be "
                           "answered", seconds=self._now() - self._began_at,
                           refused=", ".join(f"{kind} {count}" for kind, count in self.refused.items()),
                           booked=book.booked, kept=book.kept, missed=book.missed, rate=load.rate)
        for tell in self.on_change:
            tell(is_shedding)

    def _watch(self) -> None:
        if not self._is_looking:
            self._is_looking = True
            self._later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._is_looking = False
        now, was = self._now(), self.load.rate
        self.load.look(now)
        self.appointments.forget(now)
        if self.load.rate > was:
            self.appointments.look_again()
        if self._herd.look(now):
            self._spread()
        if self.load.is_shedding or self._herd.is_here or len(self.appointments):
            self._watch()

    def _spread(self) -> None:
        for tell in self.on_jitter:
            tell(self._herd.jitter)


def watch_shedding(metrics: Metrics, shedding: Shedding) -> None:
    """Export what can be done, how long it takes, and who has to come again."""
    load, book = shedding.load, shedding.appointments
    metrics.gauge("rollcall_avalanche_rate", "REGISTERs a second that this process can take, as far as is known.", (),
                  lambda: load.rate)
    metrics.gauge("rollcall_avalanche_wait_seconds", "The shortest wait for an answer in the latest tenth of a second "
                  "in which there was one, without what stores take by themselves.", (), shedding.wait_seconds)
    metrics.gauge("rollcall_avalanche_shedding", "1 while REGISTERs are turned away.", (),
                  lambda: int(load.is_shedding))
    metrics.total("rollcall_avalanche_refused_total", "REGISTERs turned away, by who sent them.", ("kind",),
                  lambda: {(kind,): float(count) for kind, count in shedding.refused.items()})
    metrics.total("rollcall_avalanche_appointments_total", "Times given to who was turned away, by what came of them.",
                  ("outcome",), lambda: {("booked",): float(book.booked), ("kept",): float(book.kept),
                                         ("missed",): float(book.missed), ("no_room",): float(shedding.unbooked)})
    metrics.gauge("rollcall_avalanche_waited_for", "Who was turned away and is still to come again.", (),
                  lambda: shedding.waited_for)
