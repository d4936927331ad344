"""How two nodes of a cluster prove to each other that they are ones, before any SIP is spoken. Pure: no sockets here.

    called  -> "rollcall-member/1" nonce
    caller  -> nonce name epoch wanted-name wanted-epoch proof
    called  -> name epoch proof

A node of another site is told which site calls and which one is meant, and need not be known by its name:

    caller  -> nonce name epoch wanted-name-or-nothing wanted-epoch site wanted-site proof

Each is one line with single spaces, ended by LF; nonces, names and proofs in base64url without padding. A proof is an
HMAC-SHA256 by the key that all nodes share, over a label for its direction and everything said before it: both nonces,
so that nothing said once is of use again; and both names, so that nobody is taken for another. Over TLS it covers what
is unique to the TLS connection as well (RFC 9266), so that nobody can stand between two nodes. The called node says who
it is only to a caller that has given its proof.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from secrets import token_bytes

from attrs import frozen

GREETING = b"rollcall-member/1"
CALLER_LABEL = b"rollcall member 1 caller"
CALLED_LABEL = b"rollcall member 1 called"

NONCE_BYTES = 32

MAX_LINE_BYTES = 1024
"""Room for two names of 253 bytes, the longest that a host can have, two of sites, and all else."""

MAX_EPOCH_DIGITS = 20

MAX_SITE_BYTES = 40

FIELDS = 6
"""Of what a caller says, within a site."""


@frozen
class Life:
    """One life of one node: `epoch` is another each time it starts."""

    node: str
    epoch: int
    site: str = ""
    """Where it is; empty for our own site. A node of another site is another node, whatever it is called."""

    def __str__(self) -> str:
        if self.site and not self.node:
            return f"of site {self.site}"
        return f"{self.node}, epoch {self.epoch}" + (f", of site {self.site}" if self.site else "")

    def is_before(self, other: Life) -> bool:
        """Whether `other` is a later life of the same node."""
        return (self.node, self.site) == (other.node, other.site) and self.epoch < other.epoch


def nobody_elsewhere(life: Life) -> str:
    """Admit no node of another site, for there is none."""
    return "this node knows of no other site"


@frozen
class Admission:
    """Who may come from, or be reached at, other sites."""

    site: str = ""
    """What our own site is called; empty when there is only one."""
    refuses: Callable[[Life], str] = nobody_elsewhere
    """Says why a node of another site, which has proven to be one, is not taken; empty: it is."""


class HandshakeFailed(Exception):
    """Who speaks there is not, or has not shown to be, the member that was expected; says why."""

    def __init__(self, why: str, reply: bytes = b"") -> None:
        """`reply` is what the called node still says."""
        super().__init__(why)
        self.reply = reply


class AnotherLife(HandshakeFailed):
    """A genuine member is there, but not the one, or not in the life, that the caller wanted."""

    def __init__(self, there: Life, reply: bytes = b"") -> None:
        super().__init__(f"there is {there}", reply)
        self.there = there


class Handshake:
    """One end's part: give it what comes, send what it returns, until `member` is known."""

    def __init__(self, key: bytes, me: Life, nonce: bytes | None = None, admission: Admission | None = None) -> None:
        """`nonce` is chosen at random unless a test says it. Without `admission` there is no other site."""
        self.member: Life | None = None
        """Who is at the other end, once that is proven."""
        self.rest = b""
        """What came after the handshake's last line."""
        self._key = key
        self._me = me
        self._admission = admission or Admission()
        self._nonce = nonce or token_bytes(NONCE_BYTES)
        self._channel = b""
        self._buffer = b""

    def begin(self, channel: bytes = b"") -> bytes:
        """Return what to send at first; `channel` is the same at both ends of this connection and of no other."""
        self._channel = channel
        return b""

    def receive_data(self, data: bytes) -> bytes:
        """Return what to send now. Raises HandshakeFailed: the connection is to be closed then."""
        self._buffer += data
        line, ended, rest = self._buffer.partition(b"\n")
        if len(line) > MAX_LINE_BYTES:
            raise HandshakeFailed("a line is too long")
        if not ended:
            return b""
        self._buffer = b""
        return self._line(line.split(b" "), rest)

    def _line(self, fields: list[bytes], rest: bytes) -> bytes:
        raise NotImplementedError

    def _proof(self, label: bytes, *said: bytes) -> bytes:
        parts = (label, self._channel, *said)
        return hmac.digest(self._key, b"".join(len(part).to_bytes(2, "big") + part for part in parts), "sha256")


class Calling(Handshake):
    """The part of who has opened the connection."""

    def __init__(self, key: bytes, me: Life, wanted: Life, nonce: bytes | None = None,
                 admission: Admission | None = None) -> None:
        """`wanted` is who should be there; without a name any node of that site, which has to be another one."""
        super().__init__(key, me, nonce, admission)
        self._wanted = wanted
        self._said: tuple[bytes, ...] = ()

    def _line(self, fields: list[bytes], rest: bytes) -> bytes:
        if not self._said:
            answer = self._answer(fields)
            if rest:
                raise HandshakeFailed("it says too much")
            return answer
        self._check(fields)
        self.rest = rest
        return b""

    def _answer(self, fields: list[bytes]) -> bytes:
        if len(fields) != 2 or fields[0] != GREETING:
            raise HandshakeFailed("no cluster member greets there")
        nonce = _decoded(fields[1])
        if len(nonce) != NONCE_BYTES:
            raise HandshakeFailed("its nonce is not of the right length")
        said: tuple[bytes, ...] = self._nonce, *_named(self._me), *_named(self._wanted)
        if self._wanted.site:
            said += self._admission.site.encode(), self._wanted.site.encode()
        self._said = nonce, *said
        return _spoken(*said, self._proof(CALLER_LABEL, *self._said))

    def _check(self, fields: list[bytes]) -> None:
        if len(fields) != 3:
            raise HandshakeFailed("it has not answered with a proof")
        name, epoch, proof = map(_decoded, fields)
        if not hmac.compare_digest(proof, self._proof(CALLED_LABEL, *self._said, name, epoch)):
            raise HandshakeFailed("its proof is wrong: it has another key, made from another secret")
        there = _life(name, epoch, self._wanted.site)
        if self._wanted.node and there != self._wanted:
            raise AnotherLife(there)
        _check_elsewhere(there, self._me, self._admission)
        self.member = there


class Called(Handshake):
    """The part of who was called."""

    def begin(self, channel: bytes = b"") -> bytes:
        """See Handshake."""
        super().begin(channel)
        return GREETING + b" " + _encoded(self._nonce) + b"\n"

    def _line(self, fields: list[bytes], rest: bytes) -> bytes:
        if len(fields) not in (FIELDS, FIELDS + 2) or rest:
            raise HandshakeFailed("it has not answered with a proof")
        *said, proof = map(_decoded, fields)
        if not hmac.compare_digest(proof, self._proof(CALLER_LABEL, self._nonce, *said)):
            raise HandshakeFailed("its proof is wrong: it has another key, made from another secret")
        _, name, epoch, wanted_name, wanted_epoch, *sites = said
        caller = _life(name, epoch, _site(sites[0]) if sites else "")
        me = _named(self._me)
        reply = _spoken(*me, self._proof(CALLED_LABEL, self._nonce, *said, *me))
        if sites:
            self._check_sites(caller, _site(sites[1]), reply)
        if caller.node == self._me.node:
            raise HandshakeFailed("it has our own name")
        if (wanted_name or not sites) and _life(wanted_name, wanted_epoch) != self._me:
            raise AnotherLife(self._me, reply)
        self.member = caller
        return reply

    def _check_sites(self, caller: Life, wanted: str, reply: bytes) -> None:
        if wanted != self._admission.site:
            raise HandshakeFailed(f"{caller} looks for site {wanted} here, and this is site {self._admission.site!r}")
        if caller.node == self._me.node:
            # Who hears from us what we are called knows as well what is wrong.
            raise HandshakeFailed(_same_name(caller), reply)
        _check_elsewhere(caller, self._me, self._admission)


def _same_name(there: Life) -> str:
    return f"{there} has the name of this node; nodes of all sites need different names"


def _check_elsewhere(there: Life, me: Life, admission: Admission) -> None:
    """Raise HandshakeFailed when a node of another site is not to be taken for a member."""
    if not there.site:
        return
    if there.node == me.node:
        raise HandshakeFailed(_same_name(there))
    if there.site == admission.site:
        raise HandshakeFailed(f"{there} says that it is at our own site")
    why = admission.refuses(there)
    if why:
        raise HandshakeFailed(f"{there} is refused: {why}")


def _named(life: Life) -> tuple[bytes, bytes]:
    return life.node.encode(), str(life.epoch).encode("ascii")


def _site(name: bytes) -> str:
    """Return the name of a site as it was proven. Raises HandshakeFailed when it is none."""
    if not name or len(name) > MAX_SITE_BYTES or not name.isascii():
        raise HandshakeFailed("what it proves is no site's name")
    return name.decode("ascii")


def _life(name: bytes, epoch: bytes, site: str = "") -> Life:
    """Return a life as it was proven. Raises HandshakeFailed all the same when it cannot be one."""
    if not name or len(epoch) > MAX_EPOCH_DIGITS or not epoch.isdigit():
        raise HandshakeFailed("what it proves is no member's name")
    try:
        return Life(name.decode(), int(epoch), site)
    except UnicodeDecodeError:
        raise HandshakeFailed("what it proves is no member's name") from None


def _spoken(*fields: bytes) -> bytes:
    return b" ".join(map(_encoded, fields)) + b"\n"


def _encoded(value: bytes) -> bytes:
    return urlsafe_b64encode(value).rstrip(b"=")


def _decoded(text: bytes) -> bytes:
    try:
        return urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except (Base64Error, ValueError):
        raise HandshakeFailed("what it says cannot be read") from None
