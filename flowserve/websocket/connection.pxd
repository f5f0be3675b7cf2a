cimport cython

from flowserve.websocket.assembly cimport Assembly, UndecodedText
from flowserve.websocket.budget cimport Budget
from flowserve.websocket.frames cimport FrameDecoder, encode_frame

cdef int _CLOSE, _PING, _PONG, _OPEN, _CLOSING, _CLOSED
cdef int _NO_STATUS, _ABNORMAL, _TOO_BIG
cdef Py_ssize_t _INBOX_MARK, _LATE_MESSAGE_COST, _FULL_MARK, _LARGE_MARK, _FRAME_COST, _MESSAGE_COST

cdef class Connection(Assembly):
    cdef bytes _close_reply
    cdef list _inbox
    cdef Py_ssize_t _inbox_start
    cdef readonly bint held
    cdef public Py_ssize_t max_waiting
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
    cpdef get_buffer(self)
    cpdef bint is_full(self, Py_ssize_t part=*) except -1
    @cython.locals(inbox=list, at=Py_ssize_t)
    cpdef take(self)
    @cython.locals(decoder=FrameDecoder, budget=Budget)
    cdef _process_frames(self)
    @cython.locals(payload=bytes)
    cdef _handle_control_frame(self)
    @cython.locals(code=int)
    cdef _read_close(self, bytes payload)
    cdef _fail(self, int code, str reason)
    cdef _fail_for_memory(self)
    cdef _record_end(self, int code, str reason, bytes answer)
    cdef _deliver(self, message, Py_ssize_t size)

    cpdef close(self, int code, str reason=*)
    cpdef answer_end(self)
    cdef _send_close(self, bytes payload)
