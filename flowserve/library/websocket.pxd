cimport cython

from flowserve.session cimport Session
from flowserve.websocket.connection cimport Connection

cdef class WebSocket:
    cdef object __weakref__
    cdef Session _session
    cdef object _id, _lock, _lost_by, _pings, _waiters
    cdef bint _told
    cdef public object _part
    cdef readonly object request, response, subprotocol

    cpdef bint _is_anothers(self) except -1
    @cython.locals(connection=Connection, session=Session)
    cpdef fed(self)

cpdef as_payload(message, text)
