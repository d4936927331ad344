"""Where a request goes: pure decisions over its Request-URI, its Routes and the bindings of an AOR.

RFC 3261 §§16.4, 16.5, 16.7; RFC 5626 §7 (one flow per instance at a time); RFC 5627 §5.2.
"""

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeVar
from urllib.parse import quote_from_bytes

from attrs import field, frozen
from attrs.validators import ge, gt, in_

from registrar.records import Binding, Source
from rollcall.net.tokens import FlowName
from rollcall.sip.errors import ParseError
from rollcall.sip.message import Response
from rollcall.sip.uri import SipUri, parse_sip_uri, parse_uri

_EVERYBODY = IPv4Address("255.255.255.255")


@frozen(kw_only=True)
class ProxyConfig:
    """How requests are forwarded. All times in seconds."""

    timer_c_seconds: float = field(default=185.0, validator=gt(180.0))
    """RFC 3261 §16.6 step 11: how long a called phone may ring without a word."""
    ring_seconds: float = field(default=25.0, validator=gt(0.0))
    """How long contacts of one q value ring before those of the next lower are tried."""
    max_branches: int = field(default=16, validator=ge(1))
    """How many contacts one request is forked to at most (RFC 5393 §5: amplification)."""
    max_breadth: int = field(default=60, validator=ge(1))
    """How many branches a request may have at a time, here and at proxies further on (RFC 5393 §5.3)."""
    strangers: str = field(default="challenge", validator=in_(("challenge", "accept")))
    """What a caller who is no subscriber gets when calling a subscriber: "challenge" (407) or "accept".
    Whatever is set here, strangers are never relayed to other domains."""
    relay_subscribers: bool = True
    """Whether authenticated subscribers may call other domains (found by DNS, RFC 3263)."""


@frozen
class ServedDomain:
    """A domain that this registrar answers for, and other names that mean the same."""

    name: str
    aliases: tuple[str, ...] = ()


class Domains:
    """The names we answer to: served domains with their aliases, and the addresses of our listeners."""

    def __init__(self, served: Iterable[ServedDomain]) -> None:
        self._served: dict[str, str] = {}
        for domain in served:
            for name in (domain.name, *domain.aliases):
                self._served[spelling(name)] = spelling(domain.name)
        self._configured = dict(self._served)
        self.on_change: list[Callable[[], None]] = []
        """Called after other domains are served than before."""
        self._own_hosts: set[str] = set()
        self._own_ports: set[int] = set()

    @property
    def names(self) -> list[str]:
        """The canonical names of the domains we serve, those that were there from the beginning first."""
        return list(dict.fromkeys([*self._configured.values(), *self._served.values()]))

    def serve_also(self, names: Iterable[str]) -> None:
        """Serve these beside those that were there from the beginning, and no others any more.

        Raises ParseError when one cannot stand in a URI.
        """
        served = {**{name: name for name in map(spelling, names)}, **self._configured}
        if served != self._served:
            self._served = served
            for changed in self.on_change:
                changed()

    def answer_at(self, host: str, port: int) -> None:
        """Learn a host (IPv6 in brackets) and port that a listener of ours is reached by."""
        self._own_hosts.add(spelling(host))
        self._own_ports.add(port)

    def served(self, uri: SipUri) -> str | None:
        """Return the canonical domain of `uri` when we serve it.

        With an address in the place of a name, a port must be one of ours: a phone on the same host as
        its registrar has our address, with another port, in its contact.
        """
        return self._served.get(uri.host.rstrip(".")) if self._port_fits(uri) else None

    def is_ours(self, uri: SipUri) -> bool:
        """Say whether a Route or Request-URI names this node itself."""
        return self._port_fits(uri) and (uri.host.rstrip(".") in self._own_hosts or self.served(uri) is not None)

    def is_own_via(self, sent_by: str) -> bool:
        """Say whether a Via's sent-by ("host[:port]") is one that we write."""
        try:
            uri = parse_sip_uri(f"sip:{sent_by}")
        except ParseError:
            return False
        return uri.host in self._own_hosts and (uri.port is None or uri.port in self._own_ports)

    def _port_fits(self, uri: SipUri) -> bool:
        return uri.port is None or uri.port in self._own_ports or not _is_address(uri.host)


def aor_of(uri: SipUri, domain: str) -> str:
    """Return the address-of-record that `uri` names in `domain`, whichever alias of it was used."""
    return f"sip:{uri.aor()[4:].rpartition('@')[0]}@{domain}"


def aor_of_name(username: str, domain: str) -> str:
    """Return the address-of-record of the subscriber `username`, which is plain text."""
    escaped = quote_from_bytes(username.encode("utf-8", "surrogateescape"), safe="")
    return SipUri("sip", escaped, None, domain, None).aor()


def spelling(host: str) -> str:
    """Return `host` as it stands in a parsed URI, but for a trailing dot: lower case, IPv6 in brackets (RFC 5952)."""
    bracketed = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return parse_sip_uri(f"sip:{bracketed}").host.rstrip(".")


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


@frozen
class OverFlow:
    """Send on the connection that the binding was made over."""

    flow_id: int
    source: Source | None = field(default=None, eq=False)
    """Where that connection is; None for here."""


@frozen
class OverDatagrams:
    """Send from the listener that took the registration to where it came from."""

    listener: str
    host: str
    port: int


@frozen
class OverMember:
    """Send through the node that has the phone's connection, or the socket that the phone knows."""

    flow: FlowName
    face: str = ""
    """The "host:port" that the node's phones are told; empty when it is not known."""
    transport: str = ""
    """How the phone is connected."""


@frozen
class ByUri:
    """Find the next hop by RFC 3263, from `routes` when there are any, else from the contact."""

    routes: tuple[str, ...] = ()
    at: str = ""
    """The URI of a next hop that no field of the request names; empty: what the request says counts."""


Target = TypeVar("Target")

Hop = OverFlow | OverDatagrams | OverMember | ByUri


def next_hop(binding: Binding) -> Hop:
    """Return how to reach the phone behind `binding` (RFC 5626 §7, RFC 3327 §5.4).

    A phone that registered by UDP is answered where it spoke from when it asked for that (outbound) or when its
    contact's address is of no use to us, else at its contact, always from the socket that it knows.
    """
    if binding.path:
        return ByUri(binding.path)
    source = binding.source
    if binding.connection_bound:
        return OverFlow(source.flow_id, source)
    if not binding.direct or source.transport != "UDP":
        return ByUri()
    if binding.reg_id is not None:
        return OverDatagrams(source.listener, source.host, source.port)
    return _by_contact(binding.contact, source)


def _by_contact(contact: str, source: Source) -> Hop:
    uri = parse_uri(contact)
    if not isinstance(uri, SipUri) or uri.scheme == "sips":
        return ByUri()
    if uri.host.endswith(".invalid"):
        return OverDatagrams(source.listener, source.host, source.port)
    try:
        address, spoke_from = ip_address(uri.host.strip("[]")), ip_address(source.host)
    except ValueError:
        return ByUri()
    if address != spoke_from and (not address.is_global or address.is_multicast):
        # A private address behind a NAT, or nobody's.
        return OverDatagrams(source.listener, source.host, source.port)
    if (uri.param("transport") or "udp").lower() != "udp" or uri.param("maddr") is not None:
        return ByUri()
    if address.version != spoke_from.version:
        return ByUri()
    return OverDatagrams(source.listener, str(address), uri.port or 5060)


def may_reach(host: str, asked_from: str) -> bool:
    """Say whether what was asked for from one numeric address may be sent to another.

    Nothing goes to many at once, nor to the unspecified address, which is this machine itself. What listens on loopback
    or on this very link trusts whoever is there too: only who is there himself has us speak to it.
    """
    there, asker = _plain_address(host), _plain_address(asked_from)
    if there.is_unspecified or there.is_multicast or there == _EVERYBODY:
        return False
    return asker.is_loopback if there.is_loopback else asker.is_link_local or not there.is_link_local


def _plain_address(host: str) -> IPv4Address | IPv6Address:
    address = ip_address(host.strip("[]"))
    return getattr(address, "ipv4_mapped", None) or address


@frozen
class Candidate:
    """One phone to try: its best binding, and others of the same instance should that flow be dead."""

    binding: Binding
    alternates: tuple[Binding, ...] = ()


def target_groups(bindings: Sequence[Binding], now: float, max_branches: int,
                  secure_only: bool = False) -> list[list[Candidate]]:
    """Return the phones to ring, group after group, highest q first (RFC 3261 §16.6).

    Bindings of one instance make one candidate, newest first (RFC 5626 §7). `secure_only` keeps
    only those reached over TLS (RFC 3261 §26.2.2).
    """
    usable = [
        binding
        for binding in bindings
        if binding.expires_at > now
        and (not secure_only or _is_secure(binding))
        and binding.contact[:4].lower() in ("sip:", "sips")
    ]
    usable.sort(key=lambda binding: (-binding.q, -binding.refreshed_at))
    candidates: dict[object, list[Binding]] = {}
    for binding in usable:
        candidates.setdefault(binding.instance or (binding.contact, binding.call_id), []).append(binding)
    groups: dict[int, list[Candidate]] = {}
    for same in list(candidates.values())[:max_branches]:
        groups.setdefault(same[0].q, []).append(Candidate(same[0], tuple(same[1:])))
    return list(groups.values())


def _is_secure(binding: Binding) -> bool:
    if binding.path:
        return "<sips:" in binding.path[0].lower()
    return binding.source.transport in ("TLS", "WSS")


def within_breadth(groups: list[list[Target]], breadth: int) -> tuple[list[list[Target]], int]:
    """Return `groups` cut so that at most `breadth` are tried at a time, and the breadth that each of them may have.

    RFC 5393 §5.3.3: all branches of a request together, those of proxies further on included, are never more
    than what the first one allowed.
    """
    cut = [group[start : start + breadth] for group in groups for start in range(0, len(group), breadth)]
    return cut, breadth // max(map(len, cut))


# RFC 3261 §16.7 step 6: "preference to responses that provide information affecting resubmission".
INFORMATIVE = (401, 407, 415, 420, 484)
# A phone's own refusal says more than "nobody there".
UNINFORMATIVE = (408, 480, 430, 481, 487)


def best_response(responses: Sequence[Response]) -> Response | None:
    """Return the final response to forward out of those that branches gave (RFC 3261 §16.7 step 6)."""
    if not responses:
        return None
    sixth = [response for response in responses if response.status >= 600]
    if sixth:
        return sixth[0]
    # "a 503 … SHOULD NOT forward it upstream": it is chosen last and then answered as 500.
    lowest = min((response.status == 503, response.status // 100) for response in responses)
    same = [response for response in responses if (response.status == 503, response.status // 100) == lowest]
    return min(same, key=_informativeness)


def _informativeness(response: Response) -> int:
    if response.status in INFORMATIVE:
        return 0
    return 2 if response.status in UNINFORMATIVE else 1


def merge_challenges(best: Response, responses: Iterable[Response]) -> None:
    """Add the challenges of all other 401 and 407 to `best` when it is one of them (RFC 3261 §16.7 step 7)."""
    if best.status not in (401, 407):
        return
    for response in responses:
        if response is best or response.status not in (401, 407):
            continue
        for name in ("WWW-Authenticate", "Proxy-Authenticate"):
            for value in response.get_all(name):
                best.add(name, value)
