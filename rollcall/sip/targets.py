"""Where a request goes: transport, address and port of the servers for a URI, best first (RFC 3263, RFC 2782).

Pure: a search asks DNS questions and is told the answers, whoever fetches them.

    search = locate(uri, Preferences())
    questions = next(search)
    questions = search.send([answer to each question])
    … until StopIteration, whose value is the list of targets
"""

from collections.abc import Callable, Generator, Sequence
from ipaddress import ip_address
from random import SystemRandom

from attrs import frozen

from rollcall.sip.headers import Via
from rollcall.sip.uri import SipUri

# RFC 3261 §19.1.2, RFC 7118 §5.5
DEFAULT_PORTS = {"UDP": 5060, "TCP": 5060, "TLS": 5061, "WS": 80, "WSS": 443, "SCTP": 5060}
SECURE = frozenset(("TLS", "WSS"))

# The transport parameter of a sip: URI and of a sips: URI (RFC 3261 §26.2.2); browsers' libraries write "wss".
SIP_PARAMS = {"udp": "UDP", "tcp": "TCP", "tls": "TLS", "ws": "WS", "wss": "WSS"}
SIPS_PARAMS = {"tcp": "TLS", "tls": "TLS", "ws": "WSS", "wss": "WSS"}

# RFC 3263 §4.1, RFC 7118 §5.5
NAPTR_SERVICES = {"SIP+D2U": "UDP", "SIP+D2T": "TCP", "SIPS+D2T": "TLS", "SIP+D2W": "WS", "SIPS+D2W": "WSS"}
SRV_PREFIXES = {"UDP": "_sip._udp", "TCP": "_sip._tcp", "TLS": "_sips._tcp"}

# What somebody else's zone can make us try.
MAX_SERVERS = 8
MAX_TARGETS = 16


@frozen
class Target:
    """One place to try. `host` is numeric, without brackets; `server_name` is whom TLS has to find there."""

    transport: str
    host: str
    port: int
    server_name: str | None = None


@frozen
class Question:
    """A name and the kind of record wanted: "NAPTR", "SRV", "A" or "AAAA"."""

    name: str
    kind: str


@frozen
class Naptr:
    """One NAPTR record (RFC 2915 §2)."""

    order: int
    preference: int
    flags: str
    service: str
    regexp: str
    replacement: str


@frozen
class Srv:
    """One SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


Record = Naptr | Srv | str
"""An address is a str."""

Search = Generator[tuple[Question, ...], Sequence[Sequence[Record]], list[Target]]


@frozen(kw_only=True)
class Preferences:
    """What we can speak and like best."""

    transports: tuple[str, ...] = ("UDP", "TCP", "TLS")
    """Those that we can open, in the order in which they are tried when a domain does not say."""

    address_kinds: tuple[str, ...] = ("A", "AAAA")
    """Which addresses are asked for; the first are tried first."""

    choose: Callable[[int, int], int] = SystemRandom().randint
    """Returns a number from the first to the second, both included; for the weights of SRV."""


def locate(uri: SipUri, preferences: Preferences, large: bool = False) -> Search:
    """Search the servers for a request to `uri` (RFC 3263 §4).

    A `large` request would not fit a datagram: TCP is tried where otherwise UDP would be (RFC 3261 §18.1.1).
    """
    name = uri.param("maddr") or uri.host
    transport = _explicit_transport(uri)
    if transport == "" or (transport and transport not in preferences.transports):
        return []
    if large and transport is None:
        preferences = _without_datagrams(preferences)
    usual = _usual_transport(uri, preferences)
    if (address := _numeric(name)) is not None:
        found = [_target(transport or usual, address, uri.port, name)]
    elif uri.port is not None:
        found = yield from _by_address(name, transport or usual, uri.port, preferences)
    else:
        found = yield from _by_name(uri, name, transport, preferences)
    return _streams_first(found) if large and "TCP" in preferences.transports else found


def locate_response(via: Via, preferences: Preferences) -> Search:
    """Search where a response goes when the request's way back fails (RFC 3263 §5)."""
    transport, host, port = response_address(via)
    if (address := _numeric(host)) is not None:
        return [_target(transport, address, port, host)]
    if via.port is not None or transport not in SRV_PREFIXES:
        return (yield from _by_address(host, transport, port, preferences))
    return (yield from _by_services(host, [(transport, _srv_name(transport, host))], transport, preferences))


def response_address(via: Via) -> tuple[str, str, int]:
    """Return transport, host (IPv6 without brackets) and port for a response (RFC 3261 §18.2.2, RFC 3581 §4).

    For a reliable transport that is where to connect once the request's own connection is gone.
    """
    transport = via.transport.upper()
    received = via.params.get("received")
    port = via.port if via.port is not None else DEFAULT_PORTS.get(transport, 5060)
    host = received or via.host
    if transport == "UDP":
        if maddr := via.params.get("maddr"):
            host = maddr
        elif received and (rport := _port(via.params.get("rport"))):
            port = rport
    return transport, host.removeprefix("[").removesuffix("]"), port


def order_servers(records: Sequence[Srv], choose: Callable[[int, int], int]) -> list[Srv]:
    """Return SRV records in the order to try them: by priority, within it by weighted chance (RFC 2782)."""
    ordered: list[Srv] = []
    for priority in sorted({record.priority for record in records}):
        # "all those with weight 0 are placed at the beginning of the list"
        left = sorted((record for record in records if record.priority == priority), key=lambda each: each.weight > 0)
        while left:
            at = choose(0, sum(record.weight for record in left))
            for record in left:
                at -= record.weight
                if at <= 0:
                    break
            left.remove(record)
            ordered.append(record)
    return ordered


# --- the steps of RFC 3263 §4


def _by_name(uri: SipUri, name: str, transport: str | None, preferences: Preferences) -> Search:
    if transport is not None:
        services = [(transport, _srv_name(transport, name))] if transport in SRV_PREFIXES else []
        return (yield from _by_services(name, services, transport, preferences))
    (records,) = yield (Question(_plain(name), "NAPTR"),)
    services = _naptr_services(uri, records, preferences)
    if not services:
        services = [(each, _srv_name(each, name)) for each in _without_naptr(uri, preferences)]
    return (yield from _by_services(name, services, _usual_transport(uri, preferences), preferences))


def _by_services(name: str, services: Sequence[tuple[str, str]], usual: str, preferences: Preferences) -> Search:
    """Take the first service that has servers; the name's own addresses when no service is known at all."""
    known = False
    for transport, service in services:
        (records,) = yield (Question(service, "SRV"),)
        servers = [record for record in records if isinstance(record, Srv)]
        known = known or bool(servers)
        # A lone "." says that the service is decidedly not there (RFC 2782).
        servers = [server for server in servers if server.target.rstrip(".") and server.port]
        found = yield from _by_servers(name, transport, servers, preferences)
        if found:
            return found
    if known:
        return []
    return (yield from _by_address(name, usual, DEFAULT_PORTS[usual], preferences))


def _by_servers(name: str, transport: str, servers: Sequence[Srv], preferences: Preferences) -> Search:
    ordered = order_servers(servers, preferences.choose)[:MAX_SERVERS]
    kinds = preferences.address_kinds
    questions = tuple(Question(_plain(server.target), kind) for server in ordered for kind in kinds)
    if not questions:
        return []
    answers = yield questions
    owners = [server for server in ordered for _ in kinds]
    targets = [
        _target(transport, address, server.port, name)
        for server, records in zip(owners, answers, strict=True)
        for address in records
        if isinstance(address, str)
    ]
    return targets[:MAX_TARGETS]


def _by_address(name: str, transport: str, port: int, preferences: Preferences) -> Search:
    answers = yield tuple(Question(_plain(name), kind) for kind in preferences.address_kinds)
    addresses = [address for records in answers for address in records if isinstance(address, str)]
    return [_target(transport, address, port, name) for address in addresses[:MAX_TARGETS]]


def _naptr_services(uri: SipUri, records: Sequence[Record], preferences: Preferences) -> list[tuple[str, str]]:
    """Return transport and SRV name of each usable record, in order (RFC 3263 §4.1, RFC 2915 §8)."""
    usable = []
    for record in records:
        if not isinstance(record, Naptr) or record.flags.lower() != "s" or record.regexp:
            continue
        transport = NAPTR_SERVICES.get(record.service.upper())
        if transport in preferences.transports and (uri.scheme != "sips" or transport in SECURE):
            usable.append((record.order, record.preference, str(transport), _plain(record.replacement)))
    return [(transport, name) for _, _, transport, name in sorted(usable)]


def _without_naptr(uri: SipUri, preferences: Preferences) -> list[str]:
    """Return the transports whose SRV records are asked for when there is no NAPTR: "_sip" or "_sips" by scheme."""
    secure = uri.scheme == "sips"
    return [each for each in preferences.transports if each in SRV_PREFIXES and (each in SECURE) is secure]


# --- parts


def _explicit_transport(uri: SipUri) -> str | None:
    """Return the transport that the URI asks for; None when it asks for none, "" when for one that cannot be."""
    param = uri.param("transport")
    if not param:
        return None
    return (SIPS_PARAMS if uri.scheme == "sips" else SIP_PARAMS).get(param.lower(), "")


def _usual_transport(uri: SipUri, preferences: Preferences) -> str:
    """Return what is spoken where nothing says what (RFC 3263 §4.1)."""
    if uri.scheme == "sips":
        return "TLS"
    return "UDP" if "UDP" in preferences.transports else preferences.transports[0]


def _without_datagrams(preferences: Preferences) -> Preferences:
    reliable = tuple(each for each in preferences.transports if each != "UDP")
    return Preferences(
        transports=reliable or preferences.transports,
        address_kinds=preferences.address_kinds,
        choose=preferences.choose,
    )


def _streams_first(targets: list[Target]) -> list[Target]:
    """Put the same place over TCP before each UDP one, which stays for peers without TCP (RFC 3261 §18.1.1)."""
    ordered = []
    for target in targets:
        if target.transport == "UDP":
            ordered.append(Target("TCP", target.host, target.port))
        ordered.append(target)
    return ordered


def _target(transport: str, address: str, port: int | None, name: str) -> Target:
    server_name = _plain(name).removeprefix("[").removesuffix("]") if transport in SECURE else None
    return Target(transport, address, DEFAULT_PORTS[transport] if port is None else port, server_name)


def _srv_name(transport: str, name: str) -> str:
    return f"{SRV_PREFIXES[transport]}.{_plain(name)}"


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


def _numeric(host: str) -> str | None:
    bare = host.removeprefix("[").removesuffix("]")
    try:
        return str(ip_address(bare))
    except ValueError:
        return None


def _port(text: str | None) -> int | None:
    if text and text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536:
        return int(text[:6])
    return None
