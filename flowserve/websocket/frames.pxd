cimport cython

from flowserve.websocket.payload cimport PayloadBuffer, apply_mask, join, join_ascii, unmask_text

cdef int _CONTINUATION, _TEXT, _BINARY, _CLOSE, _PONG, _SERVER, _MAX_CONTROL_PAYLOAD
cdef list _SHORT_HEADERS

@cython.final
cdef class FrameDecoder:
    cdef bytes _data
    cdef bytes _mask
    cdef Py_ssize_t _pos, _end, _start, _mask_at, _buffered
    cdef bint _masked
    cdef public bint allow_rsv1, lenient
    cdef readonly long long size, missing
    cdef readonly int opcode
    cdef readonly bint fin, rsv1, first, last

    cpdef feed(self, bytes data)
    cpdef bint next(self) except -1
    cpdef bint has_more(self) except -1

    @cython.locals(data="const unsigned char *")
    cpdef bytes payload(self)

    @cython.locals(text=str)
    cpdef str text(self)

    @cython.locals(size=Py_ssize_t)
    cpdef copy_to(self, PayloadBuffer buffer)
    cpdef buffer_updated(self, Py_ssize_t size)
    @cython.locals(shift=int, mask=bytes)
    cdef _rotate_mask(self, Py_ssize_t size)
    cdef void _take_buffered(self) noexcept
    cdef void _take_payload(self, long long size) noexcept

    @cython.locals(data="const unsigned char *", pos=Py_ssize_t, available=Py_ssize_t, at=Py_ssize_t,
                   header_size=int, shortest=int, first=int, second=int, masked=bint, size="long long")
    cdef bint _read_header(self) except -1

    cdef bint _must_be_complete(self, int first, long long size) noexcept

    @cython.locals(opcode=int)
    cdef int _check_header(self, int first, int size, bint masked) except -1

    cdef bint _need_more_data(self) except -1

@cython.locals(size=Py_ssize_t)
cpdef bytes encode_frame(int opcode, bytes payload, bytes mask=*, bint rsv1=*, bint fin=*)

@cython.locals(size=Py_ssize_t)
cpdef bytes encode_ascii_frame(str text)

@cython.locals(first=int, masked=int)
cpdef bytes encode_header(int opcode, Py_ssize_t size, bytes mask=*, bint rsv1=*, bint fin=*)
