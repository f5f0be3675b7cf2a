cimport cython

from flowserve.library.properties cimport WebSocketProperties, session_of
from flowserve.session.session cimport Session
from flowserve.transport.waiters cimport add_waiter, wake
from flowserve.websocket.connection cimport Connection

cdef class WebSocket(WebSocketProperties):
    cdef readonly object _fragmented
    cdef object _send_lock, _lost_by, _next_monitor, _pings
    cdef list _close_waiters
    cdef bint _end_known

    @cython.locals(connection=Connection, session=Session)
    cpdef _on_data(self)
