cimport cython

from flowserve.waiters cimport joined, wake
from flowserve.writer cimport Writer
from flowserve.websocket.connection cimport Connection

cdef Py_ssize_t _READ_MARK

cdef class Receiver(Writer):
    cdef readonly object context
    cdef object _loop, _waiter
    cdef list _waiters
    cdef bint _reading
    cdef Py_ssize_t _max_queue

    cpdef wait(self)
    @cython.locals(connection=Connection)
    cpdef take(self)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    @cython.locals(connection=Connection)
    cdef bint _full(self, Py_ssize_t part)
    cpdef wake(self)
