cimport cython

from flowserve.websocket.budget cimport Budget
from flowserve.websocket.frames cimport FrameDecoder, encode_frame
from flowserve.websocket.mask cimport Store
from flowserve.websocket.output cimport Output

cdef int _CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG, _OPEN, _CLOSING, _CLOSED
cdef int _NO_STATUS, _ABNORMAL
cdef Py_ssize_t _INBOX_MARK, _LATE_COST, _STORE_MARK, _FULL_MARK
cdef Py_ssize_t _FRAME_COST, _MESSAGE_COST, _INFLATE_COST, _INFLATE_MARK, _LEAST_INFLATED
cdef Budget _unlimited

cdef class Connection(Output):
    cdef FrameDecoder _decoder
    cdef bytes _answer, _tail
    cdef list _inbox
    cdef Py_ssize_t _taken
    cdef object _parts
    cdef Store _store
    cdef Budget _budget
    cdef bint _compressed, _inflating, _last_piece
    cdef readonly bint held
    cdef public Py_ssize_t max_waiting
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

    cpdef share(self, Budget budget)
    cpdef feed(self, bytes data)
    cpdef bint is_full(self, Py_ssize_t part=*) except -1
    cpdef bint storing(self) except -1
    cpdef room(self)
    cpdef land(self, Py_ssize_t size)
    @cython.locals(inbox=list, at=Py_ssize_t)
    cpdef take(self)
    cpdef take_part(self)
    @cython.locals(decoder=FrameDecoder, budget=Budget)
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
    @cython.locals(most=Py_ssize_t, limit="long long", inflated=bytes)
    cdef _inflate(self, bytes payload, bint done)
    cdef _complete(self, message)
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
