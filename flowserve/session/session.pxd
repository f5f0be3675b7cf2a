cimport cython

from flowserve.session.sender cimport Sender
from flowserve.websocket.connection cimport Connection

cdef int _OPEN
cdef dict _CLOSES

cdef class Session(Sender):
    cdef public object monitor
    cdef public double latency
    cdef bint _eof
    cdef unsigned int _pings
    cdef double _ping_sent

    @cython.locals(connection=Connection)
    cpdef bint ready(self) except -1
    cpdef take_part(self)

    @cython.locals(connection=Connection)
    cpdef close(self, int code, str reason=*)

    cpdef _answer_end(self)
    cdef _begin_closing(self)
    cpdef _expire(self)
    cdef bint _is_expired(self) except -1
    cdef _set_deadline(self, double deadline)

    @cython.locals(connection=Connection, messages="long long", state=int, held=bint)
    cpdef data_received(self, bytes data)
    cpdef on_time_slice(self)
    cdef _handle_end(self)

    cpdef on_deadline(self, double now)
    cdef _check_keepalive(self, double now)
    @cython.locals(due=double)
    cdef _schedule_check(self, double now)
    cdef _ping(self, double now)
    @cython.locals(connection=Connection)
    cdef _handle_pong(self)
