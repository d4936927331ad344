"""What a proxy does to a message on its way, without state: Via, Route, Record-Route, Max-Forwards, loops.

RFC 3261 §§16.3, 16.6, 18.2, RFC 3581 §4, RFC 5393 §4.2.
"""

from collections.abc import Callable, Iterable
from hashlib import md5
from ipaddress import ip_address

from rollcall.sip.chance import random_name
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import Via, parse_max_forwards, parse_name_addr, parse_via
from rollcall.sip.message import Request
from rollcall.sip.uri import SipUri, parse_uri

MAGIC_COOKIE = "z9hG4bK"
DEFAULT_MAX_FORWARDS = 70
DEFAULT_PORTS = {"UDP": 5060, "TCP": 5060, "TLS": 5061, "WS": 80, "WSS": 443}


def stamp_source(request: Request, via: Via, host: str, port: int) -> None:
    """Write where `request` came from into `via`, which is its topmost one (RFC 3261 §18.2.1, RFC 3581 §4)."""
    wants_port = "rport" in via.params
    if not wants_port and same_host(via.host, host):
        return
    # RFC 3581 §4: with rport, received is added even when it equals the sent-by host.
    via.params["received"] = host
    if wants_port:
        via.params["rport"] = str(port)
    request.replace_first_value("Via", str(via))


def answer_port(via: Via, host: str, port: int) -> int:
    """Return the port at `host` that a datagram answer goes to, for a request that came from `host`:`port`.

    RFC 3261 §18.2.2 names the sent-by port unless rport was asked for. A phone behind a NAT knows
    no port of use; its sent-by differs from its source, and it is answered where it spoke from.
    """
    if "rport" in via.params or not same_host(via.host, host):
        return port
    return via.port or DEFAULT_PORTS["UDP"]


def same_host(sent_by: str, address: str) -> bool:
    """Say whether a sent-by host (IPv6 in brackets) is the IP `address`."""
    if sent_by == address:
        return True
    try:
        return ip_address(sent_by.strip("[]")) == ip_address(address)
    except ValueError:
        return False


def loop_mark(request: Request, routes: Iterable[str] = ()) -> str:
    """Return 8 hex digits over what decides the way of `request` (RFC 5393 §4.2.1: never over the method)."""
    number = (request.get("CSeq") or "").split()[:1]
    parts = [request.uri, request.get("Call-ID") or "", *number, *routes, *request.get_all("Proxy-Require")]
    text = "\0".join(parts)
    return md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()[:8]


def new_branch(mark: str, worker: int = 0) -> str:
    """Return a branch whose last part is the loop `mark` (RFC 5393 §4.2.1), and whose first is a worker's number."""
    named = f"{worker}-" if worker else ""
    return f"{MAGIC_COOKIE}{named}{random_name()}.{mark}"


def worker_of(branch: str) -> int:
    """Return the number of the worker that made a branch; 0 when none did."""
    number, dash, _ = branch.removeprefix(MAGIC_COOKIE).partition("-")
    return int(number) if dash and number.isascii() and number.isdigit() and len(number) < 6 else 0


def has_looped(request: Request, mark: str, is_ours: Callable[[str], bool]) -> bool:
    """Say whether a Via that we wrote carries the same `mark` (RFC 5393 §4.2.2). Others' Vias are not judged."""
    for text in request.values("Via"):
        if mark not in text:
            continue
        try:
            via = parse_via(text)
        except ParseError:
            continue
        if is_ours(via.sent_by.lower()) and (via.branch or "").rpartition(".")[2] == mark:
            return True
    return False


def max_forwards(request: Request) -> int | None:
    """Return the hops left to `request`, or None when it does not say."""
    text = request.get("Max-Forwards")
    return None if text is None else parse_max_forwards(text)


def max_breadth(request: Request, most: int) -> int:
    """Return how many branches `request` may have at a time, at most `most` (RFC 5393 §5.3.3)."""
    text = request.get("Max-Breadth")
    if text is None:
        return most
    if not (text.isascii() and text.isdigit()):
        raise ParseError("Max-Breadth is not a number")
    return min(int(text), most) if len(text) < 10 else most


def spend_hop(request: Request) -> None:
    """Count one hop down; one that does not say gets 70 (RFC 3261 §16.6 step 3)."""
    left = max_forwards(request)
    request.set("Max-Forwards", str(DEFAULT_MAX_FORWARDS if left is None else left - 1))


def is_loose(route: str) -> bool:
    """Say whether the Route value `route` asks for loose routing."""
    uri = parse_uri(parse_name_addr(route).uri)
    return isinstance(uri, SipUri) and uri.param("lr") is not None


def take_own_routes(request: Request, is_ours: Callable[[SipUri], bool]) -> list[SipUri]:
    """Remove the Route values at the top that name us and return them, topmost first (RFC 3261 §16.4).

    A strict router put our own Record-Route value in the Request-URI: then the last Route is the
    real one. Raises ParseError (400) when a Route is malformed.
    """
    routes = request.values("Route")
    taken: list[SipUri] = []
    target = parse_uri(request.uri)
    if routes and isinstance(target, SipUri) and target.param("lr") is not None and is_ours(target):
        taken.append(target)
        request.uri = parse_name_addr(routes.pop()).uri
    count = 0
    for text in routes:
        uri = parse_uri(parse_name_addr(text).uri)
        if not (isinstance(uri, SipUri) and is_ours(uri)):
            break
        taken.append(uri)
        count += 1
    if taken:
        request.set_values("Route", routes[count:])
    return taken


def push_routes(request: Request, routes: Iterable[str]) -> None:
    """Put `routes` before the Route values there are (RFC 3261 §16.6 step 6)."""
    values = [*routes, *request.values("Route")]
    if values:
        request.set_values("Route", values)


def make_strict(request: Request) -> bool:
    """Rewrite `request` for a next hop that is a strict router, and say whether it was one (§16.6 step 6)."""
    routes = request.values("Route")
    if not routes or is_loose(routes[0]):
        return False
    request.set_values("Route", [*routes[1:], f"<{request.uri}>"])
    request.uri = parse_name_addr(routes[0]).uri
    return True


def record_route(token: str, host: str, transport: str, secure_uri: bool) -> str:
    """Return a Record-Route value naming us at `host` ("name:port"), reached over `transport`, with `token`."""
    return f"<{own_uri(token, host, transport, secure_uri)};lr>"


def own_uri(user: str, host: str, transport: str, secure_uri: bool) -> str:
    """Return a URI naming us at `host` ("name:port"), reached over `transport`."""
    if transport == "UDP" or (secure_uri and transport == "TLS"):
        named = ""  # RFC 3261 §26.2.2: sips says TLS by itself
    else:
        named = f";transport={'ws' if transport == 'WSS' else transport.lower()}"
    return f"{'sips' if secure_uri else 'sip'}:{user}@{host}{named}"
