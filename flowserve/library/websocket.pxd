cimport cython

from flowserve.session cimport Session
from flowserve.websocket.connection cimport Connection

cdef class WebSocket:
    cdef dict __dict__
    cdef object __weakref__
    cdef Session _session
    cdef object _lock, _lost_by, _pings, _request, _response, _waiters
    cdef bint _told
    cdef public object _id, _part
    cdef readonly object subprotocol

    cdef Session _own(self)

    cpdef bint _is_anothers(self) except -1
    @cython.locals(connection=Connection, session=Session)
    cpdef fed(self)
