# cython: language_level=3
"""Datagrams by the batch with recvmmsg(2) and sendmmsg(2): plain_datagrams, compiled.

The sockets are non-blocking and each call is short, so the GIL is kept: nobody else touches the room below.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from cpython.mem cimport PyMem_RawMalloc
from libc.errno cimport EAFNOSUPPORT, EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset


cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        uint32_t s_addr

    struct in6_addr:
        uint8_t s6_addr[16]

    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr

    struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id

    uint32_t htonl(uint32_t)
    uint32_t ntohl(uint32_t)


cdef extern from "<sys/socket.h>" nogil:
    enum: AF_INET, AF_INET6, MSG_DONTWAIT, MSG_NOSIGNAL

    struct iovec:
        void *iov_base
        size_t iov_len

    struct msghdr:
        void *msg_name
        uint32_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen

    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len

    struct timespec:
        pass

    int recvmmsg(int fd, mmsghdr *headers, unsigned int count, int flags, timespec *timeout)
    int sendmmsg(int fd, mmsghdr *headers, unsigned int count, int flags)


cdef enum:
    SLOTS = 64              # datagrams that one system call takes
    HEAD_BYTES = 2048       # what most fit into, side by side, so that a batch stays in the cache
    REST_BYTES = 65536 - HEAD_BYTES     # together more than any datagram has: nothing is ever cut
    PORT_BYTES = 2
    PACKED_IPV4 = 6
    PACKED_IPV6 = 18
    PACKED_SCOPED = 22

cdef union socket_name:
    uint16_t family
    sockaddr_in ipv4
    sockaddr_in6 ipv6

cdef char *heads = NULL     # SLOTS times HEAD_BYTES
cdef char *rests = NULL     # SLOTS times REST_BYTES; the kernel gives pages only to what was once needed
cdef mmsghdr arriving[SLOTS]
cdef iovec places[SLOTS][2]
cdef socket_name sources[SLOTS]
cdef bint reading = False


def receive(bound, int most):
    """Return (data, packed source) of up to `most` datagrams that wait, at most 64. Raises OSError."""
    global reading
    cdef int fd = bound.fileno(), wanted = min(most, <int>SLOTS), got, at
    if wanted < 1:
        return []
    if reading:
        raise RuntimeError("a batch is being read")
    if rests == NULL:
        _prepare()
    for at in range(wanted):
        arriving[at].msg_hdr.msg_namelen = sizeof(socket_name)
    got = recvmmsg(fd, arriving, wanted, MSG_DONTWAIT, NULL)
    if got < 0:
        if errno == EAGAIN or errno == EINTR:
            return []
        PyErr_SetFromErrno(OSError)
    reading = True  # making objects may run finalizers
    try:
        return [(_data(at), _source(at)) for at in range(got)]
    finally:
        reading = False


def send(bound, list datagrams):
    """Send (data, packed address) each; return (index, errno) of those that were not sent, in their order.

    Raises ValueError for an address of no known length, when those before it may have been sent.
    """
    cdef int fd = bound.fileno()
    cdef tuple batch = tuple(datagrams)  # whoever changes the list meanwhile does not take bytes from the kernel
    cdef Py_ssize_t start
    cdef list unsent = []
    for start in range(0, len(batch), SLOTS):
        _send_slots(fd, batch, start, unsent)
    return unsent


cdef int _prepare() except -1:
    """Say, once, where datagrams go."""
    global heads, rests
    cdef int at
    if heads == NULL:
        heads = <char *>PyMem_RawMalloc(SLOTS * HEAD_BYTES)
    if rests == NULL:
        rests = <char *>PyMem_RawMalloc(SLOTS * REST_BYTES)
    if heads == NULL or rests == NULL:
        raise MemoryError
    for at in range(SLOTS):
        places[at][0].iov_base = heads + at * HEAD_BYTES
        places[at][0].iov_len = HEAD_BYTES
        places[at][1].iov_base = rests + at * REST_BYTES
        places[at][1].iov_len = REST_BYTES
        arriving[at].msg_hdr.msg_name = &sources[at]
        arriving[at].msg_hdr.msg_iov = places[at]
        arriving[at].msg_hdr.msg_iovlen = 2
    return 0


cdef bytes _data(int at):
    cdef Py_ssize_t length = arriving[at].msg_len
    cdef bytes data
    if length <= HEAD_BYTES:
        return PyBytes_FromStringAndSize(heads + at * HEAD_BYTES, length)
    data = PyBytes_FromStringAndSize(NULL, length)
    memcpy(PyBytes_AS_STRING(data), heads + at * HEAD_BYTES, HEAD_BYTES)
    memcpy(PyBytes_AS_STRING(data) + HEAD_BYTES, rests + at * REST_BYTES, length - HEAD_BYTES)
    return data


cdef bytes _source(int at):
    cdef socket_name *source = &sources[at]
    cdef char packed[PACKED_SCOPED]
    cdef uint32_t scope
    cdef uint32_t length = arriving[at].msg_hdr.msg_namelen
    if length == sizeof(sockaddr_in) and source.family == AF_INET:
        memcpy(packed, &source.ipv4.sin_port, PORT_BYTES)
        memcpy(packed + PORT_BYTES, &source.ipv4.sin_addr, 4)
        return PyBytes_FromStringAndSize(packed, PACKED_IPV4)
    if length != sizeof(sockaddr_in6) or source.family != AF_INET6:
        raise OSError(EAFNOSUPPORT, "not a socket of the Internet")
    memcpy(packed, &source.ipv6.sin6_port, PORT_BYTES)
    memcpy(packed + PORT_BYTES, &source.ipv6.sin6_addr, 16)
    if source.ipv6.sin6_scope_id == 0:
        return PyBytes_FromStringAndSize(packed, PACKED_IPV6)
    scope = htonl(source.ipv6.sin6_scope_id)
    memcpy(packed + PACKED_IPV6, &scope, 4)
    return PyBytes_FromStringAndSize(packed, PACKED_SCOPED)


cdef int _send_slots(int fd, tuple batch, Py_ssize_t start, list unsent) except -1:
    """Send what of the batch fits one system call; go on behind what the kernel refuses."""
    cdef mmsghdr leaving[SLOTS]
    cdef iovec parts[SLOTS]
    cdef socket_name names[SLOTS]
    cdef int count = <int>min(len(batch) - start, <Py_ssize_t>SLOTS), at, sent, error
    memset(leaving, 0, count * sizeof(mmsghdr))
    for at in range(count):
        _address(batch[start + at], &leaving[at].msg_hdr, &parts[at], &names[at])
    at = 0
    while at < count:
        sent = sendmmsg(fd, &leaving[at], count - at, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent > 0:
            at += sent
            continue
        error = errno if sent < 0 else EAGAIN
        if error == EINTR:
            continue
        if error == EAGAIN:  # no room: there is none for the rest either
            unsent.extend([(index, error) for index in range(start + at, start + count)])
            return 0
        unsent.append((start + at, error))
        at += 1
    return 0


cdef int _address(object datagram, msghdr *header, iovec *part, socket_name *name) except -1:
    """Point a header at one (data, packed address), which the batch keeps alive."""
    cdef bytes data, address
    cdef const char *packed
    cdef Py_ssize_t length
    cdef uint32_t scope = 0
    data, address = datagram
    if data is None or address is None:
        raise TypeError("a datagram is (bytes, bytes)")
    packed, length = PyBytes_AS_STRING(address), PyBytes_GET_SIZE(address)
    memset(name, 0, sizeof(socket_name))
    if length == PACKED_IPV4:
        name.ipv4.sin_family = AF_INET
        memcpy(&name.ipv4.sin_port, packed, PORT_BYTES)
        memcpy(&name.ipv4.sin_addr, packed + PORT_BYTES, 4)
        header.msg_namelen = sizeof(sockaddr_in)
    elif length == PACKED_IPV6 or length == PACKED_SCOPED:
        name.ipv6.sin6_family = AF_INET6
        memcpy(&name.ipv6.sin6_port, packed, PORT_BYTES)
        memcpy(&name.ipv6.sin6_addr, packed + PORT_BYTES, 16)
        if length == PACKED_SCOPED:
            memcpy(&scope, packed + PACKED_IPV6, 4)
            name.ipv6.sin6_scope_id = ntohl(scope)
        header.msg_namelen = sizeof(sockaddr_in6)
    else:
        raise ValueError("an address of %d bytes" % length)
    part.iov_base = PyBytes_AS_STRING(data)
    part.iov_len = <size_t>PyBytes_GET_SIZE(data)
    header.msg_name = name
    header.msg_iov = part
    header.msg_iovlen = 1
    return 0
