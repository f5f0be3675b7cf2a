cimport cython

from flowserve.session.session cimport Session

cdef class WebSocketProperties:
    cdef dict __dict__
    cdef object __weakref__
    cdef Session _session
    cdef object _request, _response
    cdef public object _id
    cdef readonly object subprotocol

@cython.locals(properties=WebSocketProperties)
cpdef Session session_of(websocket)
