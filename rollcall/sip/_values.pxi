# The other header fields: Via, CSeq, Supported, credentials and what is only a number (RFC 3261 §20).

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
