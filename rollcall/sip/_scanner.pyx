"""The scanner, compiled (RFC 3261 §7, §10.2, §20, §25.1): usual.py and plain_scanner.py say the same in Python.

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
from rollcall.sip.usual import GRUU as _GRUU
from rollcall.sip.usual import MAX_HEAD_BYTES as _MAX_HEAD_BYTES
from rollcall.sip.usual import MAX_LINES as _MAX_LINES
from rollcall.sip.usual import MAX_PARAMS as _MAX_PARAMS
from rollcall.sip.usual import OUTBOUND as _OUTBOUND
from rollcall.sip.usual import PATH as _PATH
from rollcall.sip.plain_scanner import canonical_ipv6, is_same_host

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void* PyUnicode_DATA(object text)

cdef extern from "<sys/socket.h>" nogil:
    int AF_INET6

cdef extern from "<arpa/inet.h>" nogil:
    const char* inet_ntop(int family, const void* source, char* target, unsigned int size)

include "_characters.pxi"

cdef enum:
    MAX_PORT = 65535
    MAX_HOPS = 255

cdef Py_ssize_t METHOD_BYTES = len("REGISTER ")
cdef int64_t MAX_SECONDS = 4294967295
cdef int64_t MAX_CSEQ = 2147483647
cdef Py_ssize_t MAX_HEAD_BYTES = _MAX_HEAD_BYTES
cdef int MAX_LINES = _MAX_LINES
cdef int MAX_PARAMS = _MAX_PARAMS
cdef int PATH = _PATH
cdef int OUTBOUND = _OUTBOUND
cdef int GRUU = _GRUU

assert MAX_PARAMS <= PARAMS_ROOM


include "_addresses.pxi"
include "_values.pxi"
include "_lines.pxi"
include "_writing.pxi"

cdef bytes OK = b"SIP/2.0 200 OK"


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class CompiledRegister:
    """A usual REGISTER; see `scanner.UsualRegister`."""

    @property
    def message(self):
        # The Request-URI stands behind the method and one blank.
        return self.data[self.found.request_uri.p - <Place>PyBytes_AS_STRING(self.data) - METHOD_BYTES:self.end]

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
        return self.asked_seconds()

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
        return self.name_of_transaction()

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
        return self.count_of_nonce()

    @property
    def cnonce(self):
        return text(&self.found.credentials[CNONCE])

    def reply(self, bytes status_line not None, bytes tag not None, bytes address not None, bytes rest not None):
        return self.with_room(status_line, tag, address, 0, rest)

    cdef bytes with_room(self, bytes status_line, bytes tag, bytes address, Py_ssize_t room, bytes rest):
        """Return what `reply` does, with so many bytes before `rest` that the caller fills."""
        cdef Found* found = &self.found
        cdef char[48] host
        cdef char[8] port
        cdef Py_ssize_t host_size = write_host(host, address)
        cdef Py_ssize_t port_size = 0
        cdef Py_ssize_t tag_size = PyBytes_GET_SIZE(tag)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(status_line) + 2 + 5 + tag_size + room + PyBytes_GET_SIZE(rest)
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
        put(p + room, PyBytes_AS_STRING(rest), PyBytes_GET_SIZE(rest))
        return reply

    def accept(self, bytes tag not None, bytes address not None, uint32_t seconds, bytes rest not None):
        return self.accepted(tag, address, seconds, rest)

    def speaks_for(self, bytes realm not None):
        return self.is_for(realm)

    def proof(self, bytes ha1 not None, bytes ha2 not None):
        return self.proved(ha1, ha2)

    def same_as(self, bytes record not None, Py_ssize_t start):
        return self.end_in(record, start)

    # What these do, for compiled callers, who pass nothing that is None.

    cdef bytes accepted(self, bytes tag, bytes address, uint32_t seconds, bytes rest):
        cdef Span* contact = &self.found.contact
        cdef Span* params = &self.found.params
        cdef char[10] digits
        cdef int first = 10
        while first == 10 or seconds:
            first -= 1
            digits[first] = <char>(c'0' + seconds % 10)
            seconds //= 10
        cdef Py_ssize_t room = 10 + contact.size + 10 + 10 - first + params.size + 2
        cdef bytes answer = self.with_room(OK, tag, address, room, rest)
        cdef char* p = PyBytes_AS_STRING(answer) + PyBytes_GET_SIZE(answer) - PyBytes_GET_SIZE(rest) - room
        p = put(p, b"Contact: <", 10)
        p = put(p, contact.p, contact.size)
        p = put(p, b">;expires=", 10)
        p = put(p, digits + first, 10 - first)
        if params.size:
            p = put(p, params.p, params.size)
        put(p, b"\r\n", 2)
        return answer

    cdef bint is_for(self, bytes realm) noexcept:
        cdef Span* given = self.found.credentials
        return (
            is_text(given[REALM].p, given[REALM].size, PyBytes_AS_STRING(realm), PyBytes_GET_SIZE(realm))
            and is_text(given[USERNAME].p, given[USERNAME].size, <const char*>self.found.user.p, self.found.user.size)
            and is_text(given[URI].p, given[URI].size, <const char*>self.found.request_uri.p,
                        self.found.request_uri.size)
        )

    cdef bytes proved(self, bytes ha1, bytes ha2):
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

    cdef Py_ssize_t end_in(self, bytes record, Py_ssize_t start) noexcept:
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

    cdef str name_of_transaction(self):
        """See `transaction_key`."""
        cdef Span* branch = &self.found.branch
        cdef Span* sent_by = &self.found.sent_by
        cdef str key = PyUnicode_New(branch.size + sent_by.size + 10, 127)
        cdef char* p = <char*>PyUnicode_DATA(key)
        p = put(p, branch.p, branch.size)
        p = put(p, b" ", 1)
        p = put_lower(p, sent_by)
        put(p, b" REGISTER", 9)
        return key

    cdef int64_t asked_seconds(self) noexcept:
        """See `expires`."""
        return self.found.asked if self.found.asked >= 0 else self.found.asked_in_header

    cdef int64_t count_of_nonce(self) noexcept:
        """See `count`."""
        cdef Span* nc = &self.found.credentials[NC]
        cdef int64_t count = 0
        cdef Py_ssize_t i
        for i in range(nc.size):
            count = count * 16 + ((nc.p[i] | 0x20) - c'a' + 10 if nc.p[i] > c'9' else nc.p[i] - c'0')
        return count

    cdef bint is_from(self, const char* host, Py_ssize_t size) except -1:
        """Say whether the host in Via is the one that the request came from."""
        cdef Span* ours = &self.found.via_host
        if ours.size == size and memcmp(ours.p, host, size) == 0:
            return True
        # An IPv4 address has one spelling only.
        if ours.p[0] != c'[' and memchr(host, c':', size) == NULL:
            return False
        return is_same_host(text(ours), host[:size])


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


include "_heads.pxi"
