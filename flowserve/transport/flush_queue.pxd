cimport cython

cdef class Flushable:
    cdef bint _listed

    cpdef flush(self)

cdef class FlushQueue:
    cdef object _loop, _variables
    cdef list _all

    cpdef add(self, Flushable flushable)
    @cython.locals(flushable=Flushable, listed=list)
    cpdef flush(self)
