cimport cython

from flowserve.asgi.scope cimport http_scope
from flowserve.context cimport Context
from flowserve.http.messages cimport Request

cdef class HTTPCycle:
    cdef bytearray _body
    cdef bint _body_complete, _body_taken, _complete, _disconnected, _expects_continue, _half_closed, _started
    cdef Context _context
    cdef dict _start
    cdef object _stream, _status
    cdef Request _request
    cdef double _started_at
    cdef list _waiters

    cpdef run(self)
    cpdef body_received(self, bytes data)
    cpdef body_complete(self)
    cpdef half_closed(self)
    cpdef disconnected(self)
    @cython.locals(waiters=list)
    cdef _wake(self)
    cdef _take_body(self)
    @cython.locals(body=bytes, more=bint)
    cdef bint _send_body(self, dict message) except -1
    cdef _finish(self)
    cdef _log(self)

cpdef bytes as_bytes(value, str key)
