"""What a binding is, what a REGISTER asks for, and what becomes of it: plain values without rules."""

import attrs
from attrs import field

from rollcall.ops.allowed import NotAllowed, at_least, between, each, matching
from rollcall.sip.values import frozen

Params = tuple[tuple[str, str | None], ...]
"""Header parameters as written: (name in lower case, raw value or None)."""


SCHEME = "sip:"


def record_key(aor: str) -> bytes:
    """Return what an address-of-record is filed under: "user@domain", in bytes, which cost less than text."""
    return aor[len(SCHEME):].encode("utf-8", "surrogateescape")


def aor_of_key(key: bytes) -> str:
    """Return the address-of-record that is filed under `key`."""
    return SCHEME + key.decode("utf-8", "surrogateescape")


@frozen
class Source:
    """Where a REGISTER came from: the flow, and the node that holds it."""

    transport: str
    """UDP, TCP, TLS, WS or WSS."""
    host: str
    port: int
    listener: str
    """Name of the listener that received it; a datagram goes back through the same one."""
    node: str
    epoch: int
    """Which life of the node: a flow does not outlive its process."""
    flow_id: int = 0
    """0 when there is no connection."""


@frozen
class Binding:
    """One contact of an address-of-record."""

    contact: str
    """The Contact URI as the phone wrote it."""
    params: Params
    """Contact parameters to report and to match (+sip.instance, reg-id, methods, …), raw, without expires and q."""
    q: int
    """Thousandths: 0..1000."""
    expires_at: float
    """Seconds since the epoch."""
    call_id: str
    cseq: int
    path: tuple[str, ...]
    """Path values, the topmost first (RFC 3327)."""
    instance: str | None
    """The instance URN in its canonical spelling, without angle brackets (RFC 5626 §4.1)."""
    reg_id: int | None
    """Set only when outbound rules apply to this binding (RFC 5626 §6)."""
    source: Source
    direct: bool
    """The phone itself is our peer: `source` is where it hears us."""
    connection_bound: bool
    """The binding lives as long as the connection `source.flow_id` of node `source.node` in life `source.epoch`."""
    user_agent: str
    registered_at: float
    """When this binding first came to be."""
    refreshed_at: float
    """When it was last registered: of an instance's contacts the latest is tried first (RFC 5627 §6.1)."""
    generation: int
    """Which temporary GRUUs of the instance are valid (RFC 5627 §5.1); 0 without an instance."""


@frozen
class NewContact:
    """One Contact value of a REGISTER."""

    uri: str
    params: Params
    q: int
    expires: int | None
    """What its expires parameter asks for in seconds; None when there is none."""
    instance: str | None
    reg_id: int | None
    routable: bool = True
    """Its scheme is sip or sips."""
    secure: bool = False
    """Its scheme is sips."""
    loops: bool = False
    """It has an instance, and is the address-of-record itself or a GRUU of it."""


@frozen
class Register:
    """What a REGISTER asks for."""

    aor: str
    contacts: tuple[NewContact, ...]
    star: bool
    expires: int | None
    """The Expires header in seconds; None when there is none."""
    call_id: str
    cseq: int
    path: tuple[str, ...]
    supported: frozenset[str]
    user_agent: str
    source: Source
    direct: bool
    """It has a single Via: the phone itself is our peer."""
    secure: bool
    """Its Request-URI and all its Path values are sips URIs."""
    outbound_path: bool = False
    """The last Path value, which is that of the phone's first hop, has the `ob` parameter (RFC 5626 §5.1)."""


@frozen
class Stored:
    """The bindings to store and to report in the 200 (OK)."""

    bindings: tuple[Binding, ...]
    changed: bool
    """Whether `bindings` has to be saved; a fetch changes nothing."""
    removed: tuple[Binding, ...] = ()
    """Bindings that the request took away."""
    replaced: tuple[Binding, ...] = ()
    """Bindings whose place another took: the refreshed ones as they were, and those of an earlier life of the phone."""
    lapsed: tuple[Binding, ...] = ()
    """Bindings whose time was over before the request came."""
    outbound: bool = False
    """Outbound rules were applied: the answer requires `outbound` (RFC 5626 §6)."""


@frozen
class Refused:
    """The final answer when nothing is changed."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


# RFC 3608 §5: "such values MUST include the loose-routing indicator parameter ";lr"".
_LOOSE_ROUTE = matching(r"<sips?:[^\s<>,]+;lr(?:[;=][^\s<>,]*)?>", "a route such as <sip:proxy.example.com;lr>")


@attrs.frozen(kw_only=True)
class BindingConfig:
    """The registrar's policy on bindings."""

    max_expires_seconds: int = field(default=7200, validator=between(1, 2**32 - 1))
    """A longer wish is cut to this."""
    min_expires_seconds: int = field(default=60, validator=at_least(1))
    """A shorter wish is refused with 423, if it is below an hour (RFC 3261 §10.3 step 7)."""
    default_expires_seconds: int = field(default=3600, validator=at_least(1))
    """For a contact that names no time."""
    expiry_jitter: float = field(default=0.1, validator=between(0.0, 0.9))
    """A granted time is shortened by a random part up to this fraction, so that phones which came back together do not
    return together."""
    max_contacts: int = field(default=10, validator=at_least(1))
    """Bindings of one address-of-record. One more is refused with 403: a 503 would send the phone to our other nodes,
    which know the same bindings, and tell balancers that this node is ill."""
    one_contact_per_instance: bool = True
    """A phone that comes back with the same +sip.instance, another contact and no reg-id replaces its old contact. RFC
    5627 §6.1 knows these only as leftovers of a restart; False keeps them until they lapse."""
    require_path_support: bool = True
    """A Path from a phone that does not support it is refused with 420, as RFC 3327 §5.3 recommends."""
    require_outbound: bool = False
    """A phone must register with outbound (RFC 5626 §6); one that does not support it is told by 421."""
    flow_timer_seconds: int = field(default=120, validator=at_least(0))
    """Flow-Timer for outbound connections (RFC 5626 §5.4); 0 leaves it out."""
    service_route: tuple[str, ...] = field(default=(), validator=each(_LOOSE_ROUTE))
    """Service-Route values, topmost first (RFC 3608)."""

    def __attrs_post_init__(self) -> None:
        low, high = self.min_expires_seconds, self.max_expires_seconds
        if low > high:
            raise NotAllowed(f"at most max_expires_seconds ({high})", "min_expires_seconds", low)
        if not low <= self.default_expires_seconds <= high:
            allowed = f"from min_expires_seconds ({low}) to max_expires_seconds ({high})"
            raise NotAllowed(allowed, "default_expires_seconds", self.default_expires_seconds)
