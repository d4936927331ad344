"""What is usual in a REGISTER, part by part: header fields, patterns of their values, limits (RFC 3261 §20, §25.1).

Each pattern is a part of what the whole parser accepts, and means the same there.
"""

import re

from rollcall.sip.errors import ParseError
from rollcall.sip.grammar import TOKEN_CHARS
from rollcall.sip.names import CONTENT_LENGTH, KEYS, canonical

MAX_HEAD_BYTES = 16384
MAX_LINES = 64
MAX_PARAMS = 16
"""Parameters of one URI or of one Contact."""

PATH, OUTBOUND, GRUU = 1, 2, 4
"""The option tags of Supported that mean something to a registrar (RFC 3327, 5626, 5627)."""

OPTIONS = {b"path": PATH, b"outbound": OUTBOUND, b"gruu": GRUU}
MAX_SECONDS = 2**32 - 1
MAX_CSEQ = 2**31 - 1
MAX_HOPS = 255  # Max-Forwards

# All that may not stand in a line. CR and LF are counted: as many as the line ends have.
CONTROLS = bytes([*range(9), *range(10, 32), 127])

# What is looked for; the first five are copied into a response.
VIA, FROM, TO, CALL_ID, CSEQ = range(5)
CONTACT, EXPIRES, HOPS, USER_AGENT, LENGTH, AUTHORIZATION, SUPPORTED = range(5, 12)
IGNORED, UNUSUAL = 12, 13
_KIND_OF = {
    "via": VIA, "from": FROM, "to": TO, "call-id": CALL_ID, "cseq": CSEQ, "contact": CONTACT,
    "expires": EXPIRES, "max-forwards": HOPS, "user-agent": USER_AGENT, CONTENT_LENGTH: LENGTH,
    "authorization": AUTHORIZATION, "supported": SUPPORTED,
    "require": UNUSUAL, "proxy-require": UNUSUAL, "path": UNUSUAL, "route": UNUSUAL, "record-route": UNUSUAL,
}
MANDATORY = {VIA, FROM, TO, CALL_ID, CSEQ, CONTACT}
_MAX_KINDS = 2048
_MAX_KEPT_LENGTH = 64
KINDS: dict[bytes, int] = {name.encode(): _KIND_OF.get(key, IGNORED) for name, key in KEYS.items()}

_TOKEN = TOKEN_CHARS.encode()
_UNRESERVED = rb"\-A-Za-z0-9_.!~*'()"
# A value as in _PLAIN_PARAMS of the grammar has it, in ASCII.
_VALUE = rb"[!#-+\-./0-:=?-~]"
_QUOTABLE = rb"[ !#-\[\]-~]"
_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rb"%s(?:\.%s){3}(?![A-Za-z0-9._-])" % (_OCTET, _OCTET)
_HOST_NAME = rb"(?:[A-Za-z0-9_-]++\.)*[A-Za-z_][A-Za-z0-9_-]*+"
_IPV6 = rb"\[[0-9A-Fa-f:]+\]"
_PORT = rb"(?::([1-9][0-9]{0,4}))?"
_DISPLAY = rb'(?:"[^"\\]*+"[ \t]*+|[%s \t\x80-\xff]*+)' % _TOKEN

REQUEST_LINE = re.compile(
    rb"REGISTER (sip:((?:%s|%s|%s))%s) SIP/2\.0" % (_IPV4, _HOST_NAME, _IPV6, _PORT)
)
VIA_VALUE = re.compile(
    rb"SIP/2\.0/[A-Z0-9]+ ([A-Za-z0-9_][A-Za-z0-9_.-]*+|\[[0-9A-Fa-f:.]+\])%s"
    rb"((?>(?:;(?:branch=(z9hG4bK%s++)|(rport)|(alias))(?![^;]))+))" % (_PORT, _VALUE)
)
FROM_VALUE = re.compile(
    rb'(?:%s<[A-Za-z][A-Za-z0-9+.-]*+:[^\x00-\x20\x7f<>"]++>|[A-Za-z][A-Za-z0-9+.-]*+:[^\x00-\x20\x7f<>",;?]++)'
    rb';tag=[^\x00-\x20\x7f";,<>]++' % _DISPLAY
)
TO_VALUE = re.compile(
    rb"%s<sip:([%s&=+$,;?/]++)@([A-Za-z0-9_.:\[\]-]++)>|sip:([%s&=+$/]++)@([A-Za-z0-9_.:\[\]-]++)"
    % (_DISPLAY, _UNRESERVED, _UNRESERVED)
)
CSEQ_VALUE = re.compile(rb"([0-9]{1,10}) REGISTER")
CALL_ID_VALUE = re.compile(rb"[!-~]+")
CONTACT_VALUE = re.compile(rb'%s<(sip:[!#-;=?-~]++)>([ -~]*+)|(sip:[!#-+\--:=@-~]++)' % _DISPLAY)
URI = re.compile(
    rb"sip:(?:[%s%%&=+$,;?/#]++@)?(?:%s|%s|(%s))%s"
    rb"((?>(?:;[%s\[\]/:&+$]++(?>(?:=[%s%%\[\]/:&+$]*+)?))*))"
    % (_UNRESERVED, _IPV4, _HOST_NAME, _IPV6, _PORT, _UNRESERVED, _UNRESERVED)
)
# What most phones write, so that one look is enough.
PLAIN_CONTACT = re.compile(
    rb"%s<(sip:[%s&=+$,;?/#]++@(?:%s|%s)%s(?:;transport=[a-z]++)?)>(?:;expires=([0-9]{1,9})|(;[ -~]++))?"
    % (_DISPLAY, _UNRESERVED, _IPV4, _HOST_NAME, _PORT)
)
BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NAME = TOKEN_CHARS.replace("A-Z", "").encode()
CONTACT_PARAM = re.compile(rb';([%s]++)((?>(?:=(?:[%s]++|"%s*+"))?))' % (_NAME, _TOKEN, _QUOTABLE))
CONTACT_PARAMS = re.compile(rb"(?>(?:%s)*)" % CONTACT_PARAM.pattern)
REPORTED_OTHERWISE = frozenset({b"q", b"pub-gruu", b"temp-gruu"})
DIGITS = re.compile(rb"[0-9]{1,10}")
ZERO = re.compile(rb"0{1,10}")
FEW_DIGITS = re.compile(rb"[0-9]{1,3}")
OPTION_TAGS = re.compile(rb"(?:[%s]++(?>(?:[ \t]*+,[ \t]*+[%s]++)*))?" % (_TOKEN, _TOKEN))

_QUOTED = rb'"(%s++)"' % _QUOTABLE
CREDENTIALS = re.compile(
    rb"[Dd]igest ++(?>(?:(?:username=%s|realm=%s|nonce=%s|uri=%s|response=%s|cnonce=%s|nc=([0-9A-Fa-f]{1,8})"
    rb'|qop=(auth|"auth")|algorithm=([Mm][Dd]5)|opaque="(%s*+)")'
    rb" *+(?:, *+(?=[a-z])|\Z))+)" % (_QUOTED, _QUOTED, _QUOTED, _QUOTED, _QUOTED, _QUOTED, _QUOTABLE)
)


def kind_of(name: bytes) -> int:
    """Return the kind of a header whose name is written in a rare way, is not known, or is none."""
    kind = KINDS.get(name)
    if kind is not None:
        return kind
    try:
        key = canonical(name.decode("latin-1"))
    except ParseError:
        return UNUSUAL
    kind = _KIND_OF.get(key, IGNORED)
    if len(KINDS) < _MAX_KINDS and len(name) <= _MAX_KEPT_LENGTH:
        KINDS[name] = kind
    return kind
