cdef bint _TAKES_CONTEXT
cdef object _END

cdef class Invocation:
    cdef object _call, _caller, _coroutine, _scope, _steps
    cdef bint _waits

    cpdef start(self, loop, variables)
    cdef _step(self)
    cdef _throw(self, error)
    cdef _begin(self)
    cdef bint _failed(self, error) except -1
    cdef bint _is_cancellation(self, error) except -1
    cdef _ended(self, bint failed)

cpdef awaited(result)
