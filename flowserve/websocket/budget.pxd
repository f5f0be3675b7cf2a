cdef Py_ssize_t _LEAST, _MOST_OWED, _READ_MARK

cdef class Budget:
    cdef Py_ssize_t _begun, _read, _size
    cdef public Py_ssize_t allowance, left

    cpdef begin(self)
    cpdef end(self)
    cpdef read(self, Py_ssize_t size)
    cpdef bint used_up(self) except -1
    cpdef refill(self)
