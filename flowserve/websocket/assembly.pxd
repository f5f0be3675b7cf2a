cimport cython

from flowserve.websocket.budget cimport Budget
from flowserve.websocket.frames cimport FrameDecoder
from flowserve.websocket.payload cimport PayloadBuffer
from flowserve.websocket.output cimport Output

cdef int _CONTINUATION, _TEXT, _BINARY
cdef Py_ssize_t _BUFFER_MARK, _INFLATE_COST, _INFLATE_MARK, _MIN_INFLATED
cdef Py_ssize_t _READ_COST, _MAX_READ, _MIN_READ, _COPIED_PER_UNIT
cdef Budget _unlimited

@cython.final
cdef class UndecodedText:
    cdef readonly bytes data

cdef class Assembly(Output):
    cdef FrameDecoder _decoder
    cdef Budget _budget
    cdef bytes _partial_character
    cdef object _parts
    cdef PayloadBuffer _buffer
    cdef bint _compressed, _inflating, _last_piece
    cdef int _opcode
    cdef long long _max_size, _size
    cdef Py_ssize_t _max_frames, _frames

    cdef _begin_assembly(self, int role, long long max_size, Py_ssize_t max_frames, deflate)
    cpdef set_budget(self, Budget budget)
    cpdef bint wants_buffer(self) except -1
    cpdef get_buffer(self)
    cpdef buffer_updated(self, Py_ssize_t size)
    cpdef take_part(self)
    cdef _deliver(self, message, Py_ssize_t size)
    cdef _discard_message(self)
    @cython.locals(decoder=FrameDecoder, text=str)
    cdef _read_whole_message(self)
    @cython.locals(decoder=FrameDecoder, done=bint, before=Py_ssize_t, payload=bytes)
    cdef _read_piece(self)
    @cython.locals(allowance=Py_ssize_t, most=Py_ssize_t, read=Py_ssize_t, limit="long long", inflated=bytes)
    cdef _inflate(self, bytes payload, bint done)
    cdef _complete(self, message)
    cdef _complete_parts(self)
    @cython.locals(data=bytes, text=str)
    cdef _add_piece(self, bytes payload, bint done)
    @cython.locals(buffer=PayloadBuffer)
    cdef _switch_to_parts(self, bint done)
    @cython.locals(decoder=FrameDecoder)
    cdef _begin_frame(self)
    @cython.locals(partial=bytes)
    cdef str _decode_text(self, bytes data, bint final)
    cdef _too_big(self)
