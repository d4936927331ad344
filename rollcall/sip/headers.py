"""Header field values that SIP elements must read: Via, addresses, CSeq, times, credentials (RFC 3261 §20, §25)."""

import re
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal

import attrs

from rollcall.sip.errors import ParseError
from rollcall.sip.grammar import (
    TOKEN_CHARS,
    first_comma,
    format_params,
    is_token,
    parse_params,
    quote,
    split_commas,
    unquote,
)
from rollcall.sip.uri import MAX_PORT
from rollcall.sip.values import frozen

if TYPE_CHECKING:
    from rollcall.sip.fields import Message

__all__ = [
    "MAX_DELTA_SECONDS",
    "STAR",
    "AuthHeader",
    "CSeq",
    "Contacts",
    "NameAddr",
    "Star",
    "Via",
    "check_name_addr",
    "delta_seconds",
    "first_comma",
    "option_tags",
    "parse_authorization",
    "parse_contacts",
    "parse_cseq",
    "parse_max_forwards",
    "parse_name_addr",
    "parse_params",
    "parse_qvalue",
    "parse_via",
    "quote",
    "split_commas",
    "unquote",
]

MAX_DELTA_SECONDS = 2**32 - 1
MAX_CSEQ = 2**31 - 1  # §8.1.1.5
MAX_FORWARDS = 255  # §20.22

_HOST = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*+)|\[[0-9A-Fa-f:.]++\]"
_VIA = re.compile(
    rf"[ \t]*+([{TOKEN_CHARS}]++)[ \t]*+/[ \t]*+([{TOKEN_CHARS}]++)[ \t]*+/[ \t]*+([{TOKEN_CHARS}]++)"
    rf"[ \t]++({_HOST})[ \t]*+(?>(?::[ \t]*+0*([0-9]{{1,5}})[ \t]*+)?)(?=;|\Z)"
)

# A display name is a quoted string or tokens. Beyond §25.1, letters of any language may stand unquoted,
# as many phones write them. There may be no space before "<" (§20.10).
_NAME_ADDR = re.compile(
    r'[ \t]*+(?:("(?>(?:[^"\\]++|\\.)*)")[ \t]*+|'
    rf"([{TOKEN_CHARS} \t\x80-\U0010ffff]*+))"
    r'<([A-Za-z][A-Za-z0-9+.-]*+:[^\x00-\x20\x7f<>"]++)>[ \t]*+',
    re.DOTALL,
)
# "If the URI contains a comma, question mark or semicolon, the URI MUST be enclosed in angle brackets" (§20).
_ADDR_SPEC = re.compile(r'[ \t]*+([A-Za-z][A-Za-z0-9+.-]*+:[^\x00-\x20\x7f<>",;?]++)[ \t]*+(?=;|\Z)')

_CSEQ = re.compile(rf"0*([0-9]{{1,10}})[ \t]++([{TOKEN_CHARS}]++)")
_QVALUE = re.compile(r"0(?:\.([0-9]{0,3}))?|1(?:\.0{0,3})?")
_AUTH_SCHEME = re.compile(rf"([{TOKEN_CHARS}]++)(?:[ \t]++|\Z)")
_AUTH_PARAM = re.compile(
    rf"[ \t]*+([{TOKEN_CHARS}]++)[ \t]*+=[ \t]*+"
    r'("(?>(?:[^"\\]++|\\.)*)"|[^\x00-\x20\x7f",]++)[ \t]*+(?:,|\Z)',
    re.DOTALL,
)
_AUTH_NAMES = frozenset({
    "username", "realm", "nonce", "uri", "response", "algorithm", "cnonce", "qop", "nc", "opaque", "stale", "domain",
})
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*")


@attrs.define
class Via:
    """One value of Via (§20.42). `host` keeps the brackets of IPv6; the names of `params` are in lower case."""

    transport: str
    host: str
    port: int | None = None
    params: dict[str, str | None] = attrs.Factory(dict)
    protocol: str = "SIP/2.0"

    @property
    def branch(self) -> str | None:
        return self.params.get("branch")

    @property
    def sent_by(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.protocol}/{self.transport} {self.sent_by}{format_params(self.params)}"


def parse_via(text: str) -> Via:
    """Return one Via value, e.g. "SIP/2.0/UDP [::1]:5060;rport" (§20.42). Raises ParseError when it is malformed."""
    found = _VIA.match(text)
    if found is None:
        raise ParseError("malformed Via")
    name, version, transport, host, port = found.groups()
    number = None if port is None else int(port)
    if number is not None and number > MAX_PORT:
        raise ParseError("port out of range in Via")
    return Via(transport.upper(), host, number, parse_params(text[found.end() :]), f"{name.upper()}/{version}")


@frozen
class NameAddr:
    """The value of To, From, Contact, Route, …: `display` unquoted, `uri` and the values of `params` raw (§20.10)."""

    display: str
    uri: str
    params: dict[str, str | None] = attrs.Factory(dict)

    @property
    def tag(self) -> str | None:
        return self.params.get("tag")

    def __str__(self) -> str:
        display = f"{quote(self.display)} " if self.display else ""
        return f"{display}<{self.uri}>{format_params(self.params)}"


def parse_name_addr(text: str) -> NameAddr:
    """Return one address with its header parameters.

    Without <> every parameter belongs to the header, not to the URI (§20.10). The URI has a scheme
    and no blank; more of it is not looked at. Raises ParseError when the value is malformed.
    """
    found = _NAME_ADDR.match(text)
    if found is None:
        return _parse_addr_spec(text)
    quoted, tokens, uri = found.groups()
    display = unquote(quoted) if quoted is not None else tokens.strip(" \t")
    return NameAddr(display, uri, parse_params(text[found.end() :]))


def check_name_addr(text: str) -> None:
    """Raise ParseError where `parse_name_addr` would; for those who need no more, in half the time."""
    found = _NAME_ADDR.match(text) or _ADDR_SPEC.match(text)
    if found is None:
        raise ParseError("malformed address")
    if found.end() != len(text):
        parse_params(text[found.end() :])


def _parse_addr_spec(text: str) -> NameAddr:
    found = _ADDR_SPEC.match(text)
    if found is None:
        raise ParseError("malformed address")
    return NameAddr("", found[1], parse_params(text[found.end() :]))


class Star(Enum):
    """The Contact value "*", which stands for every binding (§10.2.2)."""

    STAR = "*"


STAR: Final = Star.STAR
Contacts = tuple[NameAddr, ...] | Literal[Star.STAR]


def parse_contacts(message: "Message") -> Contacts:
    """Return every Contact of a message in order, or STAR. Raises ParseError for a "*" among others."""
    values = message.values("contact")
    if "*" in values:
        if len(values) > 1:
            raise ParseError("Contact * beside other contacts")
        return STAR
    return tuple([parse_name_addr(value) for value in values])


@frozen
class CSeq:
    """The number of a request and its method (§20.16)."""

    number: int
    method: str

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


def parse_cseq(text: str) -> CSeq:
    """Return a CSeq. Raises ParseError when malformed or when its number is not below 2**31 (§8.1.1.5)."""
    found = _CSEQ.fullmatch(text)
    if found is None:
        raise ParseError("malformed CSeq")
    number = int(found[1])
    if number > MAX_CSEQ:
        raise ParseError("CSeq out of range")
    return CSeq(number, found[2])


def parse_max_forwards(text: str) -> int:
    """Return the value of Max-Forwards, at most 255 (§20.22). Raises ParseError when it is no number."""
    return _bounded(text, MAX_FORWARDS, "malformed Max-Forwards")


def delta_seconds(text: str) -> int:
    """Return a number of seconds; more than 2**32-1 counts as that (§20.19). Raises ParseError when it is none."""
    return _bounded(text, MAX_DELTA_SECONDS, "malformed number of seconds")


def _bounded(text: str, most: int, complaint: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ParseError(complaint)
    digits = text.lstrip("0")
    # int() of a thousand digits costs time, and of more than 4,300 raises.
    return min(int(digits or "0"), most) if len(digits) <= 10 else most


def parse_qvalue(text: str) -> int:
    """Return a q value in thousandths, 0 to 1000 (§25.1). Raises ParseError when it is none."""
    found = _QVALUE.fullmatch(text)
    if found is None:
        raise ParseError("malformed q value")
    if text[0] == "1":
        return 1000
    return int((found[1] or "").ljust(3, "0"))


def option_tags(message: "Message", name: str) -> frozenset[str]:
    """Return the option tags of Require, Supported, … in lower case (§19.2). Raises ParseError on other things."""
    tags = [tag.lower() for tag in message.values(name) if tag]
    for tag in tags:
        if not is_token(tag):
            raise ParseError("malformed option tag")
    return frozenset(tags)


@frozen
class AuthHeader:
    """Credentials or a challenge: the scheme as received, parameters unquoted with names in lower case."""

    scheme: str
    params: dict[str, str]


def parse_authorization(text: str) -> AuthHeader:
    """Return the value of Authorization, WWW-Authenticate, … (§25.1, RFC 7235 §2.1).

    Credentials without names (Basic, Negotiate) give no parameters, and a comma too many at the end is
    forgiven. Raises ParseError when the value is malformed or a parameter comes twice.
    """
    scheme = _AUTH_SCHEME.match(text)
    if scheme is None:
        raise ParseError("malformed credentials")
    rest = text[scheme.end() :]
    if not rest or _TOKEN68.fullmatch(rest):
        return AuthHeader(scheme[1], {})
    params = _plain_auth_params(rest)
    return AuthHeader(scheme[1], _auth_params(rest) if params is None else params)


def _plain_auth_params(text: str) -> dict[str, str] | None:
    """Return the parameters of credentials as nearly everybody writes them; None for the least oddity."""
    if "\\" in text:
        return None
    params: dict[str, str] = {}
    pieces = text.split(",")
    for piece in pieces:
        name, _, value = piece.lstrip(" ").partition("=")
        if name not in _AUTH_NAMES:
            return None
        if value[:1] == '"':
            if value.find('"', 1) != len(value) - 1:
                return None
            params[name] = value[1:-1]
        elif is_token(value):
            params[name] = value
        else:
            return None
    return params if len(params) == len(pieces) else None


def _auth_params(text: str) -> dict[str, str]:
    params: dict[str, str] = {}
    place, end = 0, len(text)
    while place < end:
        found = _AUTH_PARAM.match(text, place)
        if found is None:
            raise ParseError("malformed credentials")
        name = found[1].lower()
        if name in params:
            raise ParseError("credentials with a parameter given twice")
        params[name] = unquote(found[2])
        place = found.end()
    return params
