"""What a running registrar makes of each torture message of RFC 4475 and RFC 5118, and how the tests read what is sent.

The registrar serves the domains that the messages are for, and lets everybody in: what they are about lies behind
the question who sends them. What the RFCs say of each message stands in tests.vectors.expectations; the notes here
say what follows from it for a registrar and proxy of these domains.
"""

import re

from attrs import field, frozen

from tests.vectors.torture import messages

DOMAINS = """
[[domain]]
name = "example.com"
aliases = [
    "chair-dnrc.example.com", "services.example.com", "registrar.example.com", "2001:db8::10", "2001:db8::192.0.2.1"
]

[[domain]]
name = "example.net"
aliases = ["host.example.net"]
"""
# Further names of the server: the Route of mpart01, and the port that port-unambiguous asks for.
ALSO = """
[[listen]]
name = "{name}"
transport = "udp"
host = "127.0.0.1"
port = {port}
advertise_host = "{host}"
advertise_port = {named}
"""
USER, J_USER, WATSON = "sip:user@example.com", "sip:j.user@example.com", "sip:watson@example.com"
NULLS = "sip:null-%00-null@example.com"


@frozen
class Answered:
    """The server itself answers: with a final status for each message that it sees in what was sent."""

    statuses: tuple[int, ...]
    note: str = ""
    bound: str = field(default="", kw_only=True)
    """The address-of-record that has bindings afterwards."""


@frozen
class Arrives:
    """It is forwarded to the phone of this address-of-record, with all that a proxy may not touch as it was."""

    aor: str
    note: str = ""


@frozen
class Ignored:
    """Nobody hears of it, neither its sender nor anybody else."""

    note: str = ""


@frozen
class Closed:
    """The connection is closed, after an answer of `status` or, for None, without a word."""

    status: int | None
    note: str = ""


Outcome = Answered | Arrives | Ignored | Closed


def _answered(status: int, note: str = "") -> Answered:
    return Answered((status,), note)


def _registered(aor: str, note: str = "") -> Answered:
    return Answered((200,), note, bound=aor)


OVER_UDP: dict[str, Outcome] = {
    # RFC 4475 §3.1.1, valid
    "wsinv": Arrives("sip:vivekg@example.com", "The Route names a domain of ours, so we take it off (RFC 3261 §16.4)."),
    "intmeth": Arrives("sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com"),
    "esc01": Arrives("sip:sips%3Auser%40example.com@example.net"),
    "escnull": _registered(NULLS, "This request registers two distinct contact URIs."),
    "esc02": _answered(501, "It is for the server itself: An endpoint would reject this message with a 501."),
    "lwsdisp": Arrives(USER),
    "longreq": Arrives(USER),
    "dblreq": _registered(J_USER, "The INVITE behind the REGISTER gets no answer."),
    "semiuri": Arrives("sip:user;par=u%40example.net@example.com"),
    "transports": Arrives(USER),
    "mpart01": Arrives("sip:kumiko@example.org"),
    "unreason": Ignored("It answers nothing that we sent (RFC 6026 §7.3)."),
    "noreason": Ignored("It answers nothing that we sent (RFC 6026 §7.3)."),
    # RFC 4475 §3.1.2, invalid
    "badinv01": _answered(400),
    "clerr": _answered(400),
    "ncl": _answered(400),
    "scalar02": _answered(400),
    "scalarlg": Ignored(),
    "quotbal": _answered(400),
    "ltgtruri": _answered(400),
    "lwsruri": _answered(400),
    "lwsstart": _answered(400),
    "trws": _answered(400),
    "escruri": _answered(400),
    "baddate": Arrives(USER, "A proxy has no use for the Date."),
    "regbadct": _answered(400),
    "badaspec": _answered(400),
    "baddn": _answered(400),
    "badvers": _answered(505),
    "mismatch01": _answered(400),
    "mismatch02": _answered(501),
    "bigcode": Ignored(),
    # RFC 4475 §3.2 to §3.4
    "badbranch": Arrives(USER, "We fall back to the RFC 2543-style transaction identifier."),
    "insuf": _answered(400),
    "unkscm": _answered(416),
    "novelsc": _answered(416),
    "unksm2": _answered(400),
    "bext01": _answered(420),
    "invut": Arrives(USER),
    "regaut01": _answered(200, "A registrar that does not care will simply ignore the Authorization header field."),
    "multi01": _answered(400),
    "mcl01": _answered(400),
    "bcast": Ignored(),
    "zeromf": _answered(483),
    "cparam01": _registered(WATSON),
    "cparam02": _registered(WATSON),
    "regescrt": _registered(USER),
    "sdp01": Arrives(USER, "What is acceptable is between the phones."),
    "inv2543": Arrives("sip:UserB@example.com"),
    # RFC 5118
    "ipv6-good": _registered(USER),
    "ipv6-bad": _answered(400),
    "port-ambiguous": _answered(403, "It will not yield the desired result: the address it names is not ours."),
    "port-unambiguous": _registered(USER),
    "via-received-param-with-delim": _answered(481, "It is for the server itself, which has no dialog with anybody."),
    "via-received-param-no-delim": _answered(200, "It is for the server itself."),
    "ipv6-in-sdp": Arrives(USER),
    "mult-ip-in-header": Arrives("sip:user@example.net"),
    "mult-ip-in-sdp": Arrives(USER),
    "ipv4-mapped-ipv6": Arrives(USER),
    "ipv6-bug-abnf-3-colons": Arrives(USER),
    "ipv6-correct-abnf-2-colons": Arrives(USER),
}

# A stream is cut by Content-Length alone, and these have none, several, or a wrong one (RFC 3261 §18.3, §20.14).
OVER_TCP: dict[str, Outcome] = OVER_UDP | {
    "dblreq": Closed(200, "In a stream the extra bits are further messages, the last of them without an end."),
    "clerr": Closed(None, "Wait for more data on the stream and close the connection if none is forthcoming."),
    "ncl": Closed(400),
    "mcl01": Closed(400),
    "inv2543": Closed(400, "With TCP, the Content-Length header field MUST be used (RFC 3261 §20.14)."),
}

# Each of these has the branch, the sent-by and the method of one before it, and so would be its retransmission for
# as long as the server remembers that one (RFC 3261 §17.2.3): they are sent with a branch of their own.
_TWINS = frozenset({
    "novelsc", "cparam02", "regescrt", "port-ambiguous", "port-unambiguous", "ipv6-correct-abnf-2-colons"
})


def as_sent(name: str) -> bytes:
    """Return the bytes of a message: those of the RFC, but for the branch of a few."""
    data = messages()[name]
    return data.replace(b";branch=z9hG4bK", f";branch=z9hG4bK.{name}.".encode(), 1) if name in _TWINS else data


Field = tuple[bytes, bytes]

_FOLD = re.compile(rb"\r\n[ \t]+")
_COMPACT = {b"v": b"via", b"l": b"content-length", b"i": b"call-id"}
# What a proxy changes on the way (RFC 3261 §16.6, RFC 5393 §5.3.3).
_CHANGED = frozenset({b"via", b"max-forwards", b"max-breadth", b"route", b"record-route", b"content-length"})


def fields(data: bytes) -> list[Field]:
    """Return the header fields of a message, unfolded, with their names as they came. Reads without our parser."""
    lines = _FOLD.sub(b" ", data.partition(b"\r\n\r\n")[0]).split(b"\r\n")[1:]
    return [(name.strip(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]


def values(data: bytes, name: bytes) -> list[bytes]:
    """Return the value of each header line of this name (in lower case)."""
    return [value for spelling, value in fields(data) if _key(spelling) == name]


def untouchable(data: bytes) -> list[Field]:
    """Return the fields of a request that a proxy has to forward as they are, in their order."""
    return [pair for pair in fields(data) if _key(pair[0]) not in _CHANGED]


def body(data: bytes) -> bytes:
    """Return what follows the empty line."""
    return data.partition(b"\r\n\r\n")[2]


def _key(name: bytes) -> bytes:
    return _COMPACT.get(name.lower(), name.lower())
