cimport cython

cdef class Outgoing:
    cdef bint _listed

    cpdef flush(self)

cdef class Outbox:
    cdef object _loop, _variables
    cdef list _all

    cpdef add(self, Outgoing outgoing)
    @cython.locals(outgoing=Outgoing, listed=list)
    cpdef flush(self)
