cimport cython

from flowserve.transport.timers cimport Timed

cdef class Flushable(Timed):
    cdef bint _flush_pending

    cpdef flush(self)

@cython.final
cdef class FlushQueue:
    cdef object _loop, _variables
    cdef list _pending

    cpdef add(self, Flushable flushable)
    @cython.locals(flushable=Flushable, pending=list)
    cpdef flush(self)
