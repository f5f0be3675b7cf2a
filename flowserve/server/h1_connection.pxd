cimport cython

from flowserve.asgi.http cimport HTTPCycle
from flowserve.asgi.websocket cimport WebSocketCycle
from flowserve.asgi.context cimport Context
from flowserve.transport.stream cimport TransportStream
from flowserve.http.messages cimport RequestHead
from flowserve.server.admission cimport Admission
from flowserve.server.h1_response_stream cimport H1ResponseStream
from flowserve.server.upgrade cimport Upgrade

cdef Py_ssize_t _MIN_BODY_PROGRESS

cdef class H1Connection(H1ResponseStream):
    cdef Admission _admission
    cdef object _cycle, _deflate, _proxy
    cdef Upgrade _upgrade
    cdef bint _eof
    cdef Py_ssize_t _body_size

    cpdef begin(self, TransportStream stream, peer, bint trusted)
    cpdef data_received(self, bytes data)
    @cython.locals(idle=bint)
    cpdef _parse(self, bytes data)
    cdef _defer(self)
    cpdef on_time_slice(self)
    cdef bint _can_begin_request(self) except -1
    @cython.locals(context=Context, admission=Admission, cycle=HTTPCycle, websocket=WebSocketCycle)
    cpdef on_request(self, RequestHead request)
    @cython.locals(cycle=HTTPCycle)
    cpdef on_body(self, bytes data)
    @cython.locals(cycle=HTTPCycle)
    cpdef on_end(self)
    cdef HTTPCycle _http_cycle(self)
    cdef _answer_health_check(self, RequestHead request)
    cdef _refuse(self, RequestHead request, error)
    cdef _reject(self, error)
    cpdef send_error(self, int status, str detail)
    cpdef finished(self)
    cdef _parse_next(self)
    @cython.locals(data=bytes)
    cdef _parse_pending(self)
    cdef _start_body_timeout(self)
    @cython.locals(cycle=HTTPCycle)
    cdef _check_progress(self)
    cdef _detach(self)
