cdef Py_ssize_t _MIN_ALLOWANCE, _MAX_OVERDRAFT, _CHECK_MARK

cdef class Budget:
    cdef Py_ssize_t _granted, _unchecked, _size
    cdef public Py_ssize_t allowance, remaining

    cpdef begin(self)
    cpdef end(self)
    cpdef count_read(self, Py_ssize_t size)
    cpdef bint used_up(self) except -1
    cpdef refill(self)
