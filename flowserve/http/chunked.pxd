cimport cython

cdef Py_ssize_t _LINE_COST, _MAX_LINE, _LINE_BUDGET
cdef dict _SIMPLE_SIZES

@cython.final
cdef class ChunkedDecoder:
    cdef readonly bint complete
    cdef bint _in_trailers
    cdef bytes _line
    cdef long long _chunk_remaining
    cdef Py_ssize_t _trailer_allowance

    cpdef bytes feed(self, bytes data, sink)
    @cython.locals(at=Py_ssize_t, end=Py_ssize_t, size=Py_ssize_t, budget=Py_ssize_t, line=bytes)
    cdef bytes _decode(self, bytes data, list body)
    @cython.locals(size=object)
    cdef _read_line(self, bytes line)
