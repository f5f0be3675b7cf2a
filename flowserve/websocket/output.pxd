cimport cython

from flowserve.websocket.frames cimport encode_ascii_frame, encode_frame, encode_header
from flowserve.websocket.payload cimport new_mask, text_bytes

cdef int _CONTINUATION, _TEXT, _BINARY, _PING, _PONG, _CLIENT
cdef Py_ssize_t _PONG_MARK, _COPY_MARK, _MAX_HEADER

cdef class Output:
    cdef readonly object deflate
    cdef object _deflate_piece
    cdef list _output
    cdef bytes _pending_pong
    cdef readonly bint fragmenting, is_client
    cdef readonly Py_ssize_t output_size
    cdef readonly long long bytes_out, messages_out
    cdef long long _fragmented

    cdef _begin_output(self, int role, deflate)
    cpdef send_text(self, str text, compress=*)
    cpdef send_binary(self, bytes data, compress=*)
    cpdef send_compressed(self, bint text, bytes payload, long long size)
    cpdef send_frame(self, bytes frame, bint text, long long size)
    @cython.locals(rsv1=bint)
    cpdef send_fragment(self, bint text, bytes payload, bint first, bint last, bint compress=*)
    cpdef ping(self, bytes payload)
    cpdef send_pong(self, bytes payload)
    cpdef answer_ping(self, bytes payload)
    cpdef list take_output(self)
    @cython.locals(output=list, pieces=list, size=Py_ssize_t, count=Py_ssize_t)
    cpdef list take_some(self, Py_ssize_t min_size)
    cpdef discard_output(self)
    cdef _send(self, int opcode, bytes payload, compress)
    @cython.locals(size=Py_ssize_t)
    cdef _send_ascii(self, str text)
    cdef _put_message(self, int opcode, bytes payload, bint rsv1)
    cdef _enqueue(self, bytes piece)
    cdef bytes _mask(self)
