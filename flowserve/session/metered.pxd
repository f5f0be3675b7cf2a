cimport cython

from flowserve.session.session cimport Session
from flowserve.websocket.connection cimport Connection

cdef int _TEXT
cdef tuple _SIZES
cdef Py_ssize_t _SUM_INDEX

cdef class MeteredConnection(Connection):
    cdef list _binary_in, _binary_out, _text_in, _text_out

    cdef _deliver(self, message, Py_ssize_t size)
    cdef _send(self, int opcode, bytes payload, compress)
    cdef _send_ascii(self, str text)
    cpdef send_frame(self, bytes frame, bint text, long long size)
    cpdef send_fragment(self, bint text, bytes payload, bint first, bint last, bint compress=*)
    cpdef send_compressed(self, bint text, bytes payload, long long size)

cdef class MeteredSession(Session):
    cdef object _counts
    cdef double _pinged_at

    cdef _ping(self, double now)
    cdef _handle_pong(self)

cdef _count(list histogram, long long size)
