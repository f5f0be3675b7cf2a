cimport cython

from flowserve.session.writer cimport Writer
from flowserve.websocket.connection cimport Connection

cdef class Backlog:
    cdef bint closes, full, expired
    cdef Py_ssize_t mark
    cdef long long dropped

    @cython.locals(connection=Connection, waiting=Py_ssize_t)
    cpdef bint overflows(self, Writer writer) except -1
