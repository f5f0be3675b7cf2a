cimport cython
from flowserve.asgi.context cimport Context
from flowserve.http.messages cimport RequestHead
from flowserve.transport.stream cimport TransportStream
from flowserve.server.upgrade cimport Upgrade

@cython.final
cdef class Admission:
    cdef Context _context
    cdef readonly dict _connections
    cdef object _hosts, _origins, _trusted, _max_connections, _max_websockets
    cdef bint _checks_peers, _has_warned
    cdef long long _max_body
    cdef readonly bint reads_headers
    cdef readonly object health_path

    cpdef begin_connection(self, connection, transport, peer)
    cpdef bint trusts(self, peer) except -1
    cpdef key_of(self, peer, bint trusted)
    cpdef bint add_connection(self, key, peer) except -1
    cpdef remove_connection(self, key)
    cpdef TransportStream stream(self, transport, key)
    cpdef bint is_health_check(self, RequestHead request) except -1
    cpdef admit(self, RequestHead request, peer, bint proxied)
    cpdef bint allows_body(self, long long size) except -1
    cpdef body_refusal(self)
    cpdef Upgrade upgrade(self, RequestHead request)
