cimport cython

cdef double _RESOLUTION

@cython.final
cdef class Timers:
    cdef object _loop, _handle, _variables
    cdef dict _buckets
    cdef list _ticks
    cdef long long _armed_tick, _last_tick, _empty_tick

    @cython.locals(tick="long long", current="long long", bucket=set)
    cpdef set(self, item, double deadline)
    @cython.locals(current="long long")
    cpdef cancel(self, item)
    @cython.locals(bucket=set)
    cdef _remove(self, item, long long tick)
    @cython.locals(bucket=set)
    cdef _delete_if_empty(self, long long tick)
    cdef _arm(self)
    cdef _call_item(self, item, double now)
    @cython.locals(bucket=set)
    cpdef _fire(self)
