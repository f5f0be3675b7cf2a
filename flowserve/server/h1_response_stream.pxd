cimport cython

from flowserve.asgi.context cimport Context
from flowserve.asgi.websocket cimport UpgradeStream
from flowserve.http.messages cimport RequestHead
from flowserve.http.request_parser cimport RequestParser
from flowserve.http.response_encoder cimport ResponseEncoder
from flowserve.transport.stream cimport TransportStream

cdef Py_ssize_t _WRITE_COST, _WRITE_MARK

cdef class H1ResponseStream(UpgradeStream):
    cdef Context _context
    cdef ResponseEncoder _encoder
    cdef TransportStream _stream
    cdef RequestParser _parser
    cdef RequestHead _request
    cdef bytes _pending
    cdef bint _closing, _deferred, _body_paused, _receiving
    cdef Py_ssize_t _unyielded, _body_bytes, _linger_left
    cdef double _linger_end

    cdef _begin_stream(self, Context context, RequestParser parser)
    cpdef send_continue(self)
    cpdef start_response(self, status, headers)
    cpdef send_head(self)
    @cython.locals(encoder=ResponseEncoder, head=bytes)
    cpdef bint send_body(self, bytes body, bint more) except -1
    cdef bint _write(self, bytes data) except -1
    cpdef bint is_reset(self) except -1
    cpdef bint progressed(self) except -1
    cdef bint _is_taking_response(self) except -1
    cdef _await_taking(self)
    cdef _abort_closing(self)
    cdef _report_slow_response(self)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cdef _resume_if_allowed(self)
    cdef _respond_and_close(self, error)
    cdef _close(self)
    @cython.locals(sent=Py_ssize_t)
    cdef bint _lingers(self, double now) except -1
    @cython.locals(deadline=double)
    cdef _set_deadline(self, double seconds)
