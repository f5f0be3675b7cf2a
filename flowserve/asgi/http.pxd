cimport cython

from flowserve.asgi.scope cimport http_scope
from flowserve.asgi.context cimport Context
from flowserve.http.messages cimport RequestHead, as_bytes
from flowserve.transport.bases cimport ResponseStream
from flowserve.transport.flush_queue cimport Flushable
from flowserve.transport.waiters cimport add_waiter, wake

cdef int _HEAD_ITERATIONS
cdef Py_ssize_t _BODY_MARK
cdef double _EARLY_HALF_CLOSE, _CHECK_INTERVAL, _QUIET_TIMEOUT

cpdef HTTPCycle own(it)

cdef class HTTPCycle(Flushable):
    cdef bytearray _body
    cdef bint _start_received, _body_complete, _body_taken, _complete, _disconnected, _expects_continue, _cancelled
    cdef bint _half_closed, _client_left, _head_sent, _disconnect_received
    cdef int _status, _head_iterations
    cdef unsigned long long _bytes_sent
    cdef unsigned long long _parts_sent, _parts_at_body_check, _parts_at_check
    cdef Context _context
    cdef object _variables
    cdef ResponseStream _stream
    cdef RequestHead _request
    cdef double _quiet_since, _started_at
    cdef list _waiters

    cpdef run(self)
    cpdef body_received(self, bytes data)
    cpdef bint awaits_body(self) except -1
    cpdef body_complete(self)
    cpdef half_closed(self)
    cpdef refused(self, int status, size)
    cpdef disconnected(self)
    cdef _set_client_left(self)
    @cython.locals(waiters=list)
    cdef _wake(self)
    cpdef on_deadline(self, double now)
    @cython.locals(quiet=double)
    cdef _check_half_closed(self, double now)
    cdef _cancel_app(self)
    cdef _take_body(self)
    cdef _start_response(self, dict message)
    cpdef flush(self)
    @cython.locals(body=bytes, more=bint)
    cdef bint _send_body(self, dict message) except -1
    cdef _finish(self)
    cpdef _log(self)
    cpdef bint has_ended(self) except -1
