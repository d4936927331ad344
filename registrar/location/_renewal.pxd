# The head of a packed record and its renewal, for compiled modules.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    /* HEAD, whose numbers lie side by side. */
    typedef struct __attribute__((packed)) {
        uint32_t version, slot;
        uint8_t kind, length;
        uint16_t agent, place;
        double expires_at, refreshed_at, registered_at;
        uint32_t cseq;
        uint64_t flow_id, repeat;
    } head_t;
    """
    ctypedef struct head_t:
        uint32_t version, slot
        uint8_t kind, length
        uint16_t agent, place
        double expires_at, refreshed_at, registered_at
        uint32_t cseq
        uint64_t flow_id, repeat

cdef bytes renew(bytes record, Py_ssize_t start, Py_ssize_t end, int place, uint64_t flow_id, int agent,
                 uint32_t cseq, double now, uint32_t seconds, uint64_t repeat)
cdef bint comes_early(bytes record) noexcept
