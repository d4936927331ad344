"""What scripted phones write and read: SIP over a stream as plain text, and the digests they prove themselves with.

It is made for thousands of phones in one thread and knows no more than they need; that the product's messages are
right is tested elsewhere, with the product's own reader and with real phones.
"""

import re
from collections.abc import Iterable
from hashlib import md5

Fields = Iterable[tuple[str, str]]

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_PARAMETER = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')
_URI = re.compile(r"<([^>]*)>")
_TAG = re.compile(r";tag=([^;\s]+)")
CNONCE = "c0ffee00"


class Message:
    """One message: its start line, and its header fields by their name in lower case."""

    __slots__ = ("body", "fields", "method", "start", "status", "uri")

    def __init__(self, head: str, body: bytes = b"") -> None:
        self.body = body
        self.start, *lines = head.split("\r\n")
        self.fields: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            self.fields.setdefault(name.strip().lower(), []).append(value.strip())
        first, second, _ = self.start.split(" ", 2)
        is_response = first == "SIP/2.0"
        self.status = int(second) if is_response else 0
        self.uri = "" if is_response else second
        self.method = self.get("cseq").rpartition(" ")[2] if is_response else first

    def get(self, name: str) -> str:
        """Return the first field of that name, or nothing."""
        values = self.fields.get(name)
        return values[0] if values else ""

    @property
    def cseq(self) -> int:
        """The number in CSeq."""
        return int(self.get("cseq").split()[0])

    @property
    def routes(self) -> list[str]:
        """What Record-Route says, from the top."""
        return [uri for value in self.fields.get("record-route", ()) for uri in _URI.findall(value)]

    @property
    def contact(self) -> str:
        """The URI in the first Contact."""
        return uri_in(self.get("contact"))


def uri_in(value: str) -> str:
    """Return the URI of a name-addr."""
    found = _URI.search(value)
    return found[1] if found else value.partition(";")[0]


def tag_in(value: str) -> str:
    """Return the tag of From or To, or nothing."""
    found = _TAG.search(value)
    return found[1] if found else ""


def taken(data: bytearray) -> list[Message]:
    """Remove all whole messages from what has come, and return them. Keepalives vanish."""
    found = []
    while data:
        if data.startswith(b"\r\n"):
            del data[:2]
            continue
        end = data.find(b"\r\n\r\n")
        if end < 0:
            break
        head = bytes(data[:end])
        length = _LENGTH.search(head)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(data) < whole:
            break
        found.append(Message(head.decode("utf-8", "replace"), bytes(data[end + 4 : whole])))
        del data[:whole]
    return found


def request(method: str, uri: str, local: str, branch: str, fields: Fields, sdp: bytes = b"") -> bytes:
    """Return a request of a phone that is at `local`, host:port."""
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/TCP {local};branch=z9hG4bK{branch};rport",
        "Max-Forwards: 70",
        *(f"{name}: {value}" for name, value in fields),
        *_about(sdp),
    ]
    return "\r\n".join(lines).encode() + sdp


def response(to: Message, status: int, reason: str, tag: str, fields: Fields = (), sdp: bytes = b"") -> bytes:
    """Return the answer to a request."""
    asked = to.get("to")
    lines = [f"SIP/2.0 {status} {reason}"]
    lines += [f"Via: {value}" for value in to.fields["via"]]
    lines += [f"Record-Route: {value}" for value in to.fields.get("record-route", ())]
    lines += [
        f"From: {to.get('from')}",
        f"To: {asked}" if tag_in(asked) else f"To: {asked};tag={tag}",
        f"Call-ID: {to.get('call-id')}",
        f"CSeq: {to.get('cseq')}",
        *(f"{name}: {value}" for name, value in fields),
        *_about(sdp),
    ]
    return "\r\n".join(lines).encode() + sdp


def _about(sdp: bytes) -> list[str]:
    kind = ["Content-Type: application/sdp"] if sdp else []
    return [*kind, f"Content-Length: {len(sdp)}\r\n\r\n"]


class Proof:
    """An answer to a digest challenge that serves again and again, counting (RFC 7616 §3.4)."""

    __slots__ = ("_count", "_name", "_nonce", "_opaque", "_realm", "_secret", "_username")

    def __init__(self, challenge: Message, username: str, password: str) -> None:
        """`challenge` is a 401 or 407 whose first challenge offers MD5 and qop auth."""
        asked, self._name = (
            ("www-authenticate", "Authorization") if challenge.status == 401
            else ("proxy-authenticate", "Proxy-Authorization"))
        found = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(challenge.get(asked))}
        self._username = username
        self._realm, self._nonce, self._opaque = found["realm"], found["nonce"], found.get("opaque")
        self._secret = _hash(f"{username}:{self._realm}:{password}")
        self._count = 0

    def field(self, method: str, uri: str) -> tuple[str, str]:
        """Return the header field for the next request."""
        self._count += 1
        count = f"{self._count:08x}"
        resource = _hash(f"{method}:{uri}")
        proof = _hash(f"{self._secret}:{self._nonce}:{count}:{CNONCE}:auth:{resource}")
        opaque = "" if self._opaque is None else f', opaque="{self._opaque}"'
        return self._name, (
            f'Digest username="{self._username}", realm="{self._realm}", nonce="{self._nonce}", uri="{uri}", '
            f'response="{proof}", algorithm=MD5, qop=auth, nc={count}, cnonce="{CNONCE}"{opaque}'
        )


def _hash(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()
