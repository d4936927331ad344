"""What RFC 4475 and RFC 5118 say of each of their messages, and what our parser makes of it.

The table serves the parser's tests, which look at `refused` and `in_stream`, and the tests of a
running element, which look at `answers`.
"""

from enum import Enum

from attrs import frozen

# Any answer that takes the message for well-formed: what it is depends on domains, users and policy.
UNDERSTOOD = frozenset(range(200, 700)) - {400, 500, 505, 513}
# A registrar of the domain accepts, or asks who it is.
REGISTERED = frozenset({200, 401})
SILENCE: frozenset[int] = frozenset()
BAD_REQUEST = frozenset({400})
LIBERAL = UNDERSTOOD | BAD_REQUEST


class Stage(Enum):
    """Who has to refuse a message."""

    PARSE = "parse_message"
    CHECK = "check_request or check_response"
    NOBODY = "neither"


class InStream(Enum):
    """What becomes of a message that arrives over a stream instead of in a datagram."""

    WHOLE = "one message"
    WAITS = "more is expected, and nobody answers"
    LOST = "the stream cannot be followed; 400 and close"
    SEVERAL = "what a datagram holds in excess is read as further messages"


@frozen
class Expectation:
    """One message: `valid` by the RFC; `answers` are the final statuses that it allows a proxy or registrar.

    `answers` is empty where there is to be none: to responses. `refused` is the status our parser
    gives it, None when it passes.
    """

    name: str
    section: str
    request: bool
    valid: bool
    stage: Stage
    refused: int | None
    in_stream: InStream
    answers: frozenset[int]
    quote: str


def _passes(
    name: str,
    section: str,
    quote: str,
    answers: frozenset[int] = UNDERSTOOD,
    in_stream: InStream = InStream.WHOLE,
    valid: bool = True,
) -> Expectation:
    """Return a request that parses: if anything is wrong with it, those say so who need that part of it."""
    return Expectation(name, section, True, valid, Stage.NOBODY, None, in_stream, answers, quote)


def _unparsable(
    name: str,
    section: str,
    quote: str,
    answers: frozenset[int] = BAD_REQUEST,
    refused: int = 400,
    in_stream: InStream = InStream.WHOLE,
) -> Expectation:
    return Expectation(name, section, True, False, Stage.PARSE, refused, in_stream, answers, quote)


def _unfit(
    name: str, section: str, quote: str, answers: frozenset[int] = BAD_REQUEST, refused: int = 400
) -> Expectation:
    return Expectation(name, section, True, False, Stage.CHECK, refused, InStream.WHOLE, answers, quote)


def _response(name: str, section: str, quote: str, stage: Stage = Stage.NOBODY) -> Expectation:
    refused = None if stage is Stage.NOBODY else 400
    return Expectation(name, section, False, refused is None, stage, refused, InStream.WHOLE, SILENCE, quote)


RFC4475 = (
    _passes("wsinv", "3.1.1.1", "All elements should treat this as a well-formed request."),
    _passes(
        "intmeth",
        "3.1.1.2",
        "If this unusual URI has been defined at a proxy, the proxy will forward this request normally."
        " Otherwise, a proxy will generate a 404.",
    ),
    _passes("esc01", "3.1.1.3", "A parser must accept this as a well-formed message."),
    _passes("escnull", "3.1.1.4", "The message is well formed - parsers must accept this message.", REGISTERED),
    _passes("esc02", "3.1.1.5", "A parser should accept this message as well formed."),
    _passes("lwsdisp", "3.1.1.6", "Elements should accept this request as well formed."),
    _passes(
        "longreq",
        "3.1.1.7",
        "This well-formed request contains header fields with many values and values that are very long.",
    ),
    _passes(
        "dblreq",
        "3.1.1.8",
        "A SIP element receiving this datagram would handle the REGISTER request normally and ignore the"
        " extra bits that look like an INVITE request.",
        REGISTERED,
        InStream.SEVERAL,
    ),
    _passes("semiuri", "3.1.1.9", "Receiving elements will accept this as a well-formed message."),
    _passes("transports", "3.1.1.10", "Parsers must accept this message as well formed."),
    _passes(
        "mpart01",
        "3.1.1.11",
        "Parsers must accept this message as well formed, even if the application above the parser does not"
        " support multipart/signed.",
    ),
    _response("unreason", "3.1.1.12", "This response is well formed. A parser must accept this message."),
    _response("noreason", "3.1.1.13", "A parser must accept this message."),
    _unfit("badinv01", "3.1.2.1", "An element receiving this request should respond with a 400 Bad Request error."),
    _unparsable(
        "clerr",
        "3.1.2.2",
        "When sent over UDP (as this message ostensibly was), the receiving element should respond with a 400"
        " Bad Request error.",
        in_stream=InStream.WAITS,
    ),
    _unparsable(
        "ncl",
        "3.1.2.3",
        "If a request like this arrives over TCP, the framing error is not recoverable, and the connection"
        " should be closed.",
        in_stream=InStream.LOST,
    ),
    _unfit(
        "scalar02",
        "3.1.2.4",
        "An element receiving this request should respond with a 400 Bad Request due to the CSeq error.",
    ),
    _response("scalarlg", "3.1.2.5", "An element receiving this response will simply discard it.", Stage.CHECK),
    _unfit("quotbal", "3.1.2.6", "An element receiving this request should return a 400 Bad Request error."),
    _unfit(
        "ltgtruri",
        "3.1.2.7",
        "It is reasonable always to reject a request with this error with a 400 Bad Request.",
        LIBERAL,
    ),
    _unparsable("lwsruri", "3.1.2.8", "An element receiving this request should respond with a 400 Bad Request."),
    _unparsable("lwsstart", "3.1.2.9", "It is acceptable to reject this request as malformed.", LIBERAL),
    _unparsable("trws", "3.1.2.10", "It is acceptable to reject this request as malformed.", LIBERAL),
    _unfit(
        "escruri",
        "3.1.2.11",
        "It is acceptable for an element to reject this request with a 400 Bad Request.",
        LIBERAL,
    ),
    _passes(
        "baddate",
        "3.1.2.12",
        "It is acceptable to reject this request as malformed (though an element shouldn't do that unless the"
        " contents of the Date header field were actually important to its processing).",
        LIBERAL,
        valid=False,
    ),
    _passes(
        "regbadct",
        "3.1.2.13",
        "It is reasonable for an element receiving this request to respond with a 400 Bad Request.",
        REGISTERED | BAD_REQUEST,
        valid=False,
    ),
    _unfit("badaspec", "3.1.2.14", "It is reasonable to reject this request with a 400 Bad Request response.", LIBERAL),
    _unfit(
        "baddn",
        "3.1.2.15",
        "It is reasonable always to reject this kind of error with a 400 Bad Request response.",
        LIBERAL,
    ),
    _unparsable(
        "badvers",
        "3.1.2.16",
        "The element should respond to the request with a 505 Version Not Supported error.",
        frozenset({505}),
        505,
    ),
    _unfit("mismatch01", "3.1.2.17", "Any element receiving this request will respond with a 400 Bad Request."),
    _unfit(
        "mismatch02",
        "3.1.2.18",
        "Any element receiving this response should respond with a 501 Not Implemented. A 400 Bad Request is"
        " also acceptable",
        frozenset({400, 501}),
        501,
    ),
    _response("bigcode", "3.1.2.19", "An element receiving this response should simply drop it.", Stage.PARSE),
    _passes(
        "badbranch",
        "3.2.1",
        "An element receiving this request could reject the request with a 400 Response [...], or it could fall"
        " back to the RFC 2543-style transaction identifier.",
        LIBERAL,
        valid=False,
    ),
    _unfit("insuf", "3.3.1", "Ideally, it will respond with a 400 Bad Request error."),
    _passes(
        "unkscm",
        "3.3.2",
        "An element receiving this request will reject it with a 416 Unsupported URI Scheme response.",
        frozenset({416}),
    ),
    _passes(
        "novelsc",
        "3.3.3",
        "If an element will never accept this scheme as meaningful in a Request-URI, it is appropriate to treat"
        " it as unknown and return a 416 Unsupported URI Scheme response.",
        frozenset({404, 416}),
    ),
    _passes(
        "unksm2",
        "3.3.4",
        "A registrar would reject this request with a 400 Bad Request response, since the To: header field is"
        " required to contain a SIP or SIPS URI as an AOR.",
        BAD_REQUEST,
    ),
    _passes(
        "bext01",
        "3.3.5",
        "Any element receiving this request will respond with a 420 Bad Extension response, containing an"
        " Unsupported header field",
        frozenset({420}),
    ),
    _passes(
        "invut",
        "3.3.6",
        "A proxy receiving this request would process it just as it would any other INVITE.",
    ),
    _passes(
        "regaut01",
        "3.3.7",
        "A registrar that does care about challenge-response authentication will reject this request with a"
        " 401, issuing a new challenge with a scheme it understands.",
        REGISTERED,
    ),
    _unfit("multi01", "3.3.8", "An element receiving this request would respond with a 400 Bad Request error."),
    _unparsable(
        "mcl01",
        "3.3.9",
        "From a framing perspective, this situation is equivalent to an invalid Content-Length value (or no"
        " value at all).",
        in_stream=InStream.LOST,
    ),
    _response(
        "bcast",
        "3.3.10",
        "The message is well formed; parsers must not fail when receiving it.",
    ),
    _passes(
        "zeromf",
        "3.3.11",
        "A proxy should not forward the request and should respond 483 (Too Many Hops).",
        frozenset({200, 483}),
    ),
    _passes(
        "cparam01",
        "3.3.12",
        'This REGISTER should succeed. The response must not include "unknownparam" as a url-parameter for this'
        " binding.",
        REGISTERED,
    ),
    _passes(
        "cparam02",
        "3.3.13",
        'The register should succeed, and a subsequent retrieval of the registration must include "unknownparam"'
        " as a url-parameter.",
        REGISTERED,
    ),
    _passes(
        "regescrt",
        "3.3.14",
        "The register should succeed, and a subsequent retrieval of the registration must include the escaped"
        " Route header in the contact URI for this binding.",
        REGISTERED,
    ),
    _passes("sdp01", "3.3.15", "The recipient of this request could respond with a 406 Not Acceptable", LIBERAL),
    _passes(
        "inv2543",
        "3.4.1",
        "This is a legal message per RFC 2543 (and several bis versions) that should be accepted by RFC 3261"
        " elements that want to maintain backwards compatibility.",
        in_stream=InStream.LOST,
    ),
)

RFC5118 = (
    _passes("ipv6-good", "4.1", "The request below is well-formatted according to the grammar in [RFC3261]."),
    _unfit(
        "ipv6-bad",
        "4.2",
        "A SIP implementation receiving this request should respond with a 400 Bad Request error.",
    ),
    _passes("port-ambiguous", "4.3", "From a parsing perspective, the request below is well-formed."),
    _passes("port-unambiguous", "4.4", "This REGISTER request is well formatted per the grammar in [RFC3261]."),
    _passes(
        "via-received-param-with-delim",
        "4.5",
        "A SIP implementation receiving either of these messages must parse them successfully.",
    ),
    _passes(
        "via-received-param-no-delim",
        "4.5",
        "A SIP implementation receiving either of these messages must parse them successfully.",
    ),
    _passes(
        "ipv6-in-sdp",
        "4.6",
        "This request below is valid and well-formed according to the grammar in [RFC3261].",
    ),
    _passes(
        "mult-ip-in-header",
        "4.7",
        "The request below is valid and well-formed according to the grammar in [RFC3261].",
    ),
    _passes(
        "mult-ip-in-sdp",
        "4.8",
        "The request below is valid and well-formed according to the grammar in [RFC3261].",
    ),
    _passes(
        "ipv4-mapped-ipv6",
        "4.9",
        "The message below is well-formed according to the grammar in [RFC3261].",
    ),
    _passes(
        "ipv6-bug-abnf-3-colons",
        "4.10",
        "A SIP implementation receiving such a message may exhibit robustness by successfully parsing the IPv6"
        " reference",
    ),
    _passes(
        "ipv6-correct-abnf-2-colons",
        "4.10",
        "The next message has the correct syntax for the IPv6 reference in the R-URI.",
    ),
)

EXPECTATIONS = RFC4475 + RFC5118
