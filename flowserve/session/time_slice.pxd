from flowserve.websocket.budget cimport Budget

cdef Py_ssize_t _BUDGET

cdef class TimeSlice(Budget):
    cdef object _loop, _variables, _deferred
    cdef bint _scheduled
    cdef double _end

    cpdef bint used_up(self) except -1
    cpdef defer(self, item)
    cpdef refill(self)
    cpdef _run_deferred(self)
