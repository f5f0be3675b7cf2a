cimport cython

from flowserve.session cimport Session
from flowserve.websocket.connection cimport Connection

cdef class WebSocket:
    cdef object __weakref__
    cdef Session _session
    cdef object _id, _lock, _pings, _waiters
    cdef bint _partial, _told
    cdef readonly object request, response, subprotocol

    cdef _leave_part(self)
    @cython.locals(connection=Connection)
    cpdef fed(self)
