cdef class Flow:
    cdef readonly object transport
    cdef readonly bint half_open, write_paused
    cdef bint _reading
    cdef Py_ssize_t _buffered
    cdef list _waiters

    cpdef write(self, bytes data)
    cpdef writelines(self, data)
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    cpdef end_writing(self)
    cpdef bint progressed(self) except -1
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cpdef close(self)
    cpdef abort(self)
    cpdef lost(self)
