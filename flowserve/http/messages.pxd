cimport cython

cpdef list tokens(bytes value)
cpdef bint is_host(bytes value) except -1

@cython.final
cdef class RequestHead:
    cdef readonly str method, http_version, path
    cdef readonly bytes target, raw_path, query_string
    cdef readonly list headers
    cdef public bint has_body, keep_alive, expect_continue, upgrade, forwarded, repeated
    cdef public object scope

    @cython.locals(request=RequestHead)
    cpdef RequestHead with_line(self, str method, bytes target)
    cpdef list values(self, bytes name)
    cpdef bint has_token(self, bytes name, bytes token) except -1
    cpdef bint is_websocket(self) except -1

cpdef bytes as_bytes(value, str name)
