from flowserve.transport.socket_transport cimport SocketTransport

cpdef peer_of(transport)
cdef tuple _client_address(tuple name)
