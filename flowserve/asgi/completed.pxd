cimport cython
cdef object _NOTHING

@cython.final
cdef class Completed:
    pass
