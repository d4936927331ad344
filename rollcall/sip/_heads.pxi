# The heads of all other messages, split into fields for the parser (RFC 3261 §7.3).

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
    """Return the start line of a message, its fields, what Content-Length says (else -1), and where its body begins.

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
