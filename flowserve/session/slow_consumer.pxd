cimport cython

from flowserve.session.writer cimport SessionWriter
from flowserve.websocket.connection cimport Connection

@cython.final
cdef class SlowConsumerLimit:
    cdef bint closes, full, expired
    cdef Py_ssize_t mark
    cdef long long dropped

    @cython.locals(connection=Connection, waiting=Py_ssize_t)
    cpdef bint overflows(self, SessionWriter writer) except -1
