"""Answers to a request, and to what is left of one that could not be parsed (RFC 3261 §8.2.6, §18.3)."""

import re
from collections.abc import Iterable
from hashlib import blake2b

from rollcall.sip.errors import ParseError
from rollcall.sip.fields import Field, Request, Response, default_reason, make_fields
from rollcall.sip.grammar import is_token
from rollcall.sip.headers import parse_name_addr, parse_via
from rollcall.sip.names import canonical

_SINGLE = frozenset({"from", "to", "call-id", "cseq"})
_SINGLE_IN_TRYING = _SINGLE | {"timestamp"}
# What the sender knows its answer by (§17.1.3).
_NEEDED = frozenset({"via", "cseq"})
_TAG = re.compile(r";[ \t]*tag[ \t]*=", re.IGNORECASE | re.ASCII)
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_FOLD = re.compile(r"(?:\r\n|\r|\n)[ \t]+")
_MAX_SALVAGED_BYTES = 16384
_TAG_BYTES = 8


def response_to(
    request: Request,
    status: int,
    reason: str | None = None,
    to_tag: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> Response:
    """Return a response with what must be copied from the request (§8.2.6.2), followed by `headers`.

    `to_tag` goes into To unless the request has a tag there. Timestamp is copied into a 100
    (§8.2.6.1). Of a field that came twice against the rules only the first is copied.
    """
    fields: list[Field] = []
    seen: set[str] = set()
    copied = _SINGLE_IN_TRYING if status == 100 else _SINGLE
    for field in request.fields:
        key = field[0]
        if key == "via":
            fields.append(field)
        elif key in copied and key not in seen:
            seen.add(key)
            if key == "to" and to_tag is not None:
                field = (key, field[1], _tagged(field[2], to_tag))
            fields.append(field)
    fields += make_fields(headers)
    return Response(fields, b"", status, default_reason(status) if reason is None else reason)


def _tagged(to: str, tag: str) -> str:
    """Return the value of To with a tag, if it has none; one that cannot be read stays as it is."""
    if '"' not in to:
        params = to.rpartition(">")[2] if ">" in to else to
        return to if _TAG.search(params) else f"{to};tag={tag}"
    try:
        return to if "tag" in parse_name_addr(to).params else f"{to};tag={tag}"
    except ParseError:
        return to


def salvage_response(data: bytes, error: ParseError) -> Response | None:
    """Return the best answer to a message that could not be parsed. Never raises.

    None when it is no request or an ACK, and when it has no CSeq or no Via that names its sender. Of From, To and
    Call-ID the answer has what the message has ("Ideally, it will respond with a 400", RFC 4475 §3.3.1).
    The same message always gets the same To tag (§8.2.7).
    """
    head = data[:_MAX_SALVAGED_BYTES].lstrip(b"\r\n").partition(b"\r\n\r\n")[0]
    text = _FOLD.sub(" ", head.decode("utf-8", "surrogateescape"))
    start, *lines = _LINE_BREAK.split(text)
    method = start.partition(" ")[0]
    if not method or method == "ACK" or method[:4].upper() == "SIP/":
        return None
    fields = _salvage_fields(lines)
    if fields is None:
        return None
    tag = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=_TAG_BYTES).hexdigest()
    return response_to(Request(fields, b"", method, ""), error.status, error.reason, tag)


def _salvage_fields(lines: list[str]) -> list[Field] | None:
    """Return the fields that an answer needs, or None when one of them is missing."""
    fields: list[Field] = []
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t")
        if colon and is_token(name):
            key = canonical(name)
            value = value.strip(" \t")
            if value and (key == "via" or key in _SINGLE):
                fields.append((key, name, value))
    found = {key: value for key, _, value in reversed(fields)}
    if not found.keys() >= _NEEDED:
        return None
    try:
        # Its parameters may be what is malformed.
        parse_via(found["via"].partition(";")[0].partition(",")[0])
    except ParseError:
        return None
    return fields
