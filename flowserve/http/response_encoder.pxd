cimport cython

from flowserve.http.messages cimport RequestHead, as_bytes

cdef dict _STATUS_LINES, _known

cdef class ResponseEncoder:
    cdef RequestHead _request
    cdef bint _chunked, _closes, _head_only
    cdef bytes _connection
    cdef int _status
    cdef list _lines
    cdef object _declared, _expected
    cdef tuple _replaced
    cdef public bint keep_alive
    cdef readonly bint started

    @cython.locals(lines=list, repeated=bint)
    cpdef start(self, status, headers)
    @cython.locals(request=RequestHead, lines=list, bodyless=bint)
    cpdef bytes head(self, bytes defaults, length)
    cpdef bytes body(self, bytes data, bint more)

@cython.locals(parts=list, names=list)
cpdef bytes encode_switching(own, extra, bytes defaults)
@cython.locals(checked=list)
cpdef list checked_fields(fields)
cdef tuple _known_as(field)
cpdef bytes status_line(status)
