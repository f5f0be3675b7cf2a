cimport cython
cdef bint _TASK_TAKES_CONTEXT
cdef object _END

@cython.final
cdef class Invocation:
    cdef object _call, _caller, _coroutine, _scope, _iterator
    cdef bint _delayed

    cpdef start(self, loop, variables)
    cdef _resume(self)
    cdef _throw(self, error)
    cdef _call_app(self)
    cdef bint _handle_error(self, error) except -1
    cdef bint _is_cancellation(self, error) except -1
    cdef _finish(self, bint failed)

cpdef check_awaitable(result)
