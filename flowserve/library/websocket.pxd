cimport cython

from flowserve.library.properties cimport WebSocketProperties, session_of
from flowserve.session.session cimport Session
from flowserve.transport.waiters cimport add_waiter, wake
from flowserve.websocket.connection cimport Connection

cdef class WebSocket(WebSocketProperties):
    cdef readonly object _fragmented
    cdef object _lock, _lost_by, _monitor, _pings
    cdef list _waiters
    cdef bint _told

    @cython.locals(connection=Connection, session=Session)
    cpdef _on_data(self)
