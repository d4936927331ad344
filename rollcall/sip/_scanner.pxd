# What the scanner finds, for the compiled modules that read it where it stands.

from libc.stdint cimport int64_t, uint8_t, uint32_t

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


cdef class CompiledRegister:
    cdef bytes data
    cdef Found found
    cdef readonly Py_ssize_t end

    cdef bytes accepted(self, bytes tag, bytes address, uint32_t seconds, bytes rest)
    cdef bint is_for(self, bytes realm) noexcept
    cdef bytes proved(self, bytes ha1, bytes ha2)
    cdef Py_ssize_t end_in(self, bytes record, Py_ssize_t start) noexcept
    cdef bytes with_room(self, bytes status_line, bytes tag, bytes address, Py_ssize_t room, bytes rest)
    cdef str name_of_transaction(self)
    cdef int64_t asked_seconds(self) noexcept
    cdef int64_t count_of_nonce(self) noexcept
    cdef bint is_from(self, const char* host, Py_ssize_t size) except -1
