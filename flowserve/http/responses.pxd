cimport cython

from flowserve.http.messages cimport Request

cdef dict _STATUS_LINES, _known

cdef class ResponseEncoder:
    cdef Request _request
    cdef bint _chunked, _head_only
    cdef object _expected
    cdef public bint keep_alive
    cdef readonly bint started

    @cython.locals(request=Request, lines=list, bodyless=bint, closes=bint)
    cpdef bytes head(self, status, headers, bytes defaults, length)
    cpdef bytes body(self, bytes data, bint more)

@cython.locals(parts=list, names=list)
cpdef bytes encode_switching(own, extra, bytes defaults)
@cython.locals(checked=list)
cpdef list checked_fields(fields)
cpdef bytes status_line(status)
