# Writing into bytes that were made long enough.

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


cdef char* put_stamped(char* p, Found* found, Span* via, const char* port, Py_ssize_t port_size) noexcept nogil:
    """Write the Via with the port after rport, if it is asked for."""
    cdef Py_ssize_t before = found.after_rport - via.p if port_size else via.size
    p = put(p, via.p, before)
    p = put(p, port, port_size)
    return put(p, via.p + before, via.size - before)
