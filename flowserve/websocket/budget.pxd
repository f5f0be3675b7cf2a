cdef Py_ssize_t _LEAST

cdef class Budget:
    cdef Py_ssize_t _begun, _size
    cdef public Py_ssize_t allowance, left

    cpdef begin(self)
    cpdef end(self)
    cpdef refill(self)
