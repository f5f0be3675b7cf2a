cimport cython

@cython.final
cdef class Member:
    cdef public object subscriber, group, next
    cdef public int index
    cdef public bint complete
