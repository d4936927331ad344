# Lines: the request line, the header fields by their names, and where the message ends (RFC 3261 §7).

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
