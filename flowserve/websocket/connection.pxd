cimport cython

from flowserve.websocket.frames cimport FrameDecoder, encode_frame
from flowserve.websocket.mask cimport Store
from flowserve.websocket.output cimport Output

cdef int _CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG, _OPEN, _CLOSING, _CLOSED
cdef int _NO_STATUS, _ABNORMAL
cdef Py_ssize_t _INBOX_MARK, _LATE_COST, _STORE_MARK

cdef class Connection(Output):
    cdef FrameDecoder _decoder
    cdef bytes _answer, _tail
    cdef list _inbox
    cdef Py_ssize_t _taken
    cdef object _parts
    cdef Store _store
    cdef bint _compressed
    cdef int _opcode
    cdef long long _max_size, _size
    cdef Py_ssize_t _max_frames, _frames
    cdef public bytes pong_received
    cdef public list other_pongs
    cdef readonly int state, close_code
    cdef readonly str close_reason
    cdef readonly bint answered, ended, peer_closed
    cdef readonly bytes peer_close, sent_close
    cdef readonly Py_ssize_t waiting, waiting_size
    cdef public Py_ssize_t late_room
    cdef readonly long long messages_in, bytes_in

    cpdef feed(self, bytes data)
    @cython.locals(inbox=list, at=Py_ssize_t)
    cpdef bint storing(self) except -1
    cpdef room(self)
    cpdef land(self, Py_ssize_t size)
    cpdef take(self)
    cpdef take_part(self)
    cdef _run(self)
    @cython.locals(payload=bytes)
    cdef _control(self)
    cdef _read_close(self, bytes payload)
    cdef _fail(self, int code, str reason)
    cdef _end(self, int code, str reason, bytes answer)
    @cython.locals(decoder=FrameDecoder, payload=bytes, text=str)
    cdef _whole(self)
    @cython.locals(decoder=FrameDecoder, done=bint)
    cdef _piece(self)
    @cython.locals(text=bint)
    cdef _add(self, bytes payload, bint done)
    @cython.locals(content=bytes)
    cdef _spill(self, bint done)
    @cython.locals(decoder=FrameDecoder)
    cdef _begin(self)
    @cython.locals(data=bytes, tail=bytes)
    cdef str _decode(self, bytes payload, bint final)
    cdef _deliver(self, message, Py_ssize_t size)
    cdef _too_big(self)

    cpdef close(self, int code, str reason=*)
    cpdef answer_end(self)
    cdef _send_close(self, bytes payload)
