cimport cython

cimport cpython.time as time
from flowserve.session.slow_consumer cimport SlowConsumerLimit
from flowserve.session.host cimport SessionContext
from flowserve.session.keepalive cimport Keepalive
from flowserve.session.receiver cimport Receiver
from flowserve.transport.bases cimport Stream
from flowserve.websocket.connection cimport Connection

cdef int _OPEN
cdef Py_ssize_t _WRITE_COST, _WRITE_MARK
cdef double _BATCH_TIME

cdef class Sender(Receiver):
    cdef object _compression
    cdef Keepalive _keepalive
    cdef SlowConsumerLimit _limit
    cdef double _idle_timeout, _written_at
    cdef Py_ssize_t _unyielded

    cdef _begin_sender(self, Connection connection, Stream stream, SessionContext context, double now)
    cpdef bint send_text(self, str text, compress=*) except -1
    cpdef bint send_binary(self, bytes data, compress=*) except -1
    cpdef bint send(self, message, compress=*) except -1
    cpdef bint takes_long(self, message, compress) except -1
    cpdef send_slowly(self, message, compress=*)
    cpdef bint send_compressed(self, bint text, bytes payload, long long size) except -1
    @cython.locals(connection=Connection)
    cpdef bint takes_frames(self) except -1
    @cython.locals(limit=SlowConsumerLimit)
    cpdef bint overflows(self) except -1
    cpdef transmit(self, message, compress=*)
    cpdef ping(self, bytes payload)
    cpdef bint send_frame(self, bytes frame, bint text, long long size) except -1
    cpdef bint send_fragment(self, bint text, bytes payload, bint first, bint last, bint compress=*) except -1
    cdef bint _must_drop(self) except -1
    cdef bint _write_or_batch(self) except -1
    @cython.locals(now=double)
    cdef bint _may_write_now(self) except -1
    @cython.locals(size=Py_ssize_t)
    cdef bint _schedule_write(self, bint at_once) except -1
    cpdef _expire(self)
