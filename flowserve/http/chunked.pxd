cimport cython

cdef Py_ssize_t _LINE_COST, _MAX_LINE, _STEP
cdef dict _SIMPLE_SIZES

cdef class ChunkedDecoder:
    cdef readonly bint complete
    cdef bint _in_trailers
    cdef bytes _line
    cdef long long _left
    cdef Py_ssize_t _trailer_room

    cpdef bytes feed(self, bytes data, sink)
    @cython.locals(at=Py_ssize_t, end=Py_ssize_t, size=Py_ssize_t, room=Py_ssize_t, line=bytes)
    cdef bytes _split(self, bytes data, list body)
    @cython.locals(size=object)
    cdef _take(self, bytes line)
