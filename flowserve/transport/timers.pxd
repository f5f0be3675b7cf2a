cimport cython

cdef double _RESOLUTION

cdef class Timers:
    cdef object _loop, _handle, _variables
    cdef dict _buckets
    cdef list _ticks
    cdef long long _armed, _fired, _vacant

    @cython.locals(tick="long long", stands="long long", bucket=set)
    cpdef set(self, item, double deadline)
    @cython.locals(stands="long long")
    cpdef cancel(self, item)
    @cython.locals(bucket=set)
    cdef _leave(self, item, long long tick)
    @cython.locals(bucket=set)
    cdef _clear_away(self, long long tick)
    cdef _arm(self)
    cdef _call(self, item, double now)
    @cython.locals(bucket=set)
    cpdef _fire(self)
