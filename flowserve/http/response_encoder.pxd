cimport cython

from flowserve.http.messages cimport RequestHead, as_bytes

cdef dict _STATUS_LINES, _field_cache

@cython.final
cdef class ResponseEncoder:
    cdef RequestHead _request
    cdef bint _chunked, _connection_close, _head_only
    cdef bytes _connection_line
    cdef int _status
    cdef list _lines
    cdef object _declared_length, _remaining
    cdef tuple _replaced_defaults
    cdef public bint keep_alive
    cdef readonly bint started

    @cython.locals(lines=list, repeated=bint, name=bytes, value=bytes, line=bytes)
    cpdef start(self, status, headers)
    @cython.locals(request=RequestHead, lines=list, bodyless=bint)
    cpdef bytes head(self, bytes defaults, length)
    cpdef bytes body(self, bytes data, bint more)

@cython.locals(parts=list, names=list, name=bytes, value=bytes)
cpdef bytes encode_switching(own, extra, bytes defaults)
@cython.locals(checked=list)
cpdef list checked_fields(fields)
cdef tuple _cached_field(field)
cdef _content_length(bytes value, declared)
cpdef bytes status_line(status)
