cimport cython

from flowserve.session.writer cimport SessionWriter

cdef double _GRACE
cdef int _CHECKS

@cython.final
cdef class Keepalive:
    cdef bint active, _overdue
    cdef int _stalled_checks
    cdef double active_at
    cdef double _lifetime_ends, _idle_timeout, _send_check_due, _ping_due, _ping_interval, _ping_timeout, _pong_due_from, _send_timeout
    cdef long long _acknowledged, _acknowledged_at_ping

    @cython.locals(due=double)
    cpdef double next_check(self, double now) except? -1
    cpdef check(self, double now, SessionWriter writer, bint reading)
    cpdef pinged(self, double now, SessionWriter writer)
    @cython.locals(unsent="long long", acknowledged="long long")
    cdef bint _is_stuck(self, double now, SessionWriter writer) except -1
    @cython.locals(unsent="long long", acknowledged="long long", overdue=bint)
    cdef bint _is_dead(self, double now, SessionWriter writer, bint reading) except -1

cdef double _earlier(double due, double other) noexcept
