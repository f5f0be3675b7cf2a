cimport cython

from flowserve.transport.waiters cimport add_waiter, wake

cdef extern from *:
    """
    #ifdef _WIN32
    static Py_ssize_t flowserve_send_now(int descriptor, PyObject *data) { return 0; }
    static Py_ssize_t flowserve_send_pieces_now(int descriptor, PyObject *pieces) { return 0; }
    #else
    #include <errno.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #define FLOWSERVE_MAX_PIECES 64
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    /* The bytes that the socket takes without waiting. The GIL is held: to get it back could take long. */
    static Py_ssize_t flowserve_send_now(int descriptor, PyObject *data) {
        Py_ssize_t sent;
        do
            sent = send(descriptor, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_DONTWAIT | MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        return sent < 0 ? 0 : sent;
    }
    /* Likewise for a list of objects with buffers. */
    static Py_ssize_t flowserve_send_pieces_now(int descriptor, PyObject *pieces) {
        Py_buffer views[FLOWSERVE_MAX_PIECES];
        struct iovec vectors[FLOWSERVE_MAX_PIECES];
        struct msghdr message = {.msg_iov = vectors};
        int count = 0;
        Py_ssize_t sent;
        while (count < FLOWSERVE_MAX_PIECES && count < PyList_GET_SIZE(pieces)) {
            if (PyObject_GetBuffer(PyList_GET_ITEM(pieces, count), &views[count], PyBUF_SIMPLE) < 0) {
                PyErr_Clear();
                break;
            }
            vectors[count].iov_base = views[count].buf;
            vectors[count].iov_len = views[count].len;
            count++;
        }
        message.msg_iovlen = count;
        do
            sent = sendmsg(descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        while (count > 0)
            PyBuffer_Release(&views[--count]);
        return sent < 0 ? 0 : sent;
    }
    #endif
    """
    Py_ssize_t send_now "flowserve_send_now"(int descriptor, bytes data)
    Py_ssize_t send_pieces_now "flowserve_send_pieces_now"(int descriptor, list pieces)

cdef Py_ssize_t _JOIN_MARK, _PIECE_MARK

cdef class TransportStream:
    cdef readonly object transport
    cdef readonly bint half_open, write_paused
    cdef bint _buffering, _ended, _reading
    cdef int _descriptor
    cdef long long _written, _sent_before
    cdef list _waiters
    cdef object _variables

    @cython.locals(sent=Py_ssize_t)
    cpdef write(self, data)
    @cython.locals(size=Py_ssize_t, sent=Py_ssize_t, direct=bint)
    cpdef writelines(self, list data)
    cdef bint _drops_writes(self) except -1
    cdef bint _sends_now(self) except -1
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    cpdef end_writing(self)
    cpdef Py_ssize_t buffered(self) except -1
    cpdef long long unsent(self) except? -1
    @cython.locals(unsent="long long", before="long long", acknowledged="long long")
    cpdef bint progressed(self) except -1
    cpdef bint is_reset(self) except -1
    cpdef limit_buffer(self, size, low=*)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cpdef close(self)
    cpdef abort(self)
    cpdef lost(self)

cpdef extra_info(transport, name)
cdef _raw_transport(transport)
cdef long long _unacknowledged(transport) except? -1
