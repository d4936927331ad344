"""Globally routable user agent URIs (RFC 5627): URIs of ours that lead to one phone among those of a subscriber.

A public GRUU is the address-of-record with the phone's instance in its `gr` parameter (appendix A.1). A temporary GRUU
hides both in its user part, encrypted, so that nothing has to be stored per GRUU and any node with the key can read
it. Its plain text, before padding, is

    8 random bytes | generation, 6 bytes | length of the user, 2 bytes | user | kind of instance, 1 byte | instance

encrypted by AES-SIV (RFC 5297), which also proves that we made it for this domain. The random bytes make two GRUUs of
one phone look unrelated, and the padding hides the length of what is inside, as §5.1 asks. The generation is that
of the phone's bindings: a changed Call-ID begins a new one, which ends the GRUUs of the old (§5.1).
"""

import os
import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha512
from hmac import digest
from urllib.parse import quote
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from registrar.records import Binding
from rollcall.sip.uri import SipUri
from rollcall.sip.values import frozen

TEMPORARY_PREFIX = "tgruu."

BLOCK_BYTES = 64
"""The hidden text is padded to a multiple of this: the first block has room for a UUID and a user of 31 bytes."""

_DISTINGUISHER_BYTES = 8
_GENERATION_BYTES = 6
_LENGTH_BYTES = 2

_UUID_URN = re.compile("urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_AS_TEXT, _AS_UUID = b"\0", b"\1"

_PLAIN_IN_PARAMETER = "-_.!~*'()[]/:&+$"
"""What a URI parameter's value holds unescaped beside letters and digits (RFC 3261 §25.1)."""


class NoSuchGruu(LookupError):
    """A URI looks like a GRUU of ours, but it is none, or no longer: 404 (Not Found)."""


@frozen
class Gruu:
    """What one of our GRUUs stands for."""

    aor: str
    instance: str
    generation: int | None
    """None for a public GRUU, which is valid as long as its address-of-record (RFC 5627 §5.4)."""

    def contacts(self, bindings: Iterable[Binding], now: float) -> tuple[Binding, ...]:
        """Return the phone's live bindings, the most recently registered first (RFC 5627 §6.1).

        None at all means 480 (Temporarily Unavailable). Raises NoSuchGruu when a temporary GRUU has ended.
        """
        live = [binding for binding in bindings if binding.instance == self.instance and binding.expires_at > now]
        if self.generation is not None and all(binding.generation != self.generation for binding in live):
            raise NoSuchGruu("the temporary GRUU has ended")
        return tuple(sorted(live, key=lambda binding: -binding.refreshed_at))


class GruuMaker:
    """Makes and reads GRUUs with a ring of secrets: the first one makes them, all of them read."""

    def __init__(self, secrets: Sequence[bytes], random: Callable[[int], bytes] = os.urandom) -> None:
        if not secrets or min(map(len, secrets)) < 16:
            raise ValueError("GRUUs need at least one secret, and each of at least 16 bytes")
        # Another purpose, another key: the same secret may serve elsewhere.
        self._ciphers = [AESSIV(digest(secret, b"temporary GRUU", sha512)) for secret in secrets]
        self._random = random

    def public(self, aor: str, instance: str, secure: bool = False) -> str:
        """Return the public GRUU, a sips URI when `secure` (RFC 5630 §5.2.1)."""
        value = quote(instance, safe=_PLAIN_IN_PARAMETER, errors="surrogateescape")
        return f"{_scheme(secure)}{aor[4:]};gr={value}"

    def temporary(self, aor: str, instance: str, generation: int, secure: bool = False) -> str:
        """Return a temporary GRUU that was never made before."""
        user, _, host = aor[4:].rpartition("@")
        name = _encode(user)
        text = b"".join((
            self._random(_DISTINGUISHER_BYTES), generation.to_bytes(_GENERATION_BYTES, "big"),
            len(name).to_bytes(_LENGTH_BYTES, "big"), name, _packed(instance),
        ))
        text += bytes(-len(text) % BLOCK_BYTES)
        token = urlsafe_b64encode(self._ciphers[0].encrypt(text, [_encode(host)])).rstrip(b"=").decode()
        return f"{_scheme(secure)}{TEMPORARY_PREFIX}{token}@{host};gr"

    def is_gruu(self, uri: SipUri) -> bool:
        """Tell whether `uri` claims to be a GRUU, which makes it ours to resolve in a domain of ours."""
        return uri.param("gr") is not None

    def resolve(self, uri: SipUri, domain: str) -> Gruu:
        """Return what a URI in our `domain` (by its canonical name) stands for. Raises NoSuchGruu.

        Whether a public GRUU's address-of-record exists is not known here.
        """
        value = uri.param("gr")
        if value:
            user = uri.aor()[4:].rpartition("@")[0]
            return Gruu(f"sip:{user}@{domain}", canonical_instance(value), None)
        if uri.user is None or not uri.user.startswith(TEMPORARY_PREFIX):
            raise NoSuchGruu("neither a public nor a temporary GRUU")
        return _gruu_in(self._decrypt(uri.user[len(TEMPORARY_PREFIX):], domain), domain)

    def _decrypt(self, token: str, domain: str) -> bytes:
        try:
            sealed = b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise NoSuchGruu("malformed temporary GRUU") from None
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(sealed, [_encode(domain)])
            except InvalidTag:
                continue
        raise NoSuchGruu("not a temporary GRUU of ours")


def canonical_instance(urn: str) -> str:
    """Return an instance's URN in the spelling by which it is compared (RFC 2141 §5, RFC 4122 §3, RFC 5626 §4.1)."""
    head = urn[:9].lower()
    if head == "urn:uuid:":
        return urn.lower()
    if head.startswith("urn:"):
        namespace, colon, name = urn[4:].partition(":")
        return f"urn:{namespace.lower()}{colon}{name}"
    return urn


def _scheme(secure: bool) -> str:
    return "sips:" if secure else "sip:"


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _gruu_in(text: bytes, domain: str) -> Gruu:
    generation = text[_DISTINGUISHER_BYTES:][:_GENERATION_BYTES]
    rest = text[_DISTINGUISHER_BYTES + _GENERATION_BYTES:]
    user_end = _LENGTH_BYTES + int.from_bytes(rest[:_LENGTH_BYTES], "big")
    user = rest[_LENGTH_BYTES:user_end].decode("utf-8", "surrogateescape")
    return Gruu(f"sip:{user}@{domain}", _unpacked(rest[user_end:]), int.from_bytes(generation, "big"))


def _packed(instance: str) -> bytes:
    if _UUID_URN.fullmatch(instance):
        return _AS_UUID + bytes.fromhex(instance[9:].replace("-", ""))
    return _AS_TEXT + _encode(instance)


def _unpacked(data: bytes) -> str:
    """Undo `_packed`; `data` ends with padding."""
    if data[:1] == _AS_UUID:
        return UUID(bytes=data[1:17]).urn
    return data[1:].rstrip(b"\0").decode("utf-8", "surrogateescape")
