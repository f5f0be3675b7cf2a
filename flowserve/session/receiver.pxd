cimport cython

from flowserve.transport.waiters cimport add_waiter, wake
from flowserve.session.host cimport SessionContext
from flowserve.session.writer cimport SessionWriter
from flowserve.transport.bases cimport Stream
from flowserve.websocket.connection cimport Connection

cdef class Receiver(SessionWriter):
    cdef readonly SessionContext context
    cdef object _loop, _waiter
    cdef list _waiters
    cdef bint _deferred, _reading

    cdef _begin_receiver(self, Connection connection, Stream stream, SessionContext context)
    cpdef wait(self)
    @cython.locals(connection=Connection)
    cpdef take(self)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cpdef on_time_slice(self)
    cpdef wake(self)
