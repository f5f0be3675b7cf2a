cimport cython

from flowserve.timers cimport Timers

cdef class Context:
    cdef readonly object app, config, loop, outbox
    cdef readonly Timers timers
    cdef public object state, root_path
    cdef readonly set live
    cdef readonly dict tasks
    cdef public Py_ssize_t active
    cdef public bint shutting_down
    cdef bytes _defaults
    cdef long long _defaults_at

    cpdef call_app(self, call, scope)
    cdef _ended(self, call, bint failed)
    @cython.locals(now="long long")
    cpdef bytes default_headers(self)

cdef _report(error)
