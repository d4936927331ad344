"""Names of header fields and of answers (RFC 3261 §7.3.3, §20, §21 and the IANA SIP parameters)."""

from rollcall.sip.errors import ParseError
from rollcall.sip.grammar import is_token

CONTENT_LENGTH = "content-length"

# Compact forms: RFC 3261 §20, 3265 (o, u), 3515 (r), 3841 (a, d, j), 3892 (b), 4028 (x), 8224 (y), 8262 (n).
_COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": CONTENT_LENGTH,
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}

# Names in the spelling that was received, so that one look-up finds the key. Content-Length is left
# out: it is no field of a Message, and a miss is how the parser notices it.
KEYS: dict[str, str] = {}
_LENGTH_SPELLINGS = frozenset({"Content-Length", "content-length", "Content-length", "CONTENT-LENGTH", "l", "L"})
_MAX_KEYS = 2048
_MAX_KEPT_LENGTH = 64

_USUAL = (
    "Accept", "Accept-Contact", "Accept-Encoding", "Accept-Language", "Alert-Info", "Allow", "Allow-Events",
    "Authentication-Info", "Authorization", "Call-ID", "Call-Info", "Contact", "Content-Disposition",
    "Content-Encoding", "Content-Language", "Content-Type", "CSeq", "Date", "Error-Info", "Event", "Expires",
    "From", "In-Reply-To", "Max-Forwards", "MIME-Version", "Min-Expires", "Organization", "P-Asserted-Identity",
    "P-Preferred-Identity", "Path", "Priority", "Privacy", "Proxy-Authenticate", "Proxy-Authorization",
    "Proxy-Require", "RAck", "Record-Route", "Refer-To", "Referred-By", "Reply-To", "Require", "Retry-After",
    "Route", "RSeq", "Server", "Service-Route", "Session-Expires", "SIP-ETag", "SIP-If-Match", "Subject",
    "Subscription-State", "Supported", "Timestamp", "To", "Unsupported", "User-Agent", "Via", "Warning",
    "WWW-Authenticate",
)


def canonical(name: str) -> str:
    """Return the key of a header: its long name in lower case, for a name in any case or compact form.

    Raises ParseError when `name` is not a token.
    """
    key = KEYS.get(name)
    if key is not None:
        return key
    if name in _LENGTH_SPELLINGS:
        return CONTENT_LENGTH
    if not is_token(name):
        raise ParseError("malformed header name")
    key = name.lower()
    key = _COMPACT.get(key, key)
    if key != CONTENT_LENGTH and len(KEYS) < _MAX_KEYS and len(name) <= _MAX_KEPT_LENGTH:
        KEYS[name] = KEYS.get(key, key)
    return key


def _learn() -> None:
    for name in _USUAL:
        for spelling in (name.lower(), name, name.upper()):
            canonical(spelling)
    for name in _COMPACT:
        canonical(name)
        canonical(name.upper())


_learn()

# RFC 3261 §21, and the RFC in brackets.
REASONS: dict[int, str] = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    199: "Early Dialog Terminated",  # [6228]
    200: "OK",
    202: "Accepted",  # [6665]
    204: "No Notification",  # [5839]
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    412: "Conditional Request Failed",  # [3903]
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    417: "Unknown Resource-Priority",  # [4412]
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",  # [4028]
    423: "Interval Too Brief",
    424: "Bad Location Information",  # [6442]
    425: "Bad Alert Message",  # [8876]
    428: "Use Identity Header",  # [8224]
    429: "Provide Referrer Identity",  # [3892]
    430: "Flow Failed",  # [5626]
    433: "Anonymity Disallowed",  # [5079]
    436: "Bad Identity Info",  # [8224]
    437: "Unsupported Credential",  # [8224]
    438: "Invalid Identity Header",  # [8224]
    439: "First Hop Lacks Outbound Support",  # [5626]
    440: "Max-Breadth Exceeded",  # [5393]
    469: "Bad Info Package",  # [6086]
    470: "Consent Needed",  # [5360]
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",  # [6665]
    491: "Request Pending",
    493: "Undecipherable",
    494: "Security Agreement Required",  # [3329]
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    555: "Push Notification Service Not Supported",  # [8599]
    580: "Precondition Failure",  # [3312]
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
    607: "Unwanted",  # [8197]
    608: "Rejected",  # [8688]
}
