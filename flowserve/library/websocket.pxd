cimport cython

from flowserve.library.properties cimport WebSocketProperties, session_of
from flowserve.session.session cimport Session
from flowserve.websocket.connection cimport Connection

cdef class WebSocket(WebSocketProperties):
    cdef object _lock, _lost_by, _pings, _waiters
    cdef bint _told
    cdef public object _part

    cpdef bint _is_anothers(self) except -1
    @cython.locals(connection=Connection, session=Session)
    cpdef fed(self)
