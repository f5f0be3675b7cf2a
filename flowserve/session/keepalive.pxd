cimport cython

from flowserve.session.writer cimport SessionWriter

cdef double _GRACE
cdef int _LOOKS

cdef class Keepalive:
    cdef bint active, _suspect
    cdef int _still
    cdef double active_at
    cdef double _ends_at, _idle_timeout, _look_due, _ping_due, _ping_interval, _ping_timeout, _pong_due_from, _send_timeout
    cdef long long _taken, _taken_at_ping

    @cython.locals(due=double)
    cpdef double next_look(self, double now) except? -1
    cpdef look(self, double now, SessionWriter writer, bint reading)
    cpdef pinged(self, double now, SessionWriter writer)
    @cython.locals(unsent="long long", taken="long long")
    cdef bint _is_stuck(self, double now, SessionWriter writer) except -1
    @cython.locals(unsent="long long", taken="long long", suspect=bint)
    cdef bint _is_dead(self, double now, SessionWriter writer, bint reading) except -1

cdef double _earlier(double due, double other) noexcept
