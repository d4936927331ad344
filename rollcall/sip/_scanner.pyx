"""The scanner, compiled (RFC 3261 §7, §10.2, §20, §25.1): plain_scanner.py says the same in Python, pattern by pattern.

One pass over the bytes. Each function reads from `p` up to `end` and never beyond; what it finds are places in the
data, which the register holds, and become objects when somebody asks.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint16_t, uint64_t
from cpython.ref cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memchr, memcmp, memcpy, strlen

from rollcall.sip.errors import ParseError
from rollcall.sip.names import CONTENT_LENGTH, KEYS, canonical
from rollcall.sip.plain_scanner import GRUU as _GRUU
from rollcall.sip.plain_scanner import MAX_HEAD_BYTES as _MAX_HEAD_BYTES
from rollcall.sip.plain_scanner import MAX_LINES as _MAX_LINES
from rollcall.sip.plain_scanner import MAX_PARAMS as _MAX_PARAMS
from rollcall.sip.plain_scanner import OUTBOUND as _OUTBOUND
from rollcall.sip.plain_scanner import PATH as _PATH
from rollcall.sip.plain_scanner import canonical_ipv6, is_same_host

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void* PyUnicode_DATA(object text)

cdef extern from "<sys/socket.h>" nogil:
    int AF_INET6

cdef extern from "<arpa/inet.h>" nogil:
    const char* inet_ntop(int family, const void* source, char* target, unsigned int size)


ctypedef const uint8_t* Place

cdef struct Span:
    Place p
    Py_ssize_t size

cdef struct Line:
    int kind
    Span name
    Span value

# What is looked for; the first five are copied into a response.
cdef enum:
    VIA, FROM, TO, CALL_ID, CSEQ, CONTACT, EXPIRES, HOPS, USER_AGENT, LENGTH, AUTHORIZATION, SUPPORTED, IGNORED, UNUSUAL

cdef enum:
    COPIED = 5
    MANDATORY = (1 << 6) - 1
    PARAMS_ROOM = 16

cdef enum:
    USERNAME, REALM, NONCE, URI, RESPONSE, CNONCE, NC, QOP, ALGORITHM, OPAQUE, UNKNOWN

cdef enum:
    CREDENTIALS = 7
    NEEDED = (1 << 8) - 1

cdef struct Found:
    unsigned int seen
    int line_count
    Line lines[COPIED]
    Span request_uri
    Span host
    Span place
    Span user
    Span call_id
    Span user_agent
    Span contact
    Span params
    Span via_host
    Span sent_by
    Span branch
    Place after_rport
    Span credentials[CREDENTIALS]
    int via_port
    int supported
    int has_instance
    int64_t cseq
    int64_t asked
    int64_t asked_in_header

cdef enum:
    MAX_PORT = 65535
    MAX_HOPS = 255

cdef int64_t MAX_SECONDS = 4294967295
cdef int64_t MAX_CSEQ = 2147483647
cdef Py_ssize_t MAX_HEAD_BYTES = _MAX_HEAD_BYTES
cdef int MAX_LINES = _MAX_LINES
cdef int MAX_PARAMS = _MAX_PARAMS
cdef int PATH = _PATH
cdef int OUTBOUND = _OUTBOUND
cdef int GRUU = _GRUU

assert MAX_PARAMS <= PARAMS_ROOM

# The classes of characters, one bit for each.
cdef enum:
    TOKEN = 1
    NAME = 2  # of a parameter: a token in lower case
    USER = 4
    PARAM = 8  # of a URI
    VALUE = 16  # of a parameter of Via
    HOST = 32  # with underscore, as real hosts have it
    URI_TEXT = 64  # all that may stand in an address
    DISPLAY = 128
    HEX = 256
    QUOTABLE = 512  # without escape
    TAG = 1024
    SCHEME = 2048
    UPPER = 4096  # and digits, for the transport in Via
    DIGIT = 8192
    ALPHA = 16384

cdef uint16_t[256] CLASSES


cdef void _classify(bytes chars, int bits):
    for char in chars:
        CLASSES[<uint8_t>char] |= <uint16_t>bits


def _fill_classes():
    digits, lower = b"0123456789", b"abcdefghijklmnopqrstuvwxyz"
    upper, visible = lower.upper(), bytes(range(0x21, 0x7F))
    beyond = bytes(range(0x80, 0x100))
    letters = lower + upper
    unreserved = letters + digits + b"-_.!~*'()"
    token = letters + digits + b"-.!%*_+`'~"
    _classify(token, TOKEN)
    _classify(token.translate(None, upper), NAME)
    _classify(unreserved + b"&=+$,;?/", USER)
    _classify(unreserved + b"%[]/:&+$", PARAM)
    _classify(visible.translate(None, b'",;<>'), VALUE)
    _classify(letters + digits + b"_.-", HOST)
    _classify(visible.translate(None, b'<>"') + beyond, URI_TEXT)
    _classify(token + b" \t" + beyond, DISPLAY)
    _classify(digits + b"abcdefABCDEF", HEX)
    _classify((b" " + visible).translate(None, b'"\\'), QUOTABLE)
    _classify(visible.translate(None, b'",;<>') + beyond, TAG)
    _classify(letters + digits + b"+.-", SCHEME)
    _classify(upper + digits, UPPER)
    _classify(digits, DIGIT)
    _classify(letters, ALPHA)


_fill_classes()


cdef inline bint is_in(uint8_t char, int classes) noexcept nogil:
    return CLASSES[char] & classes != 0


cdef inline Place skip(Place p, Place end, int classes) noexcept nogil:
    """Return where the run of characters of these classes ends."""
    while p < end and CLASSES[p[0]] & classes:
        p += 1
    return p


cdef inline bint begins(Place p, Place end, const char* text, Py_ssize_t size) noexcept nogil:
    return end - p >= size and memcmp(p, text, size) == 0


cdef inline bint is_text(Place p, Py_ssize_t size, const char* text, Py_ssize_t its_size) noexcept nogil:
    return size == its_size and memcmp(p, text, size) == 0


cdef inline bint is_name(Place p, const char* name, Py_ssize_t size) noexcept nogil:
    """Compare a token with a name of lower-case letters and hyphens, which no other character becomes by this bit."""
    cdef Py_ssize_t i
    for i in range(size):
        if (p[i] | 0x20) != <uint8_t>name[i]:
            return False
    return True


cdef inline uint8_t lower(uint8_t char) noexcept nogil:
    return char | 0x20 if c'A' <= char <= c'Z' else char


cdef bint is_same(Place p, Place q, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        if p[i] != q[i] and lower(p[i]) != lower(q[i]):
            return False
    return True


cdef inline void keep(Span* span, Place p, Place end) noexcept nogil:
    span.p = p
    span.size = end - p


cdef int64_t number(Place p, Place end, int most_digits, int64_t most) noexcept nogil:
    """Return the number that fills the text, at most `most`; -1 when there is none."""
    cdef int64_t value = 0
    if end - p > most_digits or p == end:
        return -1
    while p < end:
        if not is_in(p[0], DIGIT):
            return -1
        value = value * 10 + (p[0] - c'0')
        p += 1
    return value if value <= most else -1


cdef Place line_end(Place p, Place end) noexcept nogil:
    """Return where the first control character other than HT stands, `end` when there is none."""
    cdef uint64_t word, other
    cdef int i
    while end - p >= 8:
        memcpy(&word, p, 8)
        other = word ^ <uint64_t>0x7F7F7F7F7F7F7F7F
        # One bit for each byte below 0x20, and for each that is 0x7F; at least the first of each is exact.
        if (((word - <uint64_t>0x2020202020202020) & ~word) | ((other - <uint64_t>0x0101010101010101) & ~other)) \
                & <uint64_t>0x8080808080808080:
            for i in range(8):
                if (p[i] < 0x20 and p[i] != c'\t') or p[i] == 0x7F:
                    return p + i
        p += 8
    while p < end and ((p[0] >= 0x20 and p[0] != 0x7F) or p[0] == c'\t'):
        p += 1
    return p


# --- hosts ---------------------------------------------------------------------------------------------------------

cdef bint is_ipv4(Place p, Place end) noexcept nogil:
    cdef int octets = 0
    cdef int value
    cdef Place first
    while True:
        first = p
        value = 0
        while p < end and is_in(p[0], DIGIT) and p - first < 3:
            value = value * 10 + (p[0] - c'0')
            p += 1
        if p == first or value > 255 or (first[0] == c'0' and p - first > 1):
            return False
        octets += 1
        if p == end:
            return octets == 4
        if p[0] != c'.' or octets == 4:
            return False
        p += 1


cdef bint is_host(Place p, Place end) noexcept nogil:
    """Judge a run of HOST: labels that are not empty, the last of which begins with a letter; or an IPv4 address."""
    cdef Place label = p
    cdef Place first = p
    while p < end:
        if p[0] == c'.':
            if p == label:
                return False
            label = p + 1
        p += 1
    if label == end:
        return False
    return is_in(label[0], ALPHA) or label[0] == c'_' or is_ipv4(first, end)


cdef bint is_ipv6(Place p, Place end) noexcept nogil:
    """Judge what stands between brackets: eight groups of hexadecimal digits, "::" for one or more of them."""
    cdef int groups = 0
    cdef bint shortened = False
    cdef Place first
    if end - p >= 2 and p[0] == c':' and p[1] == c':':
        shortened = True
        p += 2
    while p < end:
        first = p
        p = skip(p, end, HEX)
        if p == first or p - first > 4:
            return False
        groups += 1
        if p == end:
            break
        if p[0] != c':':
            return False
        p += 1
        if p == end:
            return False
        if p[0] == c':':
            if shortened:
                return False
            shortened = True
            p += 1
    return groups <= 7 if shortened else groups == 8


cdef Place skip_port(Place p, Place end, int* port) noexcept nogil:
    """Return where ":" and a port end, if they are there; NULL when the port is none."""
    cdef Place first
    cdef int64_t value
    port[0] = 0
    if p == end or p[0] != c':':
        return p
    first = p + 1
    p = skip(first, end, DIGIT)
    value = number(first, p, 5, MAX_PORT)
    if value < 0 or first[0] == c'0':
        return NULL
    port[0] = <int>value
    return p


cdef bint read_request_line(Found* found, Place p, Place end) noexcept nogil:
    cdef int port
    cdef Place first
    p += 9  # "REGISTER "
    found.request_uri.p = p
    p += 4  # "sip:"
    found.place.p = first = p
    if p < end and p[0] == c'[':
        p = skip(p + 1, end, HEX | HOST)
        while p < end and (p[0] == c':' or is_in(p[0], HEX)):
            p += 1
        if p == end or p[0] != c']':
            return False
        p += 1
    else:
        p = skip(p, end, HOST)
        if not is_host(first, p):
            return False
    keep(&found.host, first, p)
    p = skip_port(p, end, &port)
    if p == NULL:
        return False
    found.place.size = p - found.place.p
    found.request_uri.size = p - found.request_uri.p
    return end - p == 8 and memcmp(p, b" SIP/2.0", 8) == 0


# --- the values of header fields -----------------------------------------------------------------------------------

cdef bint read_via(Found* found, Place p, Place end) noexcept nogil:
    cdef Place first, value
    cdef bint has_alias = False
    if not begins(p, end, b"SIP/2.0/", 8):
        return False
    first = p + 8
    p = skip(first, end, UPPER)
    if p == first or p == end or p[0] != c' ':
        return False
    p += 1
    first = p
    if p < end and p[0] == c'[':
        p += 1
        while p < end and (is_in(p[0], HEX) or p[0] == c':' or p[0] == c'.'):
            p += 1
        if p == end or p[0] != c']' or p - first == 1:
            return False
        p += 1
    else:
        p = skip(p, end, HOST)
        if p == first or first[0] == c'.' or first[0] == c'-':
            return False
    keep(&found.via_host, first, p)
    p = skip_port(p, end, &found.via_port)
    if p == NULL or p == end:
        return False
    keep(&found.sent_by, first, p)
    while p < end:
        if p[0] != c';':
            return False
        p += 1
        if begins(p, end, b"branch=z9hG4bK", 14) and found.branch.p == NULL:
            value = p + 7
            p = skip(value, end, VALUE)
            keep(&found.branch, value, p)
            if found.branch.size == 7:
                return False
        elif begins(p, end, b"rport", 5) and found.after_rport == NULL:
            p += 5
            found.after_rport = p
        elif begins(p, end, b"alias", 5) and not has_alias:
            p += 5
            has_alias = True
        else:
            return False
    return found.branch.p != NULL


cdef Place skip_display(Place p, Place end) noexcept nogil:
    """Return where the "<" after a display name stands, NULL when there is none."""
    if p < end and p[0] == c'"':
        p += 1
        while p < end and p[0] != c'"' and p[0] != c'\\':
            p += 1
        if p == end or p[0] != c'"':
            return NULL
        p += 1
        while p < end and (p[0] == c' ' or p[0] == c'\t'):
            p += 1
    else:
        p = skip(p, end, DISPLAY)
    return p if p < end and p[0] == c'<' else NULL


cdef bint is_from(Place p, Place end) noexcept nogil:
    cdef Place first
    cdef Place bracket = skip_display(p, end)
    if bracket != NULL:
        p = bracket + 1
    if p == end or not is_in(p[0], ALPHA):
        return False
    p = skip(p, end, SCHEME)
    if p == end or p[0] != c':':
        return False
    first = p + 1
    if bracket != NULL:
        p = skip(first, end, URI_TEXT)
        if p == first or p == end or p[0] != c'>':
            return False
        p += 1
    else:
        p = first
        while p < end and is_in(p[0], URI_TEXT) and p[0] != c',' and p[0] != c';' and p[0] != c'?':
            p += 1
        if p == first:
            return False
    if not begins(p, end, b";tag=", 5):
        return False
    first = p + 5
    p = skip(first, end, TAG)
    return p == end and p > first


cdef bint read_to(Found* found, Place p, Place end) noexcept nogil:
    cdef Place user
    cdef Place bracket = skip_display(p, end)
    if bracket != NULL:
        p = bracket + 1
        end -= 1
        if end[0] != c'>':
            return False
    if not begins(p, end, b"sip:", 4):
        return False
    user = p + 4
    p = skip(user, end, USER)
    if p == user or p == end or p[0] != c'@':
        return False
    keep(&found.user, user, p)
    p += 1
    if end - p != found.place.size or not is_same(p, found.place.p, found.place.size):
        return False
    return bracket != NULL or has_no_separator(user, found.user.p + found.user.size)


cdef bint has_no_separator(Place p, Place end) noexcept nogil:
    """Say whether there is nothing that an address without <> cannot hold (§20)."""
    while p < end:
        if p[0] == c',' or p[0] == c';' or p[0] == c'?':
            return False
        p += 1
    return True


cdef bint read_contact(Found* found, Place p, Place end) noexcept nogil:
    cdef Place uri_end
    cdef Place bracket = skip_display(p, end)
    if bracket != NULL:
        p = bracket + 1
    uri_end = skip_uri(p, end)
    if uri_end == NULL:
        return False
    keep(&found.contact, p, uri_end)
    if bracket == NULL:
        return uri_end == end and has_no_separator(p, end)
    if uri_end == end or uri_end[0] != c'>':
        return False
    return read_params(found, uri_end + 1, end)


cdef Place skip_uri(Place p, Place end) noexcept nogil:
    """Return where a well-formed sip: URI without password and headers ends, NULL when there is none."""
    cdef Place first = p
    cdef Place place
    cdef int port
    if not begins(p, end, b"sip:", 4):
        return NULL
    p += 4
    place = p
    while place < end and (is_in(place[0], USER) or place[0] == c'%' or place[0] == c'#'):
        place += 1
    if place < end and place[0] == c'@':
        if place == p:
            return NULL
        p = place + 1
    place = p
    if p < end and p[0] == c'[':
        p += 1
        while p < end and (is_in(p[0], HEX) or p[0] == c':'):
            p += 1
        if p == end or p[0] != c']' or not is_ipv6(place + 1, p):
            return NULL
        p += 1
    else:
        p = skip(p, end, HOST)
        if not is_host(place, p):
            return NULL
    p = skip_port(p, end, &port)
    if p != NULL:
        p = skip_uri_params(p, end)
    return p if p != NULL and has_good_escapes(first, p) else NULL


cdef Place skip_uri_params(Place p, Place end) noexcept nogil:
    cdef Span[PARAMS_ROOM] names
    cdef int count = 0
    cdef int i
    cdef Place first
    while p < end and p[0] == c';':
        if count == MAX_PARAMS:
            return NULL
        first = p + 1
        p = skip(first, end, PARAM)
        if p == first:
            return NULL
        keep(&names[count], first, p)
        for i in range(names[count].size):
            if first[i] == c'%':
                return NULL
        for i in range(count):
            if names[i].size == names[count].size and is_same(names[i].p, first, names[i].size):
                return NULL
        count += 1
        if p < end and p[0] == c'=':
            p = skip(p + 1, end, PARAM)
    return p


cdef bint has_good_escapes(Place p, Place end) noexcept nogil:
    while p < end:
        if p[0] == c'%':
            if end - p < 3 or not is_in(p[1], HEX) or not is_in(p[2], HEX):
                return False
        p += 1
    return True


cdef bint read_params(Found* found, Place p, Place end) noexcept nogil:
    """Read the parameters of Contact: `expires` is the first or the last of them, or is not there."""
    cdef Span[PARAMS_ROOM] names
    cdef int count = 0
    cdef int expires = -1
    cdef int i
    cdef Py_ssize_t size
    cdef Place start = p
    cdef Place whole, first, value
    cdef Place from_here = NULL
    cdef Place up_to = NULL
    while p < end:
        whole = p
        if p[0] != c';' or count == MAX_PARAMS:
            return False
        first = p + 1
        p = skip(first, end, NAME)
        size = p - first
        if size == 0:
            return False
        for i in range(count):
            if names[i].size == size and memcmp(names[i].p, first, size) == 0:
                return False
        keep(&names[count], first, p)
        value = p
        if p < end and p[0] == c'=':
            value = p + 1
            p = skip_value(value, end)
            if p == NULL:
                return False
        if is_text(first, size, b"expires", 7):
            found.asked = number(value, p, 10, MAX_SECONDS)
            if found.asked < 0:
                return False
            expires = count
            from_here = whole
            up_to = p
        elif is_text(first, size, b"+sip.instance", 13) or is_text(first, size, b"reg-id", 6):
            found.has_instance = True
        elif is_text(first, size, b"q", 1) or is_text(first, size, b"pub-gruu", 8) \
                or is_text(first, size, b"temp-gruu", 9):
            return False
        count += 1
    if expires < 0:
        keep(&found.params, start, end)
    elif expires == count - 1:
        keep(&found.params, start, from_here)
    elif expires == 0:
        keep(&found.params, up_to, end)
    else:
        return False
    return True


cdef Place skip_value(Place p, Place end) noexcept nogil:
    """Return where a token or a quoted string without escapes ends, NULL when there is neither."""
    cdef Place first = p
    if p < end and p[0] == c'"':
        p = skip(p + 1, end, QUOTABLE)
        return p + 1 if p < end and p[0] == c'"' else NULL
    p = skip(p, end, TOKEN)
    return p if p > first else NULL


cdef bint read_supported(Found* found, Place p, Place end) noexcept nogil:
    cdef Place first
    cdef Py_ssize_t size
    while p < end:
        first = p
        p = skip(p, end, TOKEN)
        size = p - first
        if size == 0:
            return False
        if size == 4 and is_name(first, b"path", 4):
            found.supported |= PATH
        elif size == 8 and is_name(first, b"outbound", 8):
            found.supported |= OUTBOUND
        elif size == 4 and is_name(first, b"gruu", 4):
            found.supported |= GRUU
        p = skip_blanks(p, end)
        if p == end:
            return True
        if p[0] != c',':
            return False
        p = skip_blanks(p + 1, end)
        if p == end:
            return False
    return True


cdef inline Place skip_blanks(Place p, Place end) noexcept nogil:
    while p < end and (p[0] == c' ' or p[0] == c'\t'):
        p += 1
    return p


cdef bint read_cseq(Found* found, Place p, Place end) noexcept nogil:
    if end - p < 10 or memcmp(end - 9, b" REGISTER", 9) != 0:
        return False
    found.cseq = number(p, end - 9, 10, MAX_CSEQ)
    return found.cseq >= 0


cdef bint read_call_id(Found* found, Place p, Place end) noexcept nogil:
    keep(&found.call_id, p, end)
    while p < end:
        if not 0x21 <= p[0] <= 0x7E:
            return False
        p += 1
    return found.call_id.size > 0


cdef bint is_zero(Place p, Place end) noexcept nogil:
    return number(p, end, 10, 0) == 0


# --- credentials ---------------------------------------------------------------------------------------------------

cdef bint read_credentials(Found* found, Place p, Place end) noexcept nogil:
    """Read Digest credentials, in ASCII and without escapes (digest.parse_credentials calls them usual, too)."""
    cdef unsigned int seen = 0
    cdef int name
    cdef Place first
    if end - p < 7 or (p[0] | 0x20) != c'd' or memcmp(p + 1, b"igest ", 6) != 0:
        return False
    p = skip_spaces(p + 7, end)
    while True:
        first = p
        while p < end and c'a' <= p[0] <= c'z':
            p += 1
        name = credentials_name(first, p - first)
        if name == UNKNOWN or seen & (1 << name) or p == end or p[0] != c'=':
            return False
        seen |= 1 << name
        p = read_credential(found, name, p + 1, end)
        if p == NULL:
            return False
        p = skip_spaces(p, end)
        if p == end:
            return seen & NEEDED == NEEDED
        if p[0] != c',':
            return False
        p = skip_spaces(p + 1, end)


cdef inline Place skip_spaces(Place p, Place end) noexcept nogil:
    while p < end and p[0] == c' ':
        p += 1
    return p


cdef int credentials_name(Place p, Py_ssize_t size) noexcept nogil:
    if size == 8:
        if memcmp(p, b"username", 8) == 0:
            return USERNAME
        return RESPONSE if memcmp(p, b"response", 8) == 0 else UNKNOWN
    if size == 5:
        if memcmp(p, b"realm", 5) == 0:
            return REALM
        return NONCE if memcmp(p, b"nonce", 5) == 0 else UNKNOWN
    if size == 6:
        if memcmp(p, b"cnonce", 6) == 0:
            return CNONCE
        return OPAQUE if memcmp(p, b"opaque", 6) == 0 else UNKNOWN
    if size == 3:
        if memcmp(p, b"uri", 3) == 0:
            return URI
        return QOP if memcmp(p, b"qop", 3) == 0 else UNKNOWN
    if size == 2:
        return NC if memcmp(p, b"nc", 2) == 0 else UNKNOWN
    if size == 9:
        return ALGORITHM if memcmp(p, b"algorithm", 9) == 0 else UNKNOWN
    return UNKNOWN


cdef Place read_credential(Found* found, int name, Place p, Place end) noexcept nogil:
    """Return where the value of a parameter ends, NULL when it is unusual."""
    cdef Place first = p
    if name == NC:
        p = skip(p, end, HEX)
        keep(&found.credentials[NC], first, p)
        return p if 0 < p - first <= 8 else NULL
    if name == ALGORITHM:
        if end - p < 3 or (p[0] | 0x20) != c'm' or (p[1] | 0x20) != c'd' or p[2] != c'5':
            return NULL
        return p + 3
    if name == QOP:
        if begins(p, end, b'"auth"', 6):
            return p + 6
        return p + 4 if begins(p, end, b"auth", 4) else NULL
    if p == end or p[0] != c'"':
        return NULL
    p = skip(p + 1, end, QUOTABLE)
    if p == end or p[0] != c'"':
        return NULL
    if name == OPAQUE:
        return p + 1
    keep(&found.credentials[name], first + 1, p)
    return p + 1 if p - first > 1 else NULL


# --- lines ---------------------------------------------------------------------------------------------------------

cdef int kind_of(Place p, Py_ssize_t size) noexcept nogil:
    """Return what a header is, by its name or its compact form."""
    cdef uint8_t first = p[0] | 0x20
    if size == 1:
        if first == c'v':
            return VIA
        if first == c'f':
            return FROM
        if first == c't':
            return TO
        if first == c'i':
            return CALL_ID
        if first == c'm':
            return CONTACT
        if first == c'l':
            return LENGTH
        if first == c'k':
            return SUPPORTED
    elif size == 2:
        if is_name(p, b"to", 2):
            return TO
    elif size == 3:
        if is_name(p, b"via", 3):
            return VIA
    elif size == 4:
        if is_name(p, b"from", 4):
            return FROM
        if is_name(p, b"cseq", 4):
            return CSEQ
        if is_name(p, b"path", 4):
            return UNUSUAL
    elif size == 5:
        if is_name(p, b"route", 5):
            return UNUSUAL
    elif size == 7:
        if is_name(p, b"call-id", 7):
            return CALL_ID
        if is_name(p, b"contact", 7):
            return CONTACT
        if is_name(p, b"expires", 7):
            return EXPIRES
        if is_name(p, b"require", 7):
            return UNUSUAL
    elif size == 9:
        if is_name(p, b"supported", 9):
            return SUPPORTED
    elif size == 10:
        if is_name(p, b"user-agent", 10):
            return USER_AGENT
    elif size == 12:
        if is_name(p, b"max-forwards", 12):
            return HOPS
        if is_name(p, b"record-route", 12):
            return UNUSUAL
    elif size == 13:
        if is_name(p, b"authorization", 13):
            return AUTHORIZATION
        if is_name(p, b"proxy-require", 13):
            return UNUSUAL
    elif size == 14:
        if is_name(p, b"content-length", 14):
            return LENGTH
    return IGNORED


cdef bint read_value(Found* found, int kind, Place p, Place end) noexcept nogil:
    """Read the trimmed value of a header."""
    if kind == VIA:
        return read_via(found, p, end)
    if kind == FROM:
        return is_from(p, end)
    if kind == TO:
        return read_to(found, p, end)
    if kind == CALL_ID:
        return read_call_id(found, p, end)
    if kind == CSEQ:
        return read_cseq(found, p, end)
    if kind == CONTACT:
        return read_contact(found, p, end)
    if kind == EXPIRES:
        found.asked_in_header = number(p, end, 10, MAX_SECONDS)
        return found.asked_in_header >= 0
    if kind == HOPS:
        return number(p, end, 3, MAX_HOPS) >= 0
    if kind == USER_AGENT:
        keep(&found.user_agent, p, end)
        return True
    if kind == LENGTH:
        return is_zero(p, end)
    if kind == AUTHORIZATION:
        return read_credentials(found, p, end)
    return read_supported(found, p, end)


cdef bint read_line(Found* found, Place p, Place end) noexcept nogil:
    """Read one header line."""
    cdef Place name = p
    cdef Place name_end
    cdef int kind
    cdef Line* line
    name_end = p = skip(p, end, TOKEN)
    if p == name:
        return False
    p = skip_blanks(p, end)
    if p == end or p[0] != c':':
        return False
    kind = kind_of(name, name_end - name)
    if kind == IGNORED:
        return True
    if kind == UNUSUAL or found.seen & (1 << kind):
        return False
    found.seen |= 1 << kind
    p = skip_blanks(p + 1, end)
    while end > p and ((end - 1)[0] == c' ' or (end - 1)[0] == c'\t'):
        end -= 1
    if kind < COPIED:
        line = &found.lines[found.line_count]
        found.line_count += 1
        line.kind = kind
        keep(&line.name, name, name_end)
        keep(&line.value, p, end)
    return read_value(found, kind, p, end)


cdef Place read_message(Found* found, Place p, Place end) noexcept nogil:
    """Return where the message ends, NULL when it is unusual."""
    cdef Place first, head_end
    cdef int count = 0
    head_end = end if end - p <= MAX_HEAD_BYTES else p + MAX_HEAD_BYTES
    found.asked = found.asked_in_header = -1
    while True:
        first = p
        p = line_end(p, head_end)
        if not begins(p, head_end, b"\r\n", 2):
            return NULL
        if p == first:
            break
        if count == MAX_LINES:
            return NULL
        if not (read_line(found, first, p) if count else read_request_line(found, first, p)):
            return NULL
        count += 1
        p += 2
    p += 2
    if found.seen & MANDATORY != MANDATORY:
        return NULL
    if not found.seen & (1 << LENGTH) and p != end:
        return NULL
    return p


# --- what is found -------------------------------------------------------------------------------------------------

cdef inline bytes text(Span* span):
    return PyBytes_FromStringAndSize(<const char*>span.p, span.size)


cdef inline char* put(char* p, const void* source, Py_ssize_t size) noexcept nogil:
    memcpy(p, source, size)
    return p + size


cdef inline char* put_number(char* p, unsigned int value) noexcept nogil:
    """Write a number of at most five digits."""
    cdef unsigned int unit = 1
    while value // unit >= 10:
        unit *= 10
    while unit:
        p[0] = <char>(c'0' + value // unit % 10)
        p += 1
        unit //= 10
    return p


cdef Py_ssize_t write_host(char* target, bytes address) except -1:
    """Write the host of a packed address into 46 bytes at `target`, and return how many it took."""
    cdef Place packed = <Place>PyBytes_AS_STRING(address) + 2
    cdef Py_ssize_t size = PyBytes_GET_SIZE(address) - 2
    cdef char* p = target
    cdef int i
    if size == 4:
        for i in range(4):
            if i:
                p = put(p, b".", 1)
            p = put_number(p, packed[i])
        return p - target
    if size != 16 or inet_ntop(AF_INET6, packed, target, 46) == NULL:
        raise ValueError("a packed address has 6 or 18 bytes")
    return strlen(target)


cdef inline char* put_lower(char* p, Span* span) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(span.size):
        p[i] = <char>lower(span.p[i])
    return p + span.size


cdef bytes OK = b"SIP/2.0 200 OK"


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class CompiledRegister:
    """A usual REGISTER; see `scanner.UsualRegister`."""

    cdef bytes data
    cdef Found found
    cdef readonly Py_ssize_t end

    @property
    def has_length(self):
        return self.found.seen & (1 << LENGTH) != 0

    @property
    def request_uri(self):
        return text(&self.found.request_uri)

    @property
    def user(self):
        return text(&self.found.user)

    @property
    def host(self):
        cdef bytes host = PyBytes_FromStringAndSize(NULL, self.found.host.size)
        put_lower(PyBytes_AS_STRING(host), &self.found.host)
        return host

    @property
    def call_id(self):
        return text(&self.found.call_id)

    @property
    def cseq(self):
        return self.found.cseq

    @property
    def user_agent(self):
        return text(&self.found.user_agent)

    @property
    def contact(self):
        return text(&self.found.contact)

    @property
    def params(self):
        return text(&self.found.params)

    @property
    def expires(self):
        return self.found.asked if self.found.asked >= 0 else self.found.asked_in_header

    @property
    def identity(self):
        cdef Span* contact = &self.found.contact
        cdef Span* params = &self.found.params
        cdef Span* call_id = &self.found.call_id
        cdef bytes identity = PyBytes_FromStringAndSize(NULL, contact.size + params.size + call_id.size + 2)
        cdef char* p = PyBytes_AS_STRING(identity)
        p = put(p, contact.p, contact.size)
        p = put(p, b"\0", 1)
        if params.size:
            p = put(p, params.p, params.size)
        p = put(p, b"\0", 1)
        put(p, call_id.p, call_id.size)
        return identity

    @property
    def is_plain(self):
        return not self.found.has_instance

    @property
    def supported(self):
        return self.found.supported

    @property
    def transaction_key(self):
        cdef Span* branch = &self.found.branch
        cdef Span* sent_by = &self.found.sent_by
        key = PyUnicode_New(branch.size + sent_by.size + 10, 127)
        cdef char* p = <char*>PyUnicode_DATA(key)
        p = put(p, branch.p, branch.size)
        p = put(p, b" ", 1)
        p = put_lower(p, sent_by)
        put(p, b" REGISTER", 9)
        return key

    @property
    def wants_rport(self):
        return self.found.after_rport != NULL

    @property
    def via_host(self):
        return text(&self.found.via_host)

    @property
    def via_port(self):
        return self.found.via_port

    @property
    def has_credentials(self):
        return self.found.seen & (1 << AUTHORIZATION) != 0

    @property
    def username(self):
        return text(&self.found.credentials[USERNAME])

    @property
    def realm(self):
        return text(&self.found.credentials[REALM])

    @property
    def nonce(self):
        return text(&self.found.credentials[NONCE])

    @property
    def uri(self):
        return text(&self.found.credentials[URI])

    @property
    def response(self):
        cdef Span* span = &self.found.credentials[RESPONSE]
        cdef bytes response = PyBytes_FromStringAndSize(NULL, span.size)
        if span.size:
            put_lower(PyBytes_AS_STRING(response), span)
        return response

    @property
    def nc(self):
        return text(&self.found.credentials[NC])

    @property
    def count(self):
        cdef Span* nc = &self.found.credentials[NC]
        cdef int64_t count = 0
        cdef Py_ssize_t i
        for i in range(nc.size):
            count = count * 16 + ((nc.p[i] | 0x20) - c'a' + 10 if nc.p[i] > c'9' else nc.p[i] - c'0')
        return count

    @property
    def cnonce(self):
        return text(&self.found.credentials[CNONCE])

    def reply(self, bytes status_line not None, bytes tag not None, bytes address not None, bytes rest not None):
        cdef Found* found = &self.found
        cdef char[48] host
        cdef char[8] port
        cdef Py_ssize_t host_size = write_host(host, address)
        cdef Py_ssize_t port_size = 0
        cdef Py_ssize_t tag_size = PyBytes_GET_SIZE(tag)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(status_line) + 2 + 5 + tag_size + PyBytes_GET_SIZE(rest)
        cdef bint adds_received = found.after_rport != NULL or not self.is_from(host, host_size)
        cdef Line* line
        cdef int i
        for i in range(COPIED):
            size += found.lines[i].name.size + 2 + found.lines[i].value.size + 2
        if found.after_rport != NULL:
            port[0] = c'='
            port_size = put_number(port + 1, (<uint8_t>address[0] << 8) + <uint8_t>address[1]) - port
        if adds_received:
            size += port_size + 10 + host_size
        cdef bytes reply = PyBytes_FromStringAndSize(NULL, size)
        cdef char* p = put(PyBytes_AS_STRING(reply), PyBytes_AS_STRING(status_line), PyBytes_GET_SIZE(status_line))
        p = put(p, b"\r\n", 2)
        for i in range(COPIED):
            line = &found.lines[i]
            p = put(p, line.name.p, line.name.size)
            p = put(p, b": ", 2)
            if line.kind == VIA and adds_received:
                p = put_stamped(p, found, &line.value, port, port_size)
                p = put(p, b";received=", 10)
                p = put(p, host, host_size)
            else:
                p = put(p, line.value.p, line.value.size)
            if line.kind == TO:
                p = put(p, b";tag=", 5)
                p = put(p, PyBytes_AS_STRING(tag), tag_size)
            p = put(p, b"\r\n", 2)
        put(p, PyBytes_AS_STRING(rest), PyBytes_GET_SIZE(rest))
        return reply

    def accept(self, bytes tag not None, bytes address not None, uint32_t seconds, bytes rest not None):
        cdef Span* contact = &self.found.contact
        cdef Span* params = &self.found.params
        cdef char[10] digits
        cdef int first = 10
        while first == 10 or seconds:
            first -= 1
            digits[first] = <char>(c'0' + seconds % 10)
            seconds //= 10
        cdef bytes whole = PyBytes_FromStringAndSize(
            NULL, 10 + contact.size + 10 + 10 - first + params.size + 2 + PyBytes_GET_SIZE(rest))
        cdef char* p = put(PyBytes_AS_STRING(whole), b"Contact: <", 10)
        p = put(p, contact.p, contact.size)
        p = put(p, b">;expires=", 10)
        p = put(p, digits + first, 10 - first)
        if params.size:
            p = put(p, params.p, params.size)
        p = put(p, b"\r\n", 2)
        put(p, PyBytes_AS_STRING(rest), PyBytes_GET_SIZE(rest))
        return self.reply(OK, tag, address, whole)

    def speaks_for(self, bytes realm not None):
        cdef Span* given = self.found.credentials
        return (
            is_text(given[REALM].p, given[REALM].size, PyBytes_AS_STRING(realm), PyBytes_GET_SIZE(realm))
            and is_text(given[USERNAME].p, given[USERNAME].size, <const char*>self.found.user.p, self.found.user.size)
            and is_text(given[URI].p, given[URI].size, <const char*>self.found.request_uri.p,
                        self.found.request_uri.size)
        )

    def proof(self, bytes ha1 not None, bytes ha2 not None):
        cdef Span* given = self.found.credentials
        cdef bytes proof = PyBytes_FromStringAndSize(
            NULL, PyBytes_GET_SIZE(ha1) + given[NONCE].size + given[NC].size + given[CNONCE].size
            + PyBytes_GET_SIZE(ha2) + 9)
        if not given[NONCE].size:
            raise ValueError("no credentials")
        cdef char* p = put(PyBytes_AS_STRING(proof), PyBytes_AS_STRING(ha1), PyBytes_GET_SIZE(ha1))
        p = put(p, b":", 1)
        p = put(p, given[NONCE].p, given[NONCE].size)
        p = put(p, b":", 1)
        p = put(p, given[NC].p, given[NC].size)
        p = put(p, b":", 1)
        p = put(p, given[CNONCE].p, given[CNONCE].size)
        p = put(p, b":auth:", 6)
        put(p, PyBytes_AS_STRING(ha2), PyBytes_GET_SIZE(ha2))
        return proof

    def same_as(self, bytes record not None, Py_ssize_t start):
        cdef Span* contact = &self.found.contact
        cdef Span* params = &self.found.params
        cdef Span* call_id = &self.found.call_id
        cdef const char* p = PyBytes_AS_STRING(record) + start
        cdef Py_ssize_t size = contact.size + params.size + call_id.size + 2
        if start < 0 or size > PyBytes_GET_SIZE(record) - start:
            return -1
        if memcmp(p, contact.p, contact.size) or p[contact.size]:
            return -1
        p += contact.size + 1
        if (params.size and memcmp(p, params.p, params.size)) or p[params.size]:
            return -1
        return -1 if memcmp(p + params.size + 1, call_id.p, call_id.size) else start + size

    cdef bint is_from(self, const char* host, Py_ssize_t size) except -1:
        """Say whether the host in Via is the one that the request came from."""
        cdef Span* ours = &self.found.via_host
        if ours.size == size and memcmp(ours.p, host, size) == 0:
            return True
        # An IPv4 address has one spelling only.
        if ours.p[0] != c'[' and memchr(host, c':', size) == NULL:
            return False
        return is_same_host(text(ours), host[:size])


cdef char* put_stamped(char* p, Found* found, Span* via, const char* port, Py_ssize_t port_size) noexcept nogil:
    """Write the Via with the port after rport, if it is asked for."""
    cdef Py_ssize_t before = found.after_rport - via.p if port_size else via.size
    p = put(p, via.p, before)
    p = put(p, port, port_size)
    return put(p, via.p + before, via.size - before)


def scan_register(bytes data not None, Py_ssize_t start=0, /):
    """Return the usual REGISTER that begins at `start`; see `scanner.Scan`."""
    cdef Place p = <Place>PyBytes_AS_STRING(data)
    cdef Place end = p + PyBytes_GET_SIZE(data)
    cdef CompiledRegister register
    if start < 0 or start > end - p or not begins(p + start, end, b"REGISTER sip:", 13):
        return None
    register = CompiledRegister.__new__(CompiledRegister)
    end = read_message(&register.found, p + start, end)
    if end == NULL:
        return None
    register.data = data
    register.end = end - p
    if register.found.host.p[0] == c'[' and canonical_ipv6(register.host) != register.host:
        return None
    return register


# --- the heads of all messages -------------------------------------------------------------------------------------

cdef struct Known:
    Span name
    PyObject* spelling
    PyObject* key

cdef enum:
    ROOM = 2048
    MAX_FIELD_LINES = 256
    MAX_LENGTH_DIGITS = 10

cdef Known[ROOM] KNOWN
cdef int64_t MAX_LENGTH = 9999999999
cdef list _kept = []


cdef Known* find_known(Place p, Py_ssize_t size) noexcept nogil:
    """Return the entry of a name in this spelling, or the free one where it belongs."""
    cdef uint64_t place = size
    cdef Py_ssize_t i
    for i in range(size):
        place = place * 31 + p[i]
    place &= ROOM - 1
    while KNOWN[place].name.p != NULL and not (
        KNOWN[place].name.size == size and memcmp(KNOWN[place].name.p, p, size) == 0
    ):
        place = (place + 1) & (ROOM - 1)
    return &KNOWN[place]


def _learn():
    """Keep the names that are known from the beginning: fewer than half of what there is room for."""
    cdef Known* entry
    cdef bytes name
    cdef tuple field
    assert len(KEYS) * 2 < ROOM
    for spelling, key in KEYS.items():
        name = spelling.encode("ascii")
        field = (key, spelling)
        _kept.append((name, field))
        entry = find_known(<Place>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
        entry.name.p = <Place>PyBytes_AS_STRING(name)
        entry.name.size = PyBytes_GET_SIZE(name)
        entry.key = <PyObject*>field[0]
        entry.spelling = <PyObject*>field[1]


_learn()


cdef inline str decoded(Place p, Place end):
    return PyUnicode_DecodeUTF8(<const char*>p, end - p, "surrogateescape")


cdef tuple field_of(Place name, Place name_end, Place p, Place end):
    """Return one field; its key is that of Content-Length for one that is none. Raises ParseError."""
    cdef Known* known = find_known(name, name_end - name)
    if known.name.p != NULL:
        return <object>known.key, <object>known.spelling, decoded(p, end)
    spelling = decoded(name, name_end)
    return canonical(spelling), spelling, decoded(p, end)


def split_fields(bytes data not None):
    """Return the start line of a message, its fields, what Content-Length says (-1 without one), and where its body begins.

    None when it is written in a way that the parser should look at: folded, blank lines before it, Content-Length given
    twice, malformed, not whole.
    """
    cdef Place begin = <Place>PyBytes_AS_STRING(data)
    cdef Place end = begin + PyBytes_GET_SIZE(data)
    cdef Place p = begin
    cdef Place line, name, name_end, value
    cdef int count = 0
    cdef int64_t length = -1
    cdef list fields = []
    cdef str start = None
    while True:
        line = p
        p = <Place>memchr(line, c'\r', end - line) if end > line else NULL
        if p == NULL or not begins(p, end, b"\r\n", 2) or memchr(line, c'\n', p - line) != NULL:
            return None
        if p == line:
            break
        count += 1
        if count == 1:
            start = decoded(line, p)
            p += 2
            continue
        name = line
        name_end = value = skip(line, p, TOKEN)
        value = skip_blanks(value, p)
        if name_end == name or value == p or value[0] != c':' or count > MAX_FIELD_LINES:
            return None
        line = p
        p += 2
        value = skip_blanks(value + 1, line)
        while line > value and ((line - 1)[0] == c' ' or (line - 1)[0] == c'\t'):
            line -= 1
        if is_length(name, name_end - name):
            if length >= 0:
                return None
            length = number(value, line, MAX_LENGTH_DIGITS, MAX_LENGTH)
            if length < 0:
                return None
        else:
            fields.append(field_of(name, name_end, value, line))
    return None if start is None else (start, fields, length, p + 2 - begin)


cdef bint is_length(Place p, Py_ssize_t size) noexcept nogil:
    return (size == 1 and (p[0] | 0x20) == c'l') or (size == 14 and is_name(p, b"content-length", 14))
