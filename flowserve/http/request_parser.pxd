cimport cython

from flowserve.http.chunked cimport ChunkedDecoder
from flowserve.http.messages cimport RequestHead, is_host

cdef dict NAMES
cdef frozenset FORWARDED, INTERPRETED

@cython.final
cdef class RequestParser:
    cdef object _handler, _parser, _error, _method_error
    cdef ChunkedDecoder _chunks
    cdef RequestHead _repeated, _request
    cdef bytes _head_start, _repeated_line, _repeated_fields, _last_host, _method, _last_bytes, _target
    cdef list _headers, _interpreted
    cdef Py_ssize_t _max_size, _max_count, _size
    cdef object _remaining
    cdef readonly bint started

    cdef _reset(self)
    @cython.locals(in_body=bint, size=Py_ssize_t)
    cpdef bytes feed(self, bytes data)
    @cython.locals(end=Py_ssize_t, head=bytes)
    cdef bytes _feed_head(self, bytes data)
    @cython.locals(request=RequestHead, simple=bint, end=Py_ssize_t)
    cdef _keep(self, bytes head)
    @cython.locals(line=bytes, fields=bytes, end=Py_ssize_t)
    cdef Py_ssize_t _repeat(self, bytes data) except -1
    cdef _parse_head(self, bytes head)
    @cython.locals(line=bytes, method=bytes, message=str)
    cdef _parse_again(self, error)
    cdef bint _replace_method(self, str error) except -1
    cdef _replace_version(self, str error)
    cdef _malformed(self, str detail)
    @cython.locals(joined=bytes, found=Py_ssize_t, start=Py_ssize_t)
    cdef Py_ssize_t _head_end(self, bytes data) except -1
    cdef bytes _feed_body(self, bytes data)
    cdef _too_large(self)
    cdef _refuse(self, int status, str detail)
    cpdef on_url(self, bytes url)
    @cython.locals(known=tuple)
    cpdef on_header(self, bytes name, bytes value)
    @cython.locals(request=RequestHead, name=bytes)
    cpdef on_headers_complete(self)
    cdef str _check_request_line(self)
    cdef bytes _origin_form(self, str method)
    cdef _content_length(self, bytes value)
    @cython.locals(hosts=int)
    cdef _read_framing(self, RequestHead request)
