cimport cython

from flowserve.http.messages cimport RequestHead
from flowserve.transport.timers cimport Timers

@cython.final
cdef class Context:
    cdef readonly object app, config, loop, flush_queue, draining, variables, log_query
    cdef readonly Timers timers
    cdef readonly object timeslice
    cdef public object metrics, on_max_served, root_path
    cdef public dict refusals, state
    cdef readonly set live
    cdef readonly bint access_log
    cdef readonly unsigned long thread
    cdef readonly dict tasks
    cdef public Py_ssize_t active, max_served, served, websockets
    cdef public bint cutting, lame_duck, late_websockets, shutting_down
    cdef public double timeout_keep_alive
    cdef object _warned
    cdef bytes _defaults
    cdef double _defaults_made_at
    cdef Py_ssize_t _limit

    cpdef bint is_full(self)
    cpdef count_refusal(self, str reason)
    cpdef target_for_log(self, bytes target)
    @cython.locals(target=str)
    cpdef response_ended(self, RequestHead request, peer, int status, double seconds, unsigned long long size)
    cpdef call_app(self, call, scope)
    cpdef cancel_call(self, call)
    cpdef call_ended(self, call, bint failed)
    @cython.locals(now=double)
    cpdef bytes default_headers(self)
