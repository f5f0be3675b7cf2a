cimport cython

from flowserve.patience cimport Backlog, Liveness
from flowserve.receiving cimport Receiver
from flowserve.websocket.connection cimport Connection

cdef int _OPEN
cdef Py_ssize_t _WRITE_MARK
cdef dict _ENDS

cdef class Session(Receiver):
    cdef public object on_lost, monitor
    cdef public double latency, deadline
    cdef public long long tick
    cdef object _slow
    cdef Liveness _life
    cdef Backlog _backlog
    cdef bint _eof
    cdef unsigned int _pings
    cdef double _idle_timeout, _ping_sent

    @cython.locals(connection=Connection)
    cpdef bint ready(self) except -1
    @cython.locals(connection=Connection)
    cpdef take_part(self)

    cpdef begin(self, bytes head)
    cpdef bint send_text(self, str text, compress=*) except -1
    cpdef bint send_binary(self, bytes data, compress=*) except -1
    cpdef bint send(self, message, compress=*) except -1
    cpdef bint takes_long(self, message, compress) except -1
    cpdef send_slowly(self, message, compress=*)
    cpdef bint send_compressed(self, bint text, bytes payload, long long size) except -1
    @cython.locals(backlog=Backlog)
    cpdef bint overflows(self) except -1
    @cython.locals(connection=Connection)
    cpdef transmit(self, message, compress=*)
    cpdef ping(self, bytes payload)
    cpdef bint send_frame(self, bytes frame, bint text, long long size) except -1
    cpdef bint send_fragment(self, bint text, bytes payload, bint first, bint last, bint compress=*) except -1
    @cython.locals(connection=Connection)
    cpdef close(self, int code, str reason=*)
    cdef bint _refuses(self) except -1
    cdef bint _sent(self) except -1

    cpdef _answer(self)
    cdef _closing(self)
    cpdef _expire(self)
    cdef bint _expired(self) except -1
    cdef _set_deadline(self, double deadline)

    @cython.locals(connection=Connection, messages="long long", state=int)
    cpdef data_received(self, bytes data)
    cdef _ended(self)

    cpdef on_deadline(self, double now)
    cdef _demand(self, double now)
    @cython.locals(due=double)
    cdef _watch(self, double now)
    cdef _ping(self, double now)
    @cython.locals(connection=Connection)
    cdef _ponged(self)
