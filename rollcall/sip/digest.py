"""Digest authentication: challenges, credentials and responses (RFC 7616, RFC 8760, RFC 3261 §22.4, RFC 2617 §3.2)."""

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from importlib import import_module

from rollcall.sip.errors import ParseError
from rollcall.sip.headers import parse_authorization, quote
from rollcall.sip.uri import MAX_REMEMBERED_CHARS, SipUri, parse_uri, unescape
from rollcall.sip.values import frozen

QOPS = ("auth", "auth-int")

# A2 of a REGISTER is the same for every phone of a domain.
_REMEMBERED_A2 = 1024

_VALUES = {
    **dict.fromkeys(("username", "realm", "nonce", "uri", "response", "cnonce", "opaque"), r'"([^"\\]*+)"'),
    "algorithm": "([A-Za-z0-9-]++)",
    "qop": '("[a-z-]++"|[a-z-]++)',
    "nc": "([0-9A-Fa-f]++)",
}
_NAMES = tuple(_VALUES)
_REQUIRED = _NAMES[:5]
_URI, _CNONCE = _NAMES.index("uri"), _NAMES.index("cnonce")

# Credentials as nearly every phone writes them: nothing escaped, nothing unknown.
_USUAL_PARAMS = "|".join(f"{name}={value}" for name, value in _VALUES.items())
_USUAL = re.compile(rf"[Dd]igest +(?>(?:(?:{_USUAL_PARAMS}) *+(?:, *+|\Z))+)")
_COUNT = re.compile(r"[0-9A-Fa-f]{1,8}")

Hash = Callable[[bytes], str]


try:
    # The same without OpenSSL, whose set-up for each costs more than the digest of so little.
    md5 = import_module("_md5").md5
except ImportError:  # a Python built without it
    md5 = partial(hashlib.md5, usedforsecurity=False)


def _md5(data: bytes) -> str:
    digest: str = md5(data).hexdigest()
    return digest


def _sha_256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sha_512_256(data: bytes) -> str:
    return hashlib.new("sha512_256", data).hexdigest()


_HASHES: dict[str, Hash] = {"MD5": _md5, "SHA-256": _sha_256, "SHA-512-256": _sha_512_256}

ALGORITHMS = tuple(_HASHES)
"""The names we can compute, as the registry of RFC 7616 §6.1 writes them; the "-sess" variants are not among them."""

HEX_DIGITS = {"MD5": 32, "SHA-256": 64, "SHA-512-256": 64}
"""How long a digest is in text (§3.2)."""


@frozen
class Credentials:
    """What a client sent to prove that it knows a password. Texts are unquoted."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    """In lower case. It is empty, as the nonce is, in a request that only names its user before any challenge."""
    algorithm: str
    """As in ALGORITHMS; one that is not known comes in upper case."""
    qop: str | None = None
    """None is the form of RFC 2069, without cnonce and count."""
    nc: str = ""
    """The count as it was written: the response is computed with this text."""
    cnonce: str = ""
    opaque: str | None = None

    @property
    def count(self) -> int:
        """The number of requests with this nonce, this one included; 0 without qop."""
        return int(self.nc, 16) if self.nc else 0


def ha1(algorithm: str, username: str, realm: str, password: str) -> str:
    """Return H(A1) in hexadecimal (RFC 7616 §3.4.2), which is all a server has to keep of a password."""
    return _HASHES[algorithm](_bytes(f"{username}:{realm}:{password}"))


def challenge(
    realm: str,
    nonce: str,
    algorithm: str,
    qop: Sequence[str] = ("auth",),
    stale: bool = False,
    opaque: str | None = None,
) -> str:
    """Return the value of one WWW-Authenticate or Proxy-Authenticate header.

    Several algorithms are offered by one header each, with the same realm, in order of preference (RFC 8760 §2.3).
    realm, nonce, opaque and qop are quoted; stale and algorithm MUST NOT be (RFC 7616 §3.3).
    """
    parts = [f"realm={quote(realm)}", f"nonce={quote(nonce)}", f"algorithm={algorithm}"]
    if qop:
        parts.append(f'qop="{",".join(qop)}"')
    if opaque is not None:
        parts.append(f"opaque={quote(opaque)}")
    if stale:
        parts.append("stale=true")
    return "Digest " + ", ".join(parts)


def parse_credentials(text: str) -> Credentials | None:
    """Return the value of an Authorization or Proxy-Authorization header, None when its scheme is not Digest.

    Parameters may be quoted or not, wherever a deployed phone may have it otherwise than §3.4. Raises ParseError when
    it is malformed, lacks something, or names its user in a form that was not offered: hashed, or by "username*".
    """
    usual = _USUAL.fullmatch(text)
    if usual is not None:
        values = usual.groups()
        # Each "=" belongs to one of the values, or stands in one; a parameter that came before has one too many.
        in_values = (values[_URI] or "").count("=") + (values[_CNONCE] or "").count("=")
        if text.count("=") == len(values) - values.count(None) + in_values:
            return _credentials(values)
    header = parse_authorization(text)
    if header.scheme.lower() != "digest":
        return None
    if "username*" in header.params:
        raise ParseError("credentials with username*, which is not understood here: send username in UTF-8")
    if header.params.get("userhash", "false").lower() != "false":
        raise ParseError("credentials with a hashed username, which was not offered")
    return _credentials(tuple(header.params.get(name) for name in _NAMES))


def expected_response(credentials: Credentials, method: str, ha1_hex: str, body: bytes = b"") -> str:
    """Return the response in hexadecimal that a client with this H(A1) computes (RFC 7616 §3.4.1, RFC 2617 §3.2.2.1).

    The algorithm must be one of ALGORITHMS.
    """
    own = credentials
    hashed = _HASHES[own.algorithm]
    if own.qop == "auth-int":
        ha2 = hashed(_bytes(f"{method}:{own.uri}:{hashed(body)}"))
    else:
        # Strangers choose the uri: a thousand of 60 kB would stay for good.
        compute = _ha2 if len(own.uri) <= MAX_REMEMBERED_CHARS else _ha2.__wrapped__
        ha2 = compute(own.algorithm, method, own.uri)
    if own.qop is None:
        return hashed(_bytes(f"{ha1_hex}:{own.nonce}:{ha2}"))
    return hashed(_bytes(f"{ha1_hex}:{own.nonce}:{own.nc}:{own.cnonce}:{own.qop}:{ha2}"))


def verify(credentials: Credentials, method: str, ha1_hex: str, body: bytes = b"") -> bool:
    """Say whether the response proves knowledge of H(A1). It takes as long for a wrong response as for a right one."""
    expected = expected_response(credentials, method, ha1_hex, body)
    # compare_digest takes ASCII text only, and what has anything else is no hexadecimal.
    return credentials.response.isascii() and hmac.compare_digest(expected, credentials.response)


def names_same_resource(uri: str, request_uri: str) -> bool:
    """Say whether the uri of credentials means the resource that is requested (RFC 7616 §3.4.6, RFC 3261 §22.4 item 6).

    Equal texts and equal URIs (RFC 3261 §19.1.4) do. So does the same user at the same host, whatever else one of the
    two says: phones leave out the port, or write a transport only here.
    """
    if uri == request_uri:
        return True
    try:
        ours, theirs = parse_uri(request_uri), parse_uri(uri)
    except ParseError:
        return False
    if not isinstance(ours, SipUri) or not isinstance(theirs, SipUri):
        return ours == theirs
    same_user = unescape(ours.user or "") == unescape(theirs.user or "")
    return same_user and ours.host == theirs.host and (ours.port == theirs.port or None in (ours.port, theirs.port))


def _credentials(values: tuple[str | None, ...]) -> Credentials:
    """Return the credentials with these values of _NAMES."""
    username, realm, nonce, uri, response, cnonce, opaque, algorithm, qop, nc = values
    if username is None or realm is None or nonce is None or uri is None or response is None:
        missing = [name for name, value in zip(_REQUIRED, values, strict=False) if value is None]
        raise ParseError("credentials without " + ", ".join(missing))
    algorithm = "MD5" if algorithm is None else algorithm.upper()
    if qop is None:
        # RFC 2617 §3.2.2: cnonce and nc MUST NOT be sent without qop; those of phones that do are not in the response.
        return Credentials(username, realm, nonce, uri, response.lower(), algorithm, None, "", "", opaque)
    qop = qop.strip('"').lower()
    if qop not in QOPS:
        raise ParseError("credentials with an unknown qop")
    if cnonce is None or nc is None or _COUNT.fullmatch(nc) is None:
        raise ParseError("credentials with qop, but without cnonce or with a malformed nc")
    return Credentials(username, realm, nonce, uri, response.lower(), algorithm, qop, nc, cnonce, opaque)


@lru_cache(_REMEMBERED_A2)
def _ha2(algorithm: str, method: str, uri: str) -> str:
    return _HASHES[algorithm](_bytes(f"{method}:{uri}"))


def _bytes(text: str) -> bytes:
    """Return the bytes that were received: a surrogate stands for a byte that was not UTF-8."""
    return text.encode("utf-8", "surrogateescape")
