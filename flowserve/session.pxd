cimport cython

from flowserve.websocket.connection cimport Connection

cdef int _OPEN, _CLOSED
cdef Py_ssize_t _READ_MARK, _WRITE_MARK, _JOIN_MARK
cdef double _GRACE

cdef class Outbox:
    cdef object _loop
    cdef list _sessions

    cpdef add(self, Session session)
    @cython.locals(session=Session, sessions=list)
    cpdef flush(self)

cdef class Session:
    cdef readonly Connection connection
    cdef readonly object stream, context
    cdef public object on_lost
    cdef public double latency, deadline
    cdef public long long tick
    cdef object _loop
    cdef Outbox _outbox
    cdef list _waiters
    cdef object _waiter
    cdef object _slow
    cdef bint _lost, _listed, _reading, _active, _suspect
    cdef Py_ssize_t _max_queue
    cdef unsigned int _pings
    cdef double _active_at, _idle_timeout, _ping_interval, _ping_timeout, _ping_sent, _ping_due, _pong_due_from

    @cython.locals(connection=Connection)
    cpdef bint ready(self) except -1
    cpdef wait(self)
    @cython.locals(connection=Connection)
    cpdef take(self)
    @cython.locals(connection=Connection)
    cdef bint _full(self, Py_ssize_t part)
    cdef _wake(self)

    cpdef bint send_text(self, str text, compress=*) except -1
    cpdef bint send_binary(self, bytes data, compress=*) except -1
    cpdef bint send(self, message, compress=*) except -1
    cpdef bint takes_long(self, message, compress) except -1
    cpdef send_slowly(self, message, compress=*)
    cpdef bint send_compressed(self, bint text, bytes payload, long long size) except -1
    @cython.locals(connection=Connection)
    cpdef close(self, int code, str reason=*)
    @cython.locals(connection=Connection, pieces=list, size=Py_ssize_t)
    cpdef flush(self)
    cdef int _check_open(self) except -1
    cdef bint _sent(self) except -1

    cpdef _answer(self)
    cdef _closing(self)
    cdef _set_deadline(self, double deadline)

    @cython.locals(connection=Connection, messages="long long", state=int)
    cpdef data_received(self, bytes data)
    cdef _ended(self)

    @cython.locals(connection=Connection)
    cpdef on_deadline(self, double now)
    cdef _ping(self, double now)
    @cython.locals(connection=Connection)
    cdef _ponged(self)
    @cython.locals(suspect=bint)
    cdef bint _is_dead(self, double now) except -1
    @cython.locals(due=double)
    cdef _keep_alive(self, double now)

cdef double _earlier(double due, double other) noexcept
