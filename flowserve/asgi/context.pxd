cimport cython

from flowserve.asgi.application cimport Invocation
from flowserve.http.messages cimport RequestHead
from flowserve.session.host cimport SessionContext

@cython.final
cdef class Context(SessionContext):
    cdef readonly object app, draining, variables, log_query
    cdef public object on_max_served, root_path
    cdef public dict refusals, state
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
    cpdef bint writes_access(self)
    cpdef target_for_log(self, bytes target)
    @cython.locals(target=str, seconds=double, logged=bint)
    cpdef response_ended(self, RequestHead request, peer, int status, double begun_at, unsigned long long size)
    @cython.locals(invocation=Invocation)
    cpdef call_app(self, call, scope)
    cpdef cancel_call(self, call)
    cpdef call_ended(self, call, bint failed)
    @cython.locals(now=double)
    cpdef bytes default_headers(self)
