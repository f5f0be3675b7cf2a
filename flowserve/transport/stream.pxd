cimport cython

from flowserve.transport.bases cimport Stream
from flowserve.transport.socket_transport cimport SocketTransport
from flowserve.transport.waiters cimport add_waiter, wake

cdef Py_ssize_t _JOIN_MARK

cdef class TransportStream(Stream):
    cdef readonly object transport
    cdef SocketTransport _over_socket
    cdef bint _ended, _reading
    cdef long long _written, _sent_before
    cdef list _waiters
    cdef object _variables

    cpdef write(self, data)
    @cython.locals(size=Py_ssize_t)
    cpdef writelines(self, list data)
    cdef bint _drops_writes(self) except -1
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    cpdef end_writing(self)
    cpdef Py_ssize_t buffered(self) except -1
    cpdef long long unsent(self) except? -1
    @cython.locals(unsent="long long", before="long long", acknowledged="long long")
    cpdef bint progressed(self) except -1
    cpdef bint is_reset(self) except -1
    cpdef limit_buffer(self, size, low=*)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cpdef close(self)
    cpdef abort(self)
    cpdef lost(self)

cpdef extra_info(transport, name)
cdef _raw_transport(transport)
cdef long long _unacknowledged(transport) except? -1
