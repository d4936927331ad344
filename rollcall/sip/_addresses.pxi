# Hosts, URIs, and the header fields that hold an address: From, To, Contact (RFC 3261 §19.1, §20.10).

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
    """Return where the parameters of a URI end, NULL when one of them is unusual."""
    cdef Span[PARAMS_ROOM] names
    cdef int count = 0
    cdef Place first
    while p < end and p[0] == c';':
        if count == MAX_PARAMS:
            return NULL
        first = p + 1
        p = skip(first, end, PARAM)
        keep(&names[count], first, p)
        if not is_new(names, count) or memchr(first, c'%', p - first) != NULL:
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


cdef bint is_new(Span* names, int count) noexcept nogil:
    """Say whether the name after the first `count` is not empty, and none of them."""
    cdef Span* last = &names[count]
    cdef int i
    for i in range(count):
        if names[i].size == last.size and is_same(names[i].p, last.p, last.size):
            return False
    return last.size > 0


cdef bint read_params(Found* found, Place p, Place end) noexcept nogil:
    """Read the parameters of Contact: `expires` is the first or the last of them, or is not there."""
    cdef Span[PARAMS_ROOM] names
    cdef int count = 0
    cdef int expires = -1
    cdef Place start = p
    cdef Place first, value
    cdef Place expires_start = NULL
    cdef Place expires_end = NULL
    while p < end:
        first = p
        if p[0] != c';' or count == MAX_PARAMS:
            return False
        p = skip(first + 1, end, NAME)
        keep(&names[count], first + 1, p)
        if not is_new(names, count):
            return False
        value = p
        if p < end and p[0] == c'=':
            value = p + 1
            p = skip_value(value, end)
            if p == NULL:
                return False
        if is_text(first + 1, names[count].size, b"expires", 7):
            found.asked = number(value, p, 10, MAX_SECONDS)
            if found.asked < 0:
                return False
            expires = count
            expires_start = first
            expires_end = p
        elif not read_param(found, first + 1, names[count].size):
            return False
        count += 1
    if expires < 0:
        keep(&found.params, start, end)
    elif expires == count - 1:
        keep(&found.params, start, expires_start)
    else:
        keep(&found.params, expires_end, end)
    return expires <= 0 or expires == count - 1


cdef bint read_param(Found* found, Place name, Py_ssize_t size) noexcept nogil:
    """Note a parameter that makes an instance; refuse those that the registrar does not keep as they are."""
    if is_text(name, size, b"+sip.instance", 13) or is_text(name, size, b"reg-id", 6):
        found.has_instance = True
    return not (
        is_text(name, size, b"q", 1) or is_text(name, size, b"pub-gruu", 8) or is_text(name, size, b"temp-gruu", 9)
    )


cdef Place skip_value(Place p, Place end) noexcept nogil:
    """Return where a token or a quoted string without escapes ends, NULL when there is neither."""
    cdef Place first = p
    if p < end and p[0] == c'"':
        p = skip(p + 1, end, QUOTABLE)
        return p + 1 if p < end and p[0] == c'"' else NULL
    p = skip(p, end, TOKEN)
    return p if p > first else NULL
