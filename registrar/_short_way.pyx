"""The shortest way of a REGISTER: the refresh of one plain contact in one step, compiled (see short_way.py).

`registrar.short_way` says what is done, and does it for whatever is declined here. Nothing is noted before it is sure
that the request is answered here; then the same steps follow in the same order.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.list cimport PyList_GET_SIZE
from cpython.ref cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from registrar.location._renewal cimport comes_early, head_t, renew
from rollcall.sip._scanner cimport AUTHORIZATION, NONCE, CompiledRegister, Span

from hmac import compare_digest
from random import random

from rollcall.net.flow import PORT_BYTES as _PORT_BYTES
from rollcall.sip.chance import random_number, random_tag
from rollcall.sip.digest import md5
from rollcall.sip.nonces import ORDERLY_BIRTH_SHIFT as _BIRTH_SHIFT

cdef enum:
    BOUNDS = 16
    TAG_DIGITS = 8

cdef Py_ssize_t PORT_BYTES = _PORT_BYTES
cdef int BIRTH_SHIFT = _BIRTH_SHIFT
cdef uint64_t LOW_HALF = 0xFFFFFFFF


cdef inline bint is_text(const Span* span, bytes text) noexcept:
    return span.size == PyBytes_GET_SIZE(text) and memcmp(span.p, PyBytes_AS_STRING(text), span.size) == 0


@cython.final
cdef class Tally:
    """What was counted here for one listener since its Face was told."""

    cdef object listener
    cdef object face
    cdef int place
    cdef uint64_t proven
    cdef uint64_t[BOUNDS] accepted
    cdef double seconds

    def __init__(self, listener, face):
        self.listener = listener
        self.face = face
        self.place = face.place


@cython.final
cdef class ShortestWay:
    """Refreshes what it can, and hands everything else to the two functions of the short way."""

    cdef object over_connection_otherwise, in_datagram_otherwise
    cdef object serve, span_of, face_of, end_at, turn_away
    cdef object location, admits, knows, clock
    cdef dict records
    cdef list agents
    cdef bint asks
    # What credentials are looked at with; `peek` is None when none can be judged here.
    cdef object peek, counts
    cdef double nonce_seconds
    # What is the same for nearly every request: as it was for the one before.
    cdef bytes request_uri, realm, ending, ha2, end
    cdef int64_t asked, most, least
    cdef double spread, ends_at
    cdef Tally tally
    cdef dict tallies
    cdef double[BOUNDS] bounds

    def __init__(self, over_connection, in_datagram, serve, span_of, face_of, end_at, turn_away, location, admits,
                 knows, clock, authentication, bounds):
        """`short_way` gives its own methods; `bounds` are those of the times that a Face counts."""
        self.over_connection_otherwise, self.in_datagram_otherwise = over_connection, in_datagram
        self.serve, self.span_of, self.face_of, self.end_at, self.turn_away = serve, span_of, face_of, end_at, turn_away
        self.location, self.admits, self.knows, self.clock = location, admits, knows, clock
        self.records, self.agents = location.records, location.packing.agents.names
        self.asks = authentication is not None
        if self.asks:
            self.peek, self.counts, self.nonce_seconds = authentication.at_hand
        self.request_uri, self.asked, self.ends_at, self.tallies = b"", -2, 0, {}
        if len(bounds) >= BOUNDS:
            raise ValueError("there is no room for so many bounds")
        for i in range(BOUNDS):
            self.bounds[i] = bounds[i] if i < len(bounds) else INFINITY

    def over_connection(self, CompiledRegister register not None, flow, now):
        """See `ShortWay.over_connection`."""
        if self.is_worth_a_look(register):
            listener = flow.listener
            if listener is not None:
                answer = self.refreshed(register, listener, flow.address, flow.id, False, now)
                if answer is not None:
                    return answer
        return self.over_connection_otherwise(register, flow, now)

    def in_datagram(self, CompiledRegister register not None, listener, bytes address not None, now):
        """See `ShortWay.in_datagram`."""
        if register.found.after_rport != NULL and self.is_worth_a_look(register):
            answer = self.refreshed(register, listener, address, 0, True, now)
            if answer is not None:
                return answer
        return self.in_datagram_otherwise(register, listener, address, now)

    def settle(self):
        """Tell each Face what was counted since the last time."""
        cdef Tally tally
        for tally in self.tallies.values():
            accepted = [tally.accepted[i] for i in range(BOUNDS)]
            proven, seconds = tally.proven, tally.seconds
            memset(tally.accepted, 0, sizeof(tally.accepted))
            tally.proven, tally.seconds = 0, 0.0
            tally.face.refreshed_at_once(accepted, seconds, proven)

    cdef bint is_worth_a_look(self, CompiledRegister register) noexcept:
        """Say whether a phone is a plain one and tries to prove a password, if it has to."""
        return not (register.found.has_instance or (self.asks and not register.found.seen & (1 << AUTHORIZATION)))

    cdef bytes refreshed(self, CompiledRegister register, listener, bytes address, uint64_t flow_id, bint is_datagram,
                         now):
        """Return the answer, or None when it is left to the short way: then nothing was noted."""
        cdef double moment = now
        if not is_text(&register.found.request_uri, self.request_uri) and not self.learn_uri(register):
            return None
        cdef Span* user = &register.found.user
        cdef bytes key = PyBytes_FromStringAndSize(NULL, user.size + PyBytes_GET_SIZE(self.ending))
        memcpy(PyBytes_AS_STRING(key), user.p, user.size)
        memcpy(PyBytes_AS_STRING(key) + user.size, PyBytes_AS_STRING(self.ending), PyBytes_GET_SIZE(self.ending))
        cdef PyObject* found = PyDict_GetItemWithError(self.records, key)
        if found == NULL:
            return None
        cdef bytes old = <bytes>found
        cdef bytes tag = None
        cdef uint64_t repeat = 0
        if is_datagram:
            transaction = register.name_of_transaction()
            if self.knows(transaction):
                return None
            repeat = random_number()
            tag = tag_of(<uint32_t>repeat)
            repeat |= (<uint64_t>hash(transaction) & LOW_HALF) << 32
        if not self.location.takes_at_once(key, not is_datagram):
            return None
        cdef Tally tally = self.tally
        if tally is None or tally.listener is not listener:
            tally = self.tally_of(listener)
        cdef int64_t seconds = self.granted(register.asked_seconds())
        if not seconds:
            return None
        cdef bytes new = self.renewal(old, register, address, tally.place, flow_id, moment, seconds, repeat)
        if new is None or (self.asks and not self.is_proven(register, key, now, moment)):
            return None
        # From here on it is answered.
        tally.proven += self.asks
        if not self.admits(address[PORT_BYTES:], now):
            return self.turn_away(register, address, tally.face, now)
        if comes_early(new):
            self.location.refresh(key, new)
        else:
            self.records[key] = new
        if not self.ends_at - 1 <= moment < self.ends_at:
            self.end, self.ends_at = self.end_at(now)
        tag = tag if is_datagram else random_tag()
        cdef bytes answer = register.accepted(tag, address, <uint32_t>seconds, self.end)
        self.count(tally, <double>self.clock() - moment)
        return answer

    cdef bytes renewal(self, bytes old, CompiledRegister register, bytes address, int place, uint64_t flow_id,
                       double now, int64_t seconds, uint64_t repeat):
        """Return the record after this refresh, or None when it is not the same phone in the same place."""
        cdef head_t head
        cdef Py_ssize_t start = <Py_ssize_t>sizeof(head_t) + PyBytes_GET_SIZE(address)
        if PyBytes_GET_SIZE(old) < start:
            return None
        memcpy(&head, PyBytes_AS_STRING(old), sizeof(head_t))
        if head.agent >= PyList_GET_SIZE(self.agents):
            return None
        if not is_text(&register.found.user_agent, self.agents[head.agent]):
            return None
        if memcmp(PyBytes_AS_STRING(old) + sizeof(head_t), PyBytes_AS_STRING(address), PyBytes_GET_SIZE(address)) != 0:
            return None
        cdef Py_ssize_t end = register.end_in(old, start)
        if end < 0:
            return None
        return renew(old, start, end, place, flow_id, head.agent, <uint32_t>register.found.cseq, now,
                     <uint32_t>seconds, repeat)

    cdef bint is_proven(self, CompiledRegister register, bytes key, now, double moment) except -1:
        """Do as `Authentication.is_proven` if this is the next count of a known and young nonce; else note nothing."""
        cdef Span* nonce = &register.found.credentials[NONCE]
        cdef uint64_t use
        if self.peek is None or not register.is_for(self.realm):
            return False
        ha1 = self.peek(PyUnicode_DecodeASCII(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), NULL), now)
        if ha1 is None:
            return False
        cdef dict young = self.counts.young
        name = PyUnicode_DecodeASCII(<const char*>nonce.p, nonce.size, NULL)
        cdef PyObject* found = PyDict_GetItemWithError(young, name)
        if found == NULL:
            return False
        try:
            use = <object>found
        except OverflowError:  # its counts did not come in order
            return False
        if <uint64_t>register.count_of_nonce() != (use & LOW_HALF) + 1:
            return False
        if moment - <double>(use >> BIRTH_SHIFT) > self.nonce_seconds or moment > <double>self.counts.young_until:
            return False
        if not compare_digest(md5(register.proved(ha1, self.ha2)).hexdigest(), register.response.decode()):
            return False
        young[name] = use + 1
        return True

    def forget_uri(self):
        """Ask anew whose domain a Request-URI names: those that are served are others now."""
        self.request_uri = b""

    def forget_spans(self):
        """Ask anew what is granted: times are spread otherwise now."""
        self.asked = -2

    cdef bint learn_uri(self, CompiledRegister register) except -1:
        """Remember the domain that the Request-URI names; say whether it is served at once."""
        cdef bytes request_uri = register.request_uri
        served = self.serve(request_uri)
        if served is None:
            return False
        self.request_uri, self.realm, self.ending, self.ha2 = request_uri, served.realm, served.ending, served.ha2
        return True

    cdef Tally tally_of(self, listener):
        cdef Tally tally = self.tallies.get(listener.name)
        if tally is None or tally.listener is not listener:
            self.settle()
            tally = self.tallies[listener.name] = Tally(listener, self.face_of(listener))
        self.tally = tally
        return tally

    cdef int64_t granted(self, int64_t asked) except -1:
        """See `ShortWay._granted`."""
        if asked != self.asked:
            self.most, self.spread, self.least = self.span_of(asked)
            self.asked = asked
        return max(self.most - <int64_t>(self.spread * <double>random()), self.least)

    cdef void count(self, Tally tally, double seconds) noexcept:
        """Count a 200 and the time it took."""
        cdef int i = 0
        while seconds > self.bounds[i] and i < BOUNDS - 1:
            i += 1
        tally.accepted[i] += 1
        tally.seconds += seconds


cdef bytes tag_of(uint32_t chance):
    """Return a number in eight hexadecimal digits."""
    cdef const char* digits = b"0123456789abcdef"
    cdef bytes tag = PyBytes_FromStringAndSize(NULL, TAG_DIGITS)
    cdef char* p = PyBytes_AS_STRING(tag)
    cdef int i
    for i in range(TAG_DIGITS):
        p[i] = digits[chance >> (28 - 4 * i) & 15]
    return tag
