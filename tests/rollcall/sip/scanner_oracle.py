"""What the whole parser and its readers find in a message, to hold what the scanner says against."""

from collections.abc import Iterable, Iterator
from hashlib import md5
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address

from registrar.reading import read_register
from registrar.records import Source
from rollcall.net.flow import pack_address
from rollcall.sip import plain_scanner
from rollcall.sip.digest import expected_response, parse_credentials
from rollcall.sip.errors import ParseError
from rollcall.sip.forwarding import stamp_source
from rollcall.sip.framing import FramingError, FramingLimits, StreamFramer
from rollcall.sip.grammar import format_params
from rollcall.sip.headers import Via, option_tags, parse_name_addr, parse_via
from rollcall.sip.message import Request, check_request, parse_message, split_head
from rollcall.sip.replies import response_to
from rollcall.sip.scanner import GRUU, OUTBOUND, PATH, UsualRegister
from rollcall.sip.uri import SipUri, parse_uri

# Also where the rest of the run takes the twins.
compiled_scanner = None if find_spec("rollcall.sip._scanner") is None else import_module("rollcall.sip._scanner")

ATTRIBUTES = (
    "end", "has_length", "request_uri", "user", "host", "call_id", "cseq", "user_agent", "contact", "params", "expires",
    "identity", "is_plain", "supported", "transaction_key", "wants_rport", "via_host", "via_port", "has_credentials",
    "username", "realm", "nonce", "uri", "response", "nc", "count", "cnonce",
)
ONCE = ("Via", "From", "To", "Call-ID", "CSeq", "Contact")
AT_MOST_ONCE = ("Expires", "Max-Forwards", "User-Agent", "Authorization", "Supported")
NEVER = ("Require", "Proxy-Require", "Path", "Route", "Record-Route")
HOSTS = ("192.0.2.7", "10.0.0.1", "2001:db8::7", "::ffff:10.0.0.1")
PORT = 40001
STATUS = b"SIP/2.0 200 OK"
TAG = "a1b2"
HA1 = b"939e7578ed9e3c518a452acee763bce9"
REST = (("Contact", "<sip:a@b>;expires=5"), ("Date", "Sat, 21 Nov 2026 06:00:00 GMT"))
REST_BYTES = "".join(f"{name}: {value}\r\n" for name, value in REST).encode() + b"Content-Length: 0\r\n\r\n"
SECONDS = (0, 7, 3600, 4294967295)
OPTIONS = {"path": PATH, "outbound": OUTBOUND, "gruu": GRUU}


def said(register: UsualRegister) -> dict[str, object]:
    """Return all that a register says, its responses included."""
    found = {name: getattr(register, name) for name in ATTRIBUTES}
    addresses = [pack_address(host, PORT) for host in _peers(register.via_host.decode())]
    found["replies"] = [register.reply(STATUS, TAG.encode(), address, REST_BYTES) for address in addresses]
    found["accepted"] = [register.accept(TAG.encode(), addresses[0], seconds, REST_BYTES) for seconds in SECONDS]
    found["same_as"] = list(_recognised(register))
    found["speaks_for"] = [bool(register.speaks_for(realm)) for realm in (register.realm, b"", b"x" + register.realm)]
    found["proof"] = _md5(register.proof(HA1, _md5(b"REGISTER:" + register.uri))) if register.has_credentials else b""
    return found


def _md5(data: bytes) -> bytes:
    return md5(data, usedforsecurity=False).hexdigest().encode()


def _recognised(register: UsualRegister) -> Iterator[int]:
    """Yield where its identity ends in records that have it at 3, and -1 for each record that has another."""
    identity = register.identity
    yield register.same_as(b"abc" + identity, 3)
    yield register.same_as(b"abc" + identity + b"\0" + b"7", 3)
    for other in (identity[:-1], b"x" + identity, identity.replace(b"\0", b"\1", 1), identity[1:], b""):
        yield register.same_as(b"abc" + other, 3)
    yield register.same_as(identity, len(identity) + 1)
    for place in {0, len(register.contact), identity.rindex(b"\0"), len(identity) - 1}:
        yield register.same_as(identity[:place] + bytes([identity[place] ^ 1]) + identity[place + 1 :], 0)


def _peers(via_host: str) -> list[str]:
    """Return hosts that a request may come from, the one in its Via among them if that is an address."""
    try:
        return [*HOSTS, ip_address(via_host.strip("[]")).compressed]
    except ValueError:
        return [*HOSTS]


def differences(data: bytes, start: int = 0) -> list[str]:
    """Return what the twin, the compiled scanner and the whole parser do not agree about."""
    twin = plain_scanner.scan_register(data, start)
    found = [] if compiled_scanner is None else list(_unlike(compiled_scanner.scan_register(data, start), twin))
    found += _heads(data[start:])
    if twin is not None:
        try:
            found += _compared(said(twin), expected(data[start:], start, twin.is_plain))
        except ParseError as problem:
            found.append(f"usual, but {problem.status} {problem.reason}")
    return found


def _unlike(one: UsualRegister | None, twin: UsualRegister | None) -> Iterator[str]:
    if one is None or twin is None:
        if one is not twin:
            yield f"usual only for {'the twin' if one is None else 'the compiled scanner'}"
    else:
        yield from _compared(said(one), said(twin))


def _compared(ours: dict[str, object], theirs: dict[str, object]) -> Iterator[str]:
    for name, value in ours.items():
        if name in theirs and (value != theirs[name] or type(value) is not type(theirs[name])):
            yield f"{name}: {value!r}, but {theirs[name]!r}"


def expected(data: bytes, start: int, is_plain: bool) -> dict[str, object]:
    """Return what is to be said of the REGISTER that `data` begins with. Raises ParseError when it is none."""
    request = parse_message(data)
    via = check_request(request) if isinstance(request, Request) else None
    if not isinstance(request, Request) or via is None or request.method != "REGISTER" or request.body:
        raise ParseError("no REGISTER without a body")
    _check_counts(request)
    end = _end(data)
    found: dict[str, object] = {
        "end": start + (len(data) if end is None else end),
        "has_length": end is not None,
        "request_uri": _bytes(request.uri),
        "call_id": _bytes(request.get("Call-ID")),
        "user_agent": _bytes(request.get("User-Agent")),
        "supported": sum(OPTIONS.get(tag, 0) for tag in option_tags(request, "Supported")),
    }
    found |= _address(request) | _via(request, via) | _wish(request, is_plain) | _credentials(request)
    found["replies"] = [_reply(request, host, REST) for host in _peers(via.host)]
    if "contact" in found:
        contact, params = _text(found["contact"]), _text(found["params"])
        bound = [(("Contact", f"<{contact}>;expires={seconds}{params}"), *REST) for seconds in SECONDS]
        found["accepted"] = [_reply(request, _peers(via.host)[0], headers) for headers in bound]
        end = 3 + len(f"{contact}{params}{request.get('Call-ID')}") + 2
        found["same_as"] = [end, end, *[-1] * (6 + len({0, len(contact), end - 4, len(contact + params) + 1}))]
    return found


def _bytes(text: str | None) -> bytes:
    return (text or "").encode("utf-8", "surrogateescape")


def _text(found: object) -> str:
    assert isinstance(found, bytes)
    return found.decode("ascii")


def _check_counts(request: Request) -> None:
    for names, least, most in ((ONCE, 1, 1), (AT_MOST_ONCE, 0, 1), (NEVER, 0, 0)):
        for name in names:
            if not least <= len(request.get_all(name)) <= most:
                raise ParseError(f"{len(request.get_all(name))} {name}")


def _end(data: bytes) -> int | None:
    """Return where a stream would cut the message off; None when it could not."""
    try:
        message = StreamFramer(FramingLimits()).receive_data(data)[0]
    except FramingError as error:
        if error.completed:
            message = error.completed[0]
        elif error.reason == "no Content-Length":
            return None
        else:
            raise
    if not isinstance(message, bytes):
        raise ParseError("a keepalive")
    return len(message)


def _address(request: Request) -> dict[str, object]:
    target, to = parse_uri(request.uri), parse_name_addr(request.get("To") or "")
    aor = parse_uri(to.uri)
    if not (isinstance(target, SipUri) and isinstance(aor, SipUri)) or target.user is not None or to.params:
        raise ParseError("addresses that are not plain")
    if (aor.scheme, aor.host, aor.port) != (target.scheme, target.host, target.port) or target.scheme != "sip":
        raise ParseError("To of another domain")
    if aor.aor() != f"sip:{aor.user}@{aor.host}":
        raise ParseError("another address-of-record than it says")
    return {"user": _bytes(aor.user), "host": _bytes(aor.host)}


def _via(request: Request, via: Via) -> dict[str, object]:
    if len(request.values("Via")) != 1 or via.params.get("rport") is not None:
        raise ParseError("Via that is not plain")
    return {
        "transaction_key": f"{via.branch} {via.sent_by.lower()} REGISTER",
        "wants_rport": "rport" in via.params,
        "via_host": _bytes(via.host),
        "via_port": via.port or 0,
    }


def _wish(request: Request, is_plain: bool) -> dict[str, object]:
    source = Source("UDP", "192.0.2.7", PORT, "udp", "node", 1)
    try:
        wish = read_register(request, "sip:nobody@nowhere.invalid", source)
    except ParseError as problem:
        if problem.reason.startswith("reg-id") and not is_plain:
            return {}
        raise
    (contact,) = wish.contacts
    if wish.star or contact.q != 1000 or contact.secure or not contact.routable:
        raise ParseError("a contact that is not plain")
    asked = wish.expires if contact.expires is None else contact.expires
    params = _bytes(format_params(dict(contact.params)))
    names = {name for name, _ in contact.params}
    return {
        "cseq": wish.cseq,
        "contact": _bytes(contact.uri),
        "params": params,
        "expires": -1 if asked is None else asked,
        "identity": b"\0".join([_bytes(contact.uri), params, _bytes(wish.call_id)]),
        "is_plain": names.isdisjoint({"+sip.instance", "reg-id"}),
    }


def _credentials(request: Request) -> dict[str, object]:
    value = request.get("Authorization")
    if value is None:
        empty = ("username", "realm", "nonce", "uri", "response", "nc", "cnonce")
        nobody: dict[str, object] = {"has_credentials": False, "count": 0, "speaks_for": [False] * 3, "proof": b""}
        return nobody | dict.fromkeys(empty, b"")
    found = parse_credentials(value)
    if found is None or found.algorithm != "MD5" or found.qop != "auth":
        raise ParseError("credentials that are not usual")
    aor = parse_uri(parse_name_addr(request.get("To") or "").uri)
    own = isinstance(aor, SipUri) and found.username == aor.user and found.uri == request.uri
    return {
        "has_credentials": True, "username": _bytes(found.username), "realm": _bytes(found.realm),
        "nonce": _bytes(found.nonce), "uri": _bytes(found.uri), "response": _bytes(found.response),
        "nc": _bytes(found.nc), "count": found.count, "cnonce": _bytes(found.cnonce),
        "speaks_for": [own, False, False],
        "proof": expected_response(found, "REGISTER", HA1.decode()).encode(),
    }


def _reply(request: Request, host: str, headers: Iterable[tuple[str, str]]) -> bytes:
    copy = request.copy()
    stamp_source(copy, parse_via(copy.first_value("Via") or ""), host, PORT)
    return response_to(copy, 200, None, TAG, headers).serialise()


def _heads(data: bytes) -> Iterator[str]:
    """Yield where the compiled splitting of heads differs from the parser's own."""
    if compiled_scanner is None:
        return
    ours = compiled_scanner.split_fields(data)
    if ours is None:
        return
    try:
        theirs = split_head(data)
    except ParseError as problem:
        yield f"head split, but {problem.status} {problem.reason}"
        return
    if ours != theirs:
        yield f"head: {ours!r}, but {theirs!r}"
