cimport cython

from flowserve.patience cimport Backlog, Liveness
from flowserve.receiving cimport Receiver
from flowserve.websocket.connection cimport Connection

cdef int _OPEN
cdef Py_ssize_t _WRITE_MARK

cdef class Sender(Receiver):
    cdef object _slow
    cdef Liveness _life
    cdef Backlog _backlog
    cdef double _idle_timeout

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
    cdef bint _refuses(self) except -1
    cdef bint _sent(self) except -1
    cpdef _expire(self)
