cimport cython

from flowserve.websocket.frames cimport FrameDecoder, encode_frame, encode_header
from flowserve.websocket.mask cimport new_mask

cdef int _CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG, _OPEN, _CLOSING, _CLOSED, _CLIENT
cdef int _NO_STATUS, _ABNORMAL
cdef Py_ssize_t _PONG_MARK, _COPY_MARK, _MAX_HEADER, _INBOX_MARK

cdef class Connection:
    cdef FrameDecoder _decoder
    cdef readonly object deflate
    cdef bytes _answer, _pong, _tail
    cdef list _inbox, _outbox
    cdef Py_ssize_t _taken
    cdef object _deflate_piece, _parts
    cdef bint _compressed
    cdef int _opcode
    cdef long long _fragmented, _max_size, _size
    cdef Py_ssize_t _max_frames, _frames
    cdef public bytes pong_received
    cdef public list other_pongs
    cdef readonly int state, close_code
    cdef readonly str close_reason
    cdef readonly bint answered, ended, fragmenting, is_client, peer_closed
    cdef readonly bytes peer_close, sent_close
    cdef readonly Py_ssize_t waiting, waiting_size, output_size
    cdef readonly long long messages_in, bytes_in, messages_out, bytes_out

    cpdef feed(self, bytes data)
    @cython.locals(inbox=list, at=Py_ssize_t)
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
    @cython.locals(decoder=FrameDecoder, payload=bytes, done=bint)
    cdef _piece(self)
    @cython.locals(decoder=FrameDecoder)
    cdef _begin(self)
    @cython.locals(data=bytes, tail=bytes)
    cdef str _decode(self, bytes payload, bint final)
    cdef _deliver(self, message, Py_ssize_t size)
    cdef _too_big(self)

    cpdef send_text(self, str text, compress=*)
    cpdef send_binary(self, bytes data, compress=*)
    cpdef send_compressed(self, bint text, bytes payload, long long size)
    cpdef send_frame(self, bytes frame, bint text, long long size)
    @cython.locals(rsv1=bint)
    cpdef send_fragment(self, bint text, bytes payload, bint first, bint last, bint compress=*)
    cpdef ping(self, bytes payload)
    cpdef close(self, int code, str reason=*)
    cpdef answer_end(self)
    cpdef list take_output(self)
    @cython.locals(outbox=list, pieces=list, piece=bytes, size=Py_ssize_t, count=Py_ssize_t)
    cpdef list take_some(self, Py_ssize_t least)
    cpdef disown_output(self)
    cdef _send(self, int opcode, bytes payload, compress)
    cdef _put_message(self, int opcode, bytes payload, bint rsv1)
    cdef _send_close(self, bytes payload)
    cdef _put(self, bytes piece)
    cdef bytes _mask(self)
