"""The compiled twins of what stands in renewal.py, for machines that write the lower byte first."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from registrar.location.memory import SLOT_SECONDS
from registrar.location.packing import COMPACT, DIRECT, GENERATION, HEAD, HIGHEST_VERSION

if sizeof(head_t) != HEAD.size:
    raise ImportError("the head of a record has another size")

cdef int usual = COMPACT | DIRECT
cdef int generation = GENERATION
cdef uint32_t highest_version = HIGHEST_VERSION
cdef double slot_seconds = SLOT_SECONDS


def renewed(bytes record not None, Py_ssize_t start, Py_ssize_t end, int place, uint64_t flow_id, int agent,
            uint32_t cseq, double now, uint32_t seconds, uint64_t repeat, /):
    """See `renewal.plainly_renewed`."""
    return renew(record, start, end, place, flow_id, agent, cseq, now, seconds, repeat)


cdef bytes renew(bytes record, Py_ssize_t start, Py_ssize_t end, int place, uint64_t flow_id, int agent,
                 uint32_t cseq, double now, uint32_t seconds, uint64_t repeat):
    """See `renewal.plainly_renewed`."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(record)
    cdef const char* old = PyBytes_AS_STRING(record)
    cdef head_t head
    if size < <Py_ssize_t>sizeof(head_t) or not 0 <= end <= size:
        return None
    memcpy(&head, old, sizeof(head_t))
    if head.kind & usual != usual or <Py_ssize_t>sizeof(head_t) + head.length != start:
        return None
    if head.place != place or head.flow_id != flow_id or head.agent != agent:
        return None
    if head.expires_at <= now or cseq <= head.cseq or head.version >= highest_version - 1:
        return None
    if end != size and not (head.kind & generation and old[end] == 0):
        return None
    head.expires_at = now + seconds
    head.version += 1
    head.refreshed_at = now
    head.cseq = cseq
    head.repeat = repeat
    cdef bytes new = PyBytes_FromStringAndSize(old, size)
    memcpy(PyBytes_AS_STRING(new), &head, sizeof(head_t))
    return new


def is_early(bytes record not None, /):
    """See `renewal.plainly_is_early`."""
    return comes_early(record)


cdef bint comes_early(bytes record) noexcept:
    """See `renewal.plainly_is_early`."""
    cdef head_t head
    if PyBytes_GET_SIZE(record) < <Py_ssize_t>sizeof(head_t):
        return False
    memcpy(&head, PyBytes_AS_STRING(record), sizeof(head_t))
    return head.expires_at < head.slot * slot_seconds
