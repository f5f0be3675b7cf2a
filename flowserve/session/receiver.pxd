cimport cython

from flowserve.transport.waiters cimport add_waiter, wake
from flowserve.session.writer cimport SessionWriter
from flowserve.websocket.connection cimport Connection

cdef class Receiver(SessionWriter):
    cdef readonly object context
    cdef object _loop, _waiter
    cdef list _waiters
    cdef bint _deferred, _reading

    cpdef wait(self)
    @cython.locals(connection=Connection)
    cpdef take(self)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cpdef on_time_slice(self)
    cpdef wake(self)
