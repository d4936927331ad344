"""SIP, SIPS and other URIs: parsing, comparison, the canonical address-of-record (RFC 3261 §19.1, RFC 5954)."""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import quote_from_bytes, unquote_to_bytes

from rollcall.sip.errors import ParseError
from rollcall.sip.names import canonical
from rollcall.sip.values import frozen

MAX_PORT = 65535
MAX_REMEMBERED_CHARS = 256

# RFC 3986 §3.2.2, which RFC 5954 §4.1 puts in the place of RFC 3261's rules for addresses.
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}(?![A-Za-z0-9._-])"
_IPV6 = r"\[[0-9A-Fa-f:.]{2,46}\]"
# More liberal than §25.1 in one thing: underscores, which real hosts have.
_NAME = r"(?:[A-Za-z0-9_-]++\.)*[A-Za-z_][A-Za-z0-9_-]*+\.?"

_UNRESERVED = r"\-A-Za-z0-9_.!~*'()"
# "#" must be escaped in a user part, yet phones dial *21# as it stands.
_USER = rf"[{_UNRESERVED}%&=+$,;?/#]"
_PASSWORD = rf"[{_UNRESERVED}%&=+$,]"
_PARAM = rf"[{_UNRESERVED}%\[\]/:&+$]"
_HEADER = rf"[{_UNRESERVED}%\[\]/?:+$&=]"

_SIP_URI = re.compile(
    rf"(sips?):(?:({_USER}++)(?::({_PASSWORD}*+))?@)?({_IPV4}|{_NAME}|{_IPV6})(?::0*([0-9]{{1,5}}))?"
    rf"((?>(?:;{_PARAM}++(?>(?:={_PARAM}*+)?))*))(?:\?({_HEADER}++))?",
    re.IGNORECASE | re.ASCII,
)
_OTHER_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*+):([!#-;=?-\[\]_a-z~]++)")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_PLAIN = re.compile(rf"[{_UNRESERVED}]")

# Parameters that never match a URI without them (RFC 3261 §19.1.4).
_DECISIVE_PARAMS = frozenset({"transport", "user", "ttl", "method", "maddr"})

Params = tuple[tuple[str, str | None], ...]


@frozen
class SipUri:
    """A sip: or sips: URI. `user`, `password`, `headers` and the values of `params` are kept escaped as received.

    `scheme`, `host` and the names of `params` are in lower case, an IPv6 host in the form of
    RFC 5952 within its brackets.
    """

    scheme: str
    user: str | None
    password: str | None
    host: str
    port: int | None
    params: Params = ()
    headers: str | None = None

    def __str__(self) -> str:
        text = f"{self.scheme}:"
        if self.user is not None:
            text += self.user if self.password is None else f"{self.user}:{self.password}"
            text += "@"
        text += self.host
        if self.port is not None:
            text += f":{self.port}"
        for name, value in self.params:
            text += f";{name}" if value is None else f";{name}={value}"
        return text if self.headers is None else f"{text}?{self.headers}"

    def param(self, name: str, default: str | None = None) -> str | None:
        """Return the unescaped value of a parameter, "" for one without value, `default` when there is none."""
        for key, value in self.params:
            if key == name:
                return "" if value is None else unescape(value)
        return default

    def without_params(self, *names: str) -> "SipUri":
        """Return this URI without the parameters of these names (in lower case)."""
        kept = tuple([param for param in self.params if param[0] not in names])
        return SipUri(self.scheme, self.user, self.password, self.host, self.port, kept, self.headers)

    def with_param(self, name: str, value: str | None = None) -> "SipUri":
        """Return this URI with one parameter set; `name` is in lower case, `value` escaped."""
        rest = self.without_params(name)
        return SipUri(
            rest.scheme, rest.user, rest.password, rest.host, rest.port, (*rest.params, (name, value)), rest.headers
        )

    def matches(self, other: "SipUri") -> bool:
        """Tell whether both are equivalent by RFC 3261 §19.1.4 and RFC 5954 §4.2. This is not transitive."""
        if self == other:
            return True
        return (
            self.scheme == other.scheme
            and self.host == other.host
            and self.port == other.port
            and _comparable(self.user) == _comparable(other.user)
            and _comparable(self.password) == _comparable(other.password)
            and _params_match(self.params, other.params)
            and _comparable_headers(self.headers) == _comparable_headers(other.headers)
        )

    def aor(self) -> str:
        """Return the canonical address-of-record, "sip:user@host" (RFC 3261 §10.3 step 5).

        The user is unescaped and then escaped no more than it must be; scheme, port, password,
        parameters, headers and a host's trailing dot make no difference.
        """
        host = self.host.rstrip(".")
        if self.user is None:
            return f"sip:{host}"
        user = self.user
        if "%" in user or "#" in user:
            user = quote_from_bytes(unquote_to_bytes(user), safe="!*'()&=+$,;?/")
        return f"sip:{user}@{host}"


@frozen
class OtherUri:
    """A URI of another scheme (tel:, urn:, http:, …): the scheme in lower case, and the rest as it came."""

    scheme: str
    rest: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"


def parse_uri(text: str) -> SipUri | OtherUri:
    """Return the URI in `text`, which holds nothing else. Raises ParseError (400) when it is malformed."""
    found = _SIP_URI.fullmatch(text)
    if found is None:
        return _parse_other_uri(text)
    scheme, user, password, host, port, params, headers = found.groups()
    if "%" in text and _BAD_ESCAPE.search(text):
        raise ParseError("malformed escape in URI")
    if port is not None and int(port) > MAX_PORT:
        raise ParseError("port out of range in URI")
    return SipUri(
        scheme.lower(),
        user,
        password,
        _canonical_ipv6(host) if host[0] == "[" else host.lower(),
        None if port is None else int(port),
        _parse_uri_params(params) if params else (),
        headers,
    )


def parse_often(text: str) -> SipUri | OtherUri:
    """Do as `parse_uri`, remembering a thousand: for Request-URIs, which are the same for every phone of a domain."""
    # Strangers choose them: a thousand of 60 kB would stay for good.
    return _remembered(text) if len(text) <= MAX_REMEMBERED_CHARS else parse_uri(text)


_remembered = lru_cache(maxsize=1024)(parse_uri)


def parse_sip_uri(text: str) -> SipUri:
    """Return the SIP or SIPS URI in `text`. Raises ParseError: 416 for another scheme, 400 when malformed."""
    uri = parse_uri(text)
    if isinstance(uri, OtherUri):
        raise ParseError("URI scheme not supported", 416)
    return uri


def unescape(text: str) -> str:
    """Return `text` with each %HH replaced by what it stands for, once. Bytes that are not UTF-8 become surrogates."""
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape") if "%" in text else text


def _parse_other_uri(text: str) -> OtherUri:
    found = _OTHER_URI.fullmatch(text)
    if found is None:
        raise ParseError("malformed URI")
    scheme = found[1].lower()
    if scheme in ("sip", "sips"):
        raise ParseError("malformed SIP URI")
    return OtherUri(scheme, found[2])


@lru_cache(maxsize=4096)
def _canonical_ipv6(host: str) -> str:
    # RFC 3261's grammar led people to write [2001:db8:::192.0.2.1]; RFC 5118 §4.10 asks to tolerate it.
    try:
        return f"[{IPv6Address(host[1:-1].replace(':::', '::')).compressed}]"
    except AddressValueError:
        raise ParseError("malformed IPv6 address in URI") from None


def _parse_uri_params(text: str) -> Params:
    params = []
    names = set()
    for piece in text.split(";")[1:]:
        name, equal, value = piece.partition("=")
        name = _comparable_text(name).lower()
        names.add(name)
        params.append((name, value if equal else None))
    if len(names) != len(params):
        raise ParseError("parameter given twice in URI")
    return tuple(params)


def _comparable(text: str | None) -> str | None:
    return None if text is None else _comparable_text(text)


def _comparable_text(text: str) -> str:
    """Undo the escapes that change nothing: those of characters outside RFC 2396's "reserved" set."""
    if "%" in text:
        text = _ESCAPE.sub(_normal_escape, text)
    return text.replace("#", "%23")


def _normal_escape(found: re.Match[str]) -> str:
    char = chr(int(found[1], 16))
    return char if _PLAIN.match(char) else found[0].upper()


def _params_match(ours: Params, theirs: Params) -> bool:
    if ours == theirs:
        return True
    left, right = dict(ours), dict(theirs)
    for name in left.keys() | right.keys():
        if name in left and name in right:
            if _folded(left[name]) != _folded(right[name]):
                return False
        elif name in _DECISIVE_PARAMS:
            return False
    return True


def _folded(value: str | None) -> str | None:
    return None if value is None else _comparable_text(value).lower()


def _comparable_headers(text: str | None) -> list[tuple[str, str]]:
    """Return the headers of a URI in one order. Values are compared exactly: to be too strict costs a binding."""
    if text is None:
        return []
    headers = []
    for piece in text.split("&"):
        name, _, value = piece.partition("=")
        headers.append((_header_key(unescape(name)), _comparable_text(value)))
    return sorted(headers)


def _header_key(name: str) -> str:
    try:
        return canonical(name)
    except ParseError:
        return name
