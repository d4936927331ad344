"""The HTTP request that opens a WebSocket, and the answer to it (RFC 6455 §4.2, RFC 7118 §4.1). Sans-I/O."""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from hashlib import sha1

from attrs import frozen

# RFC 6455 §4.2.2 step 5.4
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SUBPROTOCOL = "sip"
END_OF_HEAD = b"\r\n\r\n"

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VERSION = re.compile(r"HTTP/1\.[1-9]")

REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    405: "Method Not Allowed",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
}


class UpgradeRefused(Exception):
    """The request opens no WebSocket; `answer` is the HTTP response that says so before the end."""

    def __init__(self, status: int, reason: str, *headers: str) -> None:
        super().__init__(reason)
        body = f"{reason}\n".encode()
        lines = [f"HTTP/1.1 {status} {REASONS[status]}", "Connection: close", *headers]
        lines += ["Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(body)}"]
        self.status = status
        self.answer = "\r\n".join(lines).encode("ascii") + END_OF_HEAD + body


@frozen
class Upgraded:
    """A request that opens a WebSocket: what to answer, and what came after it."""

    answer: bytes
    rest: bytes


class UpgradeReader:
    """Collects the request and decides about it."""

    __slots__ = ("_data", "_max_bytes", "_origins")

    def __init__(self, max_bytes: int, allowed_origins: frozenset[str]) -> None:
        """`allowed_origins` are lower case; an empty set allows every origin."""
        self._data = b""
        self._max_bytes = max_bytes
        self._origins = allowed_origins

    def receive_data(self, data: bytes) -> Upgraded | None:
        """Return the decision, or None while the request is not whole. Raises UpgradeRefused."""
        self._data += data
        head, end, rest = self._data.partition(END_OF_HEAD)
        if len(head) > self._max_bytes:
            raise UpgradeRefused(431, "the request is too large")
        if not end:
            return None
        self._data = b""
        return Upgraded(_answer(head.decode("latin-1"), self._origins), rest)


def _answer(head: str, origins: frozenset[str]) -> bytes:
    request_line, *lines = head.split("\r\n")
    _check_request_line(request_line)
    headers = _headers(lines)
    if "websocket" not in _tokens(headers.get("upgrade", "")):
        raise UpgradeRefused(426, "SIP over WebSocket is spoken here", "Upgrade: websocket")
    if "upgrade" not in _tokens(headers.get("connection", "")):
        raise UpgradeRefused(400, "Connection: Upgrade is missing")
    if headers.get("sec-websocket-version") != "13":
        raise UpgradeRefused(426, "WebSocket version 13 is spoken here", "Sec-WebSocket-Version: 13")
    if not headers.get("host"):
        raise UpgradeRefused(400, "Host is missing")
    if SUBPROTOCOL not in _tokens(headers.get("sec-websocket-protocol", "")):
        raise UpgradeRefused(400, "Sec-WebSocket-Protocol: sip is missing")
    # Browsers always tell the origin; what has none is no page of somebody else's.
    origin = headers.get("origin", "").lower()
    if origins and origin and origin not in origins:
        raise UpgradeRefused(403, "pages of this origin may not connect")
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + _accept(headers.get("sec-websocket-key", "")) + b"\r\n"
        b"Sec-WebSocket-Protocol: sip\r\n\r\n"
    )


def _check_request_line(line: str) -> None:
    method, _, rest = line.partition(" ")
    target, _, version = rest.partition(" ")
    if not TOKEN.fullmatch(method) or not target or not VERSION.fullmatch(version):
        raise UpgradeRefused(400, "no HTTP/1.1 request")
    if method != "GET":
        raise UpgradeRefused(405, "only GET opens a WebSocket", "Allow: GET")


def _headers(lines: list[str]) -> dict[str, str]:
    """Return the fields by lower-case name, repeated ones joined by commas (RFC 9110 §5.3)."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not TOKEN.fullmatch(name):
            raise UpgradeRefused(400, "malformed header field")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _tokens(value: str) -> list[str]:
    return [token.strip().lower() for token in value.split(",")]


def _accept(key: str) -> bytes:
    try:
        valid = len(b64decode(key.encode("ascii"), validate=True)) == 16
    except (Base64Error, ValueError):
        valid = False
    if not valid:
        raise UpgradeRefused(400, "Sec-WebSocket-Key is missing or malformed")
    return b64encode(sha1(key.encode("ascii") + GUID, usedforsecurity=False).digest())
