cdef object _NOTHING

cdef class Completed:
    pass
