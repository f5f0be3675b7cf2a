cimport cython

from flowserve.asgi cimport threading
from flowserve.asgi.scope cimport websocket_scope
from flowserve.asgi.context cimport Context
from flowserve.asgi.websocket_messages cimport check_close, header_fields, send_payload
from flowserve.http.messages cimport as_bytes
from flowserve.session.session cimport Session
from flowserve.transport.bases cimport ResponseStream
from flowserve.transport.waiters cimport add_waiter, wake

cdef int _OPEN, _CONNECTING, _ACCEPTED, _DENYING, _REFUSED
cdef dict _TEXT, _BYTES

cpdef WebSocketCycle own(it)

cdef class UpgradeStream(ResponseStream):
    cdef readonly bytes switching

    cpdef agree(self, str subprotocol)
    cpdef accept(self, subprotocol, headers)

@cython.final
cdef class WebSocketCycle:
    cdef Context _context
    cdef object _client, _raw_target, _request, _variables
    cdef UpgradeStream _stream
    cdef bytes _user_agent
    cdef unsigned long long _bytes_sent
    cdef list _waiters
    cdef readonly Session session
    cdef int _state, _deny_status
    cdef bint _denial_started, _connect_received, _disconnect_known
    cdef double _started_at

    cpdef run(self, list subprotocols)
    @cython.locals(session=Session, event=dict)
    cdef dict _next_event(self)
    cdef bint _is_disconnected(self) except -1
    @cython.locals(session=Session)
    cdef dict _disconnect(self)
    cdef _wait_for_event(self)
    @cython.locals(session=Session)
    cdef _send(self, message)
    cdef _close(self, message, Session session)
    cdef bint _handle_handshake_event(self, kind, message) except -1
    cdef _accept(self, dict message)
    cdef bint _deny(self, message) except -1
    cpdef _refuse(self, int status, str detail)
    cpdef _end_handshake(self, int status)
    cpdef timed_out(self)
    cpdef _time_out(self)
    cpdef bint ignores_disconnect(self) except -1
    @cython.locals(session=Session)
    cpdef bint has_ended(self) except -1
    cpdef _log_close(self)
    cdef _wait(self)
    cdef _wake(self)
    cdef str _client_name(self)
    cdef str _target_for_log(self)
