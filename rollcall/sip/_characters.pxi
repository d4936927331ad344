# Characters by their class, runs of them, numbers, and where a line ends (RFC 3261 §25.1).

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


cdef inline Place skip_blanks(Place p, Place end) noexcept nogil:
    while p < end and (p[0] == c' ' or p[0] == c'\t'):
        p += 1
    return p


cdef inline Place skip_spaces(Place p, Place end) noexcept nogil:
    while p < end and p[0] == c' ':
        p += 1
    return p
