cimport cython

cdef double _RESOLUTION

cdef class Timers:
    cdef object _loop, _handle
    cdef dict _buckets
    cdef list _ticks
    cdef long long _fired

    @cython.locals(tick="long long", stands="long long", bucket=set)
    cpdef set(self, item, double deadline)
    cpdef cancel(self, item)
    cdef _arm(self)
    cdef _call(self, item, double now)
    @cython.locals(bucket=set)
    cpdef _fire(self)
