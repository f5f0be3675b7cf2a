cimport cython

from flowserve.http.messages cimport Request

cdef class ResponseEncoder:
    cdef str _method, _version
    cdef bint _chunked, _head_only
    cdef object _expected
    cdef public bint keep_alive
    cdef readonly bint started

    @cython.locals(lines=list, bodyless=bint)
    cpdef bytes head(self, status, headers, bytes defaults, length)
    cpdef bytes body(self, bytes data, bint more)

cpdef list checked_fields(fields)
cpdef bytes status_line(status)
