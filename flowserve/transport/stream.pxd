cimport cython

from flowserve.transport.waiters cimport joined, wake

cdef class TransportStream:
    cdef readonly object transport
    cdef readonly bint half_open, write_paused
    cdef bint _over, _reading
    cdef long long _written, _taken
    cdef list _waiters
    cdef object _variables

    cpdef write(self, data)
    cpdef writelines(self, data)
    cdef bint _is_over(self) except -1
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    cpdef end_writing(self)
    cpdef Py_ssize_t buffered(self) except -1
    cpdef long long unsent(self) except? -1
    @cython.locals(unsent="long long", before="long long")
    cpdef bint progressed(self) except -1
    cpdef bint is_reset(self) except -1
    cpdef limit_buffer(self, size, low=*)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cpdef close(self)
    cpdef abort(self)
    cpdef lost(self)

cpdef extra_info(transport, name)
cdef _below_tls(transport)
cdef long long _in_kernel(transport) except? -1
