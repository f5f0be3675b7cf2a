cimport cython

from flowserve.asgi.http cimport HTTPCycle
from flowserve.asgi.context cimport Context
from flowserve.transport.stream cimport TransportStream
from flowserve.http.request_parser cimport RequestParser
from flowserve.http.messages cimport RequestHead
from flowserve.http.response_encoder cimport ResponseEncoder
from flowserve.server.upgrade cimport Upgrade

cdef Py_ssize_t _LEAST_BODY, _PENDING_MARK, _WRITE_COST, _WRITE_MARK
cdef double _LINGER, _STALL

cdef class H1Connection:
    cdef Context _context
    cdef object _cycle, _deflate, _admission, _proxy
    cdef readonly object peer
    cdef TransportStream _stream
    cdef RequestParser _parser
    cdef ResponseEncoder _encoder
    cdef RequestHead _request
    cdef Upgrade _upgrade
    cdef bytes _pending
    cdef readonly bytes switching
    cdef bint _closing, _deferred, _eof, _held, _receiving
    cdef Py_ssize_t _body_bytes, _unyielded
    cdef public double deadline
    cdef public long long tick

    cpdef begin(self, TransportStream stream, peer, bint trusted)
    cpdef data_received(self, bytes data)
    @cython.locals(idle=bint)
    cpdef _parse(self, bytes data)
    cdef _defer(self)
    cpdef next_turn(self)
    cdef bint _is_free(self) except -1
    @cython.locals(context=Context, cycle=HTTPCycle)
    cpdef on_request(self, RequestHead request)
    @cython.locals(cycle=HTTPCycle)
    cpdef on_body(self, bytes data)
    @cython.locals(cycle=HTTPCycle)
    cpdef on_end(self)
    cdef HTTPCycle _http_cycle(self)
    cdef bint _apply_forwarded(self, RequestHead request, proxy) except -1
    cdef bint _admit(self, RequestHead request) except -1
    cdef _open_websocket(self, RequestHead request)
    cdef _turn_away(self, RequestHead request, error, headers=*)
    cdef _reject(self, error, headers=*)
    cdef _respond_and_close(self, error, headers=*)
    cdef _close(self)
    cpdef send_continue(self)
    cpdef start_response(self, status, headers)
    cpdef send_head(self)
    @cython.locals(encoder=ResponseEncoder, head=bytes)
    cpdef bint send_body(self, bytes body, bint more) except -1
    cdef bint _write(self, bytes data) except -1
    cpdef send_error(self, int status, str detail)
    cpdef finished(self)
    cdef _go_on(self)
    @cython.locals(data=bytes)
    cdef _parse_pending(self)
    cpdef bint is_reset(self) except -1
    cpdef bint progressed(self) except -1
    cdef bint _still_takes(self) except -1
    cdef _cut_response(self)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cdef _read_on(self)
    cdef _await_body(self)
    @cython.locals(cycle=HTTPCycle)
    cdef _look_for_progress(self)
    @cython.locals(deadline=double)
    cdef _set_deadline(self, double seconds)
    cdef _forget(self)
