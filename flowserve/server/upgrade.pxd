cimport cython
from flowserve.asgi.context cimport Context
from flowserve.transport.stream cimport TransportStream
from flowserve.http.messages cimport RequestHead
from flowserve.websocket.server_handshake cimport check_request, response_fields
from flowserve.session.host cimport SessionContext
from flowserve.http.response_encoder cimport encode_switching

@cython.final
cdef class Upgrade:
    cdef bytes _key
    cdef list _offers
    cdef readonly list subprotocols

    cpdef agree(self, str subprotocol, Context context, peer)
    cpdef tuple answer(self, subprotocol, headers, deflate, TransportStream stream, SessionContext context, bytes default_headers)
