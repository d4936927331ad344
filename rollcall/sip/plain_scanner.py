"""The scanner in Python (RFC 3261 §7, §10.2, §20, §25.1): the twin of _scanner.pyx, of one mind with it on any input.

`usual` has the patterns; `scanner.UsualRegister` says what is found.
"""

import re
from functools import lru_cache
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, inet_ntop

import attrs

from rollcall.sip.errors import ParseError
from rollcall.sip.uri import MAX_PORT, MAX_REMEMBERED_CHARS, SipUri, parse_often
from rollcall.sip.usual import (
    AUTHORIZATION,
    BAD_ESCAPE,
    CALL_ID,
    CALL_ID_VALUE,
    CONTACT,
    CONTACT_PARAM,
    CONTACT_PARAMS,
    CONTACT_VALUE,
    CONTROLS,
    CREDENTIALS,
    CSEQ,
    CSEQ_VALUE,
    DIGITS,
    EXPIRES,
    FEW_DIGITS,
    FROM,
    FROM_VALUE,
    HOPS,
    IGNORED,
    KINDS,
    LENGTH,
    MANDATORY,
    MAX_CSEQ,
    MAX_HEAD_BYTES,
    MAX_HOPS,
    MAX_LINES,
    MAX_PARAMS,
    MAX_SECONDS,
    OPTION_TAGS,
    OPTIONS,
    PLAIN_CONTACT,
    REPORTED_OTHERWISE,
    REQUEST_LINE,
    SUPPORTED,
    TO,
    TO_VALUE,
    UNUSUAL,
    URI,
    USER_AGENT,
    VIA,
    VIA_VALUE,
    ZERO,
    kind_of,
)

_NEEDED = 8
_IPV4_ADDRESS_BYTES = 6
_NO_CREDENTIALS = (b"",) * 7

Copied = tuple[int, bytes, bytes]


@attrs.define(eq=False)
class PlainRegister:
    """A usual REGISTER; see `scanner.UsualRegister`."""

    end: int
    message: bytes
    has_length: bool
    request_uri: bytes
    user: bytes
    host: bytes
    call_id: bytes
    cseq: int
    user_agent: bytes
    contact: bytes
    params: bytes
    is_plain: bool
    expires: int
    supported: int
    _via: re.Match[bytes]
    _credentials: tuple[bytes, ...]
    _copied: list[Copied]

    @property
    def identity(self) -> bytes:
        return b"%s\0%s\0%s" % (self.contact, self.params, self.call_id)

    @property
    def transaction_key(self) -> str:
        via = self._via
        sent_by = via[1] if via[2] is None else b"%s:%s" % (via[1], via[2])
        return (b"%s %s REGISTER" % (via[4], sent_by.lower())).decode("ascii")

    @property
    def wants_rport(self) -> bool:
        return self._via[5] is not None

    @property
    def via_host(self) -> bytes:
        return self._via[1]

    @property
    def via_port(self) -> int:
        return int(self._via[2] or 0)

    @property
    def has_credentials(self) -> bool:
        return self._credentials is not _NO_CREDENTIALS

    @property
    def username(self) -> bytes:
        return self._credentials[0]

    @property
    def realm(self) -> bytes:
        return self._credentials[1]

    @property
    def nonce(self) -> bytes:
        return self._credentials[2]

    @property
    def uri(self) -> bytes:
        return self._credentials[3]

    @property
    def response(self) -> bytes:
        return self._credentials[4].lower()

    @property
    def cnonce(self) -> bytes:
        return self._credentials[5]

    @property
    def nc(self) -> bytes:
        return self._credentials[6]

    @property
    def count(self) -> int:
        return int(self._credentials[6] or b"0", 16)

    def reply(self, status_line: bytes, tag: bytes, address: bytes, rest: bytes) -> bytes:
        port = int.from_bytes(address[:2])
        host = inet_ntop(AF_INET if len(address) == _IPV4_ADDRESS_BYTES else AF_INET6, address[2:]).encode()
        lines = [status_line]
        for kind, name, value in self._copied:
            if kind == VIA:
                value = self._stamped(value, host, port)
            elif kind == TO:
                value = b"%s;tag=%s" % (value, tag)
            lines.append(b"%s: %s" % (name, value))
        lines.append(rest)
        return b"\r\n".join(lines)

    def accept(self, tag: bytes, address: bytes, seconds: int, rest: bytes) -> bytes:
        contact = b"Contact: <%b>;expires=%d%b\r\n%b" % (self.contact, seconds, self.params, rest)
        return self.reply(b"SIP/2.0 200 OK", tag, address, contact)

    def speaks_for(self, realm: bytes) -> bool:
        return (self.username, self.realm, self.uri) == (self.user, realm, self.request_uri)

    def proof(self, ha1: bytes, ha2: bytes) -> bytes:
        if not self.has_credentials:
            raise ValueError("no credentials")
        return b"%b:%b:%b:%b:auth:%b" % (ha1, self.nonce, self.nc, self.cnonce, ha2)

    def same_as(self, record: bytes, start: int) -> int:
        identity = self.identity
        return start + len(identity) if record.startswith(identity, start) else -1

    def _stamped(self, value: bytes, host: bytes, port: int) -> bytes:
        """Return the Via with where the request came from (§18.2.1, RFC 3581 §4)."""
        if self.wants_rport:
            place = self._via.end(5)
            return b"%s=%d%s;received=%s" % (value[:place], port, value[place:], host)
        return value if is_same_host(self.via_host, host) else b"%s;received=%s" % (value, host)


class _Unusual(Exception):
    """What is read is not usual."""


def scan_register(data: bytes, start: int = 0, /) -> PlainRegister | None:
    """Return the usual REGISTER that begins at `start`; see `scanner.Scan`."""
    try:
        return _scan(data, start)
    except _Unusual:
        return None


def _scan(data: bytes, start: int) -> PlainRegister:
    lines = _lines(data, start)
    request_uri, host = _target(lines[0])
    values, copied = _sort(lines)
    end = start + sum(map(len, lines)) + 2 * len(lines) + 2
    if end != len(data) and LENGTH not in values:
        raise _Unusual
    _check_numbers(values)
    via = _via(values[VIA])
    _match(FROM_VALUE, values[FROM])
    uri, params, expires, is_plain = _contact(values[CONTACT])
    if expires < 0 and EXPIRES in values:
        expires = int(values[EXPIRES])
    return PlainRegister(
        end=end,
        message=data[start:end],
        has_length=LENGTH in values,
        request_uri=request_uri,
        user=_user(values[TO], request_uri),
        host=host,
        call_id=_match(CALL_ID_VALUE, values[CALL_ID])[0],
        cseq=_at_most(MAX_CSEQ, _match(CSEQ_VALUE, values[CSEQ])[1]),
        user_agent=values.get(USER_AGENT, b""),
        contact=uri,
        params=params,
        is_plain=is_plain,
        expires=expires,
        supported=_supported(values.get(SUPPORTED, b"")),
        via=via,
        credentials=_credentials(values[AUTHORIZATION]) if AUTHORIZATION in values else _NO_CREDENTIALS,
        copied=copied,
    )


def _match(pattern: re.Pattern[bytes], text: bytes) -> re.Match[bytes]:
    found = pattern.fullmatch(text)
    if found is None:
        raise _Unusual
    return found


def _at_most(most: int, digits: bytes) -> int:
    number = int(digits)
    if number > most:
        raise _Unusual
    return number


def _lines(data: bytes, start: int) -> list[bytes]:
    """Return the lines up to the empty one, none of which holds what is unusual in any line."""
    if start < 0 or not data.startswith(b"REGISTER sip:", start):
        raise _Unusual
    end = data.find(b"\r\n\r\n", start, start + MAX_HEAD_BYTES)
    if end < 0:
        raise _Unusual
    head = data[start:end]
    lines = head.split(b"\r\n")
    line_ends = 2 * len(lines) - 2
    if len(lines) > MAX_LINES or len(head.translate(None, CONTROLS)) + line_ends != len(head):
        raise _Unusual
    return lines


def _sort(lines: list[bytes]) -> tuple[dict[int, bytes], list[Copied]]:
    """Return the value of each kind of header, none of which comes twice, and the lines that a response copies."""
    values: dict[int, bytes] = {}
    copied = []
    known = KINDS.get
    for place in range(1, len(lines)):
        name, colon, value = lines[place].partition(b":")
        kind = known(name)
        if kind is None:
            name = name.rstrip(b" \t")
            kind = kind_of(name)
        if kind == UNUSUAL or kind in values or not colon:
            raise _Unusual
        if kind == IGNORED:
            continue
        value = values[kind] = value.strip(b" \t")
        if kind <= CSEQ:
            copied.append((kind, name, value))
    if not values.keys() >= MANDATORY:
        raise _Unusual
    return values, copied


def _check_numbers(values: dict[int, bytes]) -> None:
    """Check the numbers that need not be there."""
    if LENGTH in values:
        _match(ZERO, values[LENGTH])
    if HOPS in values:
        _at_most(MAX_HOPS, _match(FEW_DIGITS, values[HOPS])[0])
    if EXPIRES in values:
        _at_most(MAX_SECONDS, _match(DIGITS, values[EXPIRES])[0])


def _target(line: bytes) -> tuple[bytes, bytes]:
    """Return the Request-URI and its host in lower case, which for IPv6 must be its canonical form (RFC 5952)."""
    return _read_target(line) if len(line) <= MAX_REMEMBERED_CHARS else _read_target.__wrapped__(line)


@lru_cache(maxsize=1024)
def _read_target(line: bytes) -> tuple[bytes, bytes]:
    uri, host, port = _match(REQUEST_LINE, line).groups()
    _check_port(port)
    host = host.lower()
    if host.startswith(b"[") and canonical_ipv6(host) != host:
        raise _Unusual
    return uri, host


def canonical_ipv6(host: bytes) -> bytes | None:
    """Return an IPv6 address in its brackets as RFC 5952 writes it; None when it is none."""
    try:
        uri = parse_often(f"sip:{host.decode('ascii')}")
    except ParseError:
        return None
    return uri.host.encode("ascii") if isinstance(uri, SipUri) else None


def _check_port(text: bytes | None) -> None:
    if text is not None:
        _at_most(MAX_PORT, text)


def _user(to: bytes, request_uri: bytes) -> bytes:
    """Return the user of To, whose host and port are those of the Request-URI."""
    user, place, bare_user, bare_place = _match(TO_VALUE, to).groups()
    if (place or bare_place).lower() != request_uri[len(b"sip:") :].lower():
        raise _Unusual
    return user or bare_user


def _via(text: bytes) -> re.Match[bytes]:
    via = _match(VIA_VALUE, text)
    _check_port(via[2])
    branch, rport, alias = via.group(4, 5, 6)
    if branch is None or via[3].count(b";") != 1 + (rport is not None) + (alias is not None):
        raise _Unusual
    return via


def _contact(text: bytes) -> tuple[bytes, bytes, int, bool]:
    """Return the URI, the parameters but expires, the seconds of that or -1, and whether they make no instance."""
    plain = PLAIN_CONTACT.fullmatch(text)
    if plain is not None:
        uri, port, seconds, params = plain.groups()
        _check_port(port)
        if not params:
            return uri, b"", int(seconds or -1), True
    else:
        uri, params, bare_uri = _match(CONTACT_VALUE, text).groups()
        uri = uri or bare_uri
        _check_uri(uri)
    return uri, *_params(params or b"")


def _params(text: bytes) -> tuple[bytes, int, bool]:
    """Return the parameters of Contact but expires, the seconds of that or -1, and whether they make no instance."""
    _match(CONTACT_PARAMS, text)
    pairs = CONTACT_PARAM.findall(text)
    names = [name for name, _ in pairs]
    _check_names(names)
    if not REPORTED_OTHERWISE.isdisjoint(names):
        raise _Unusual
    is_plain = b"reg-id" not in names and b"+sip.instance" not in names
    if b"expires" not in names:
        return text, -1, is_plain
    if names[-1] == b"expires":
        value = pairs[-1][1]
        kept = text[: -len(b";expires" + value)]
    elif names[0] == b"expires":
        value = pairs[0][1]
        kept = text[len(b";expires" + value) :]
    else:
        raise _Unusual
    return kept, _at_most(MAX_SECONDS, _match(DIGITS, value[1:])[0]), is_plain


def _check_uri(uri: bytes) -> None:
    ipv6, port, params = _match(URI, uri).groups()
    _check_port(port)
    if ipv6 is not None and (b":::" in ipv6 or canonical_ipv6(ipv6) is None):
        raise _Unusual
    if b"%" in uri and BAD_ESCAPE.search(uri):
        raise _Unusual
    if params:
        names = [piece.partition(b"=")[0].lower() for piece in params.split(b";")[1:]]
        _check_names(names)
        if any(b"%" in name for name in names):
            raise _Unusual


def _check_names(names: list[bytes]) -> None:
    if len(names) > MAX_PARAMS or len(set(names)) != len(names):
        raise _Unusual


def _supported(text: bytes) -> int:
    return _read_options(text) if len(text) <= MAX_REMEMBERED_CHARS else _read_options.__wrapped__(text)


@lru_cache(maxsize=1024)
def _read_options(text: bytes) -> int:
    _match(OPTION_TAGS, text)
    return sum({OPTIONS.get(tag.strip(b" \t"), 0) for tag in text.lower().split(b",")})


def _credentials(text: bytes) -> tuple[bytes, ...]:
    """Return username, realm, nonce, uri, response, cnonce and nc."""
    values = _match(CREDENTIALS, text).groups()
    given = [value for value in values if value is not None]
    # Each "=" belongs to one of the values, or stands in one; a parameter that came before has one too many.
    if None in values[:_NEEDED] or text.count(b"=") != len(given) + b"".join(given).count(b"="):
        raise _Unusual
    return values[:7]


def is_same_host(sent_by: bytes, host: bytes) -> bool:
    """Do as `forwarding.same_host`, which stands on the parser, and so above this."""
    if sent_by == host:
        return True
    try:
        return ip_address(sent_by.strip(b"[]").decode("ascii")) == ip_address(host.decode("ascii"))
    except ValueError:
        return False
