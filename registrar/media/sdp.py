"""Session descriptions in messages: where one is, and the little that has to be known of it (RFC 8866, RFC 3264).

What addresses and ports become is the media node's business; nothing here rewrites a line.
"""

import re

from attrs import frozen

from rollcall.sip.message import Message

SDP = "application/sdp"

_BOUNDARY = re.compile(r";[ \t]*boundary[ \t]*=[ \t]*(?:\"([^\"]{1,70})\"|([^\s;\"]{1,70}))", re.IGNORECASE)
_PART_TYPE = re.compile(rb"^content-type[ \t]*:[ \t]*application/sdp[ \t]*(?:;|$)", re.IGNORECASE | re.MULTILINE)
_ENCODED_PART = re.compile(rb"^content-(?:transfer-)?encoding[ \t]*:[ \t]*(?!binary|8bit|7bit|identity)",
                           re.IGNORECASE | re.MULTILINE)
_MEDIA = re.compile(rb"^m=([a-z]+) ([0-9]{1,5})(?:/[0-9]+)? ([^ \r\n]+) ([^ \r\n]+)", re.MULTILINE)
_RTPMAP = re.compile(rb"^a=rtpmap:([0-9]{1,3}) ([^/\s]{1,40})/([0-9]{1,6})(?![0-9])", re.MULTILINE)

# RFC 3551 §6: what needs no rtpmap.
_STATIC = {"0": ("PCMU", 8000), "3": ("GSM", 8000), "4": ("G723", 8000), "8": ("PCMA", 8000), "9": ("G722", 8000),
           "15": ("G728", 8000), "18": ("G729", 8000)}


@frozen
class Described:
    """The session description in a message, and what stands around it in the body."""

    sdp: bytes
    before: bytes = b""
    after: bytes = b""


@frozen
class Codec:
    """What a call sounds like; the name as in SDP, empty when there is no sound in it."""

    name: str
    clock_rate: int


def described(message: Message) -> Described | None:
    """Return the session description in `message`, also one that is a part of a multipart body (RFC 5621).

    None: there is none, or it is encoded in a way that says nothing to a media node.
    """
    if not message.body:
        return None
    whole = message.get("Content-Type") or ""
    kind = whole.partition(";")[0].strip().lower()
    if (message.get("Content-Encoding") or "identity").lower() != "identity":
        return None
    if kind == SDP:
        return Described(message.body)
    boundary = _BOUNDARY.search(whole) if kind.startswith("multipart/") else None
    if boundary is None:
        return None
    return _part(message.body, b"--" + (boundary[1] or boundary[2]).encode("utf-8", "surrogateescape"))


def describe(message: Message, sdp: bytes) -> None:
    """Put `sdp` in the place of the session description that `message` has."""
    found = described(message)
    if found is not None:
        message.body = found.before + sdp + found.after


def is_webrtc(sdp: bytes) -> bool:
    """Say whether a browser has offered it: all its sound is encrypted by DTLS-SRTP (RFC 5764)."""
    return any(media[3].startswith((b"UDP/TLS/RTP/", b"TCP/TLS/RTP/")) for media in _MEDIA.finditer(sdp))


def codec(sdp: bytes) -> Codec:
    """Return the first codec of the first sound: what will be heard after an answer, or is preferred in an offer.

    RFC 3264 §§5.1, 6.1.
    """
    sound = next((media for media in _MEDIA.finditer(sdp) if media[1] == b"audio" and int(media[2])), None)
    if sound is None:
        return Codec("", 8000)
    number = sound[4].decode("ascii", "replace")
    named = next((found for found in _RTPMAP.finditer(sdp, sound.end()) if found[1] == sound[4]), None)
    if named is None:
        return Codec(*_STATIC.get(number, ("", 8000)))
    return Codec(named[2].decode("ascii", "replace"), int(named[3]))


def _part(body: bytes, delimiter: bytes) -> Described | None:
    """Return the first part that is a session description, in a body whose parts begin after `delimiter` lines."""
    # The line break before a delimiter belongs to it (RFC 2046 §5.1.1); the first may have none.
    start = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    while (line_end := body.find(b"\r\n", start)) >= 0 and body.startswith(delimiter, start):
        end = body.find(b"\r\n" + delimiter, line_end)
        if end < 0:
            return None
        headers, blank, sdp = body[line_end + 2 : end].partition(b"\r\n\r\n")
        if blank and _is_plain_sdp(headers):
            return Described(sdp if sdp.endswith(b"\r\n") else sdp + b"\r\n", body[: end - len(sdp)], body[end:])
        start = end + 2
    return None


def _is_plain_sdp(headers: bytes) -> bool:
    lines = headers.replace(b"\r\n", b"\n")
    return bool(_PART_TYPE.search(lines)) and not _ENCODED_PART.search(lines)
