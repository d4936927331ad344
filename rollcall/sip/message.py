"""Reading SIP messages: where every header field is, and whether one may be worked with (RFC 3261 §7, §16.3, §18.3).

The values of the header fields stay raw text until somebody asks for one.
"""

import re

from rollcall.sip.errors import ParseError
from rollcall.sip.fields import Field, Message, Request, Response
from rollcall.sip.grammar import is_token
from rollcall.sip.headers import Via, check_name_addr, parse_cseq, parse_max_forwards, parse_via
from rollcall.sip.names import CONTENT_LENGTH, KEYS, REASONS, canonical
from rollcall.sip.replies import response_to, salvage_response
from rollcall.sip.scanner import Head, split_fields
from rollcall.sip.uri import SipUri, parse_often

__all__ = [
    "MAX_FIELDS",
    "REASONS",
    "Message",
    "ParseError",
    "Request",
    "Response",
    "check_request",
    "check_response",
    "parse_message",
    "response_to",
    "salvage_response",
    "split_head",
]

MAX_FIELDS = 256  # header lines of one message
_MAX_LENGTH_DIGITS = 10

_VERSION = re.compile(r"SIP/[0-9]+\.[0-9]+", re.IGNORECASE | re.ASCII)
_FOLD = re.compile(r"\r\n[ \t]+")

_METHODS = frozenset({
    "INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "SUBSCRIBE", "NOTIFY", "PUBLISH", "MESSAGE",
    "INFO", "PRACK", "UPDATE", "REFER"
})
_MANDATORY = ("from", "to", "call-id", "cseq")
_SPELLING = {"from": "From", "to": "To", "call-id": "Call-ID", "cseq": "CSeq"}
_SINGLE = frozenset({*_MANDATORY, "max-forwards"})


def parse_message(data: bytes) -> Request | Response:
    """Return the message in a datagram, or one that a stream framer cut out (§18.3).

    Bytes beyond Content-Length are dropped; without one the body reaches to the end. Raises
    ParseError: 505 for another version of SIP, 513 for too many fields, 400 otherwise.
    """
    head = None if split_fields is None else split_fields(data)
    if head is None:
        data = _after_blank_lines(data)
        head = split_head(data)
    start, fields, length, place = head
    body = data[place:]
    if length >= 0 and length != len(body):
        if length > len(body):
            raise ParseError("body shorter than Content-Length")
        body = body[:length]
    if start[:4].upper() == "SIP/":
        status, reason = _parse_status_line(start)
        return Response(fields, body, status, reason)
    method, uri = _parse_request_line(start)
    return Request(fields, body, method, uri)


def _after_blank_lines(data: bytes) -> bytes:
    # "MUST ignore any CRLF appearing before the start-line" (§7.5)
    place = 0
    while data.startswith(b"\r\n", place):
        place += 2
    if place and place == len(data):
        raise ParseError("empty message")
    return data[place:]


def split_head(data: bytes) -> Head:
    """Return the start line, the fields, what Content-Length says (-1 without one), and where the body begins.

    Raises ParseError.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        raise ParseError("no empty line after the header fields")
    lines = data[:end].decode("utf-8", "surrogateescape").split("\r\n")
    joined = "".join(lines)
    if "\n" in joined or "\r" in joined:
        raise ParseError("line ended by a lone CR or LF")
    if len(lines) > MAX_FIELDS:
        raise ParseError("too many header fields", 513)
    start = lines.pop(0)
    fields, length = _parse_fields(lines)
    return start, fields, length, end + 4


def _parse_fields(lines: list[str]) -> tuple[list[Field], int]:
    """Return the fields that these header lines hold, and what Content-Length says, -1 without one."""
    fields: list[Field] = []
    add = fields.append
    known = KEYS.get
    lengths = []
    for line in lines:
        name, colon, value = line.partition(":")
        key = known(name)
        if key is None or not colon:
            if line[0] in " \t":
                return _parse_fields(_unfold(lines))
            if not colon:
                raise ParseError("header line without a colon")
            name = name.rstrip(" \t")
            key = canonical(name)
            if key == CONTENT_LENGTH:
                lengths.append(value.strip(" \t"))
                continue
        add((key, name, value.strip(" \t")))
    return fields, _parse_lengths(lengths) if lengths else -1


def _unfold(lines: list[str]) -> list[str]:
    # "The line break and the whitespace at the beginning of the next line are treated as a single SP" (§7.3.1)
    if lines[0][0] in " \t":
        raise ParseError("folded start line")
    return _FOLD.sub(" ", "\r\n".join(lines)).split("\r\n")


def _parse_lengths(texts: list[str]) -> int:
    """Return the one value that all Content-Length fields give."""
    length = _parse_length(texts[0])
    for text in texts[1:]:
        if _parse_length(text) != length:
            raise ParseError("conflicting Content-Length values")
    return length


def _parse_length(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ParseError("malformed Content-Length")
    if len(text) > _MAX_LENGTH_DIGITS:
        raise ParseError("Content-Length out of range")
    return int(text)


def _parse_request_line(line: str) -> tuple[str, str]:
    parts = line.split(" ")
    if len(parts) != 3:
        raise ParseError("malformed request line")
    method, uri, version = parts
    if version != "SIP/2.0" and version.upper() != "SIP/2.0":
        if _VERSION.fullmatch(version):
            raise ParseError("SIP version not supported", 505)
        raise ParseError("malformed request line")
    if not uri or (method not in _METHODS and not is_token(method)):
        raise ParseError("malformed request line")
    return method, uri


def _parse_status_line(line: str) -> tuple[int, str]:
    version, _, rest = line.partition(" ")
    status, _, reason = rest.partition(" ")
    if version.upper() != "SIP/2.0":
        raise ParseError("SIP version not supported", 505)
    if len(status) != 3 or not status.isascii() or not status.isdigit() or not "1" <= status[0] <= "6":
        raise ParseError("malformed status line")
    return int(status), reason


def check_request(request: Request) -> Via:
    """Return the topmost Via of a request that is well-formed enough to be worked with (§8.1.1, §16.3 step 1).

    From, To, Call-ID and CSeq stand in it once, Max-Forwards at most once, Via at least once; these and
    the Request-URI are well-formed, whatever the scheme; and CSeq names the method of the request. Raises ParseError.
    """
    fields = _single_fields(request)
    _check_request_uri(request.uri)
    via, method = _check_fields(fields, request)
    if method != request.method:
        # 501 for methods that may have come up after us (RFC 4475 §3.1.2.18)
        raise ParseError("CSeq of another method", 400 if request.method in _METHODS else 501)
    if "max-forwards" in fields:
        parse_max_forwards(fields["max-forwards"])
    return via


def _check_request_uri(text: str) -> None:
    uri = parse_often(text)
    # Table 1 of §19.1.1: no headers in a Request-URI.
    if isinstance(uri, SipUri) and uri.headers is not None:
        raise ParseError("header fields in Request-URI")


def check_response(response: Response) -> Via:
    """Return the topmost Via of a response whose necessary fields are there and well-formed (§8.1.3.3, §16.7).

    Raises ParseError.
    """
    return _check_fields(_single_fields(response), response)[0]


def _single_fields(message: Message) -> dict[str, str]:
    """Return the fields that no message may have twice."""
    fields: dict[str, str] = {}
    single = _SINGLE
    for key, _, value in message.fields:
        if key in single:
            if key in fields:
                raise ParseError("header field given twice")
            fields[key] = value
    return fields


def _check_fields(fields: dict[str, str], message: Message) -> tuple[Via, str]:
    """Check what requests and responses share; return the topmost Via and the method in CSeq."""
    topmost = message.first_value("via")
    if topmost is None:
        raise ParseError("no Via")
    for key in _MANDATORY:
        if not fields.get(key):
            raise ParseError(f"no {_SPELLING[key]}")
    via = parse_via(topmost)
    check_name_addr(fields["from"])
    check_name_addr(fields["to"])
    return via, parse_cseq(fields["cseq"]).method
