cimport cython

cdef double _RESOLUTION

cdef class Timed:
    cdef public double deadline
    cdef public long long tick

    cpdef on_deadline(self, double now)

@cython.final
cdef class Timers:
    cdef object _loop, _handle, _variables
    cdef dict _buckets
    cdef list _ticks
    cdef long long _armed_tick, _last_tick, _empty_tick

    @cython.locals(tick="long long", current="long long", bucket=set)
    cpdef set(self, Timed item, double deadline)
    @cython.locals(current="long long")
    cpdef cancel(self, Timed item)
    @cython.locals(bucket=set)
    cdef _remove(self, Timed item, long long tick)
    @cython.locals(bucket=set)
    cdef _delete_if_empty(self, long long tick)
    cdef _arm(self)
    cdef _call_item(self, Timed item, double now)
    @cython.locals(bucket=set, item=Timed, now=double)
    cpdef _fire(self)
