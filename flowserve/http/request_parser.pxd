cimport cython

from flowserve.http.chunked cimport ChunkedDecoder
from flowserve.http.messages cimport RequestHead

cdef dict _NAMES
cdef frozenset _FORWARDED, _FRAMING

cdef class RequestParser:
    cdef object _handler, _parser, _error, _refusal
    cdef ChunkedDecoder _chunks
    cdef RequestHead _request
    cdef bytes _first, _host, _method, _tail, _target
    cdef list _headers, _framing
    cdef Py_ssize_t _max_size, _max_count, _size
    cdef object _remaining
    cdef readonly bint started

    cdef _reset(self)
    @cython.locals(in_body=bint)
    cpdef bytes feed(self, bytes data)
    @cython.locals(end=Py_ssize_t, head=bytes)
    cdef bytes _feed_head(self, bytes data)
    cdef _read(self, bytes head)
    @cython.locals(line=bytes, method=bytes, what=str)
    cdef _reread(self, error)
    cdef bint _take_method(self, str error) except -1
    cdef _lower_version(self, str error)
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
    cdef str _version(self)
    cdef bytes _origin_form(self, str method)
    cdef _length(self, bytes value)
    @cython.locals(hosts=int)
    cdef _frame(self, RequestHead request)
