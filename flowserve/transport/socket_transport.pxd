cimport cython

from flowserve.transport.bases cimport DataProtocol
from flowserve.transport.poller cimport Poller, Watched, close_descriptor

cdef extern from *:
    """
    #ifdef _WIN32
    static PyObject *flowserve_unavailable(void) {
        PyErr_SetString(PyExc_OSError, "not on this system");
        return NULL;
    }
    #define flowserve_receive(descriptor) flowserve_unavailable()
    #define flowserve_receive_into(descriptor, target) (flowserve_unavailable(), -2)
    #define flowserve_send(descriptor, data) (flowserve_unavailable(), -2)
    #define flowserve_send_pieces(descriptor, pieces) (flowserve_unavailable(), -2)
    #define flowserve_last_error() flowserve_unavailable()
    #define flowserve_shut_down(descriptor)
    #else
    #include <errno.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #define FLOWSERVE_MAX_PIECES 64
    #define FLOWSERVE_MAX_READ 262144  /* other connections have to run, and reading may have to pause */
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    /* The GIL is held in all of these: none of them waits, and to get it back could take long. A result of -1 says that
       the kernel has refused: see flowserve_last_error(). -2: an exception is set. */
    static PyObject *flowserve_receive(int descriptor) {
        static char buffer[FLOWSERVE_MAX_READ];
        Py_ssize_t size = recv(descriptor, buffer, sizeof(buffer), MSG_DONTWAIT);
        return size < 0 ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(buffer, size);
    }
    static Py_ssize_t flowserve_receive_into(int descriptor, PyObject *target) {
        Py_buffer view;
        Py_ssize_t size;
        int error;
        if (PyObject_GetBuffer(target, &view, PyBUF_WRITABLE) < 0)
            return -2;
        if (view.len == 0) {  /* recv() would seem to have found the end */
            PyBuffer_Release(&view);
            PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
            return -2;
        }
        size = recv(descriptor, view.buf, view.len, MSG_DONTWAIT);
        error = errno;
        PyBuffer_Release(&view);
        errno = error;
        return size;
    }
    static Py_ssize_t flowserve_send_pieces(int descriptor, PyObject *pieces) {
        Py_buffer views[FLOWSERVE_MAX_PIECES];
        struct iovec vectors[FLOWSERVE_MAX_PIECES];
        struct msghdr message = {.msg_iov = vectors};
        int count = 0, error;
        Py_ssize_t sent = -2;
        while (count < FLOWSERVE_MAX_PIECES && count < PyList_GET_SIZE(pieces)) {
            if (PyObject_GetBuffer(PyList_GET_ITEM(pieces, count), &views[count], PyBUF_SIMPLE) < 0)
                goto done;
            vectors[count].iov_base = views[count].buf;
            vectors[count].iov_len = views[count].len;
            count++;
        }
        message.msg_iovlen = count;
        sent = sendmsg(descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    done:
        error = errno;
        while (count > 0)
            PyBuffer_Release(&views[--count]);
        errno = error;
        return sent;
    }
    static Py_ssize_t flowserve_send(int descriptor, PyObject *data) {
        Py_buffer view;
        Py_ssize_t sent;
        int error;
        if (PyBytes_CheckExact(data))
            return send(descriptor, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
            return -2;
        sent = send(descriptor, view.buf, view.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        error = errno;
        PyBuffer_Release(&view);
        errno = error;
        return sent;
    }
    /* None if the call can be repeated when the socket is ready. */
    static PyObject *flowserve_last_error(void) {
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
            return Py_NewRef(Py_None);
        return PyObject_CallFunction(PyExc_OSError, "is", errno, strerror(errno));
    }
    #define flowserve_shut_down(descriptor) shutdown(descriptor, SHUT_WR)
    #endif
    """
    object receive "flowserve_receive"(int descriptor)
    Py_ssize_t receive_into "flowserve_receive_into"(int descriptor, object target) except -2
    Py_ssize_t send "flowserve_send"(int descriptor, object data) except -2
    Py_ssize_t send_pieces "flowserve_send_pieces"(int descriptor, list pieces) except -2
    object last_error "flowserve_last_error"()
    void shut_down "flowserve_shut_down"(int descriptor)

cdef Py_ssize_t _HIGH_MARK, _PIECE_MARK

cdef class SocketTransport(Watched):
    cdef readonly object peername, sockname
    cdef Poller _poller
    cdef object _protocol, _socket
    cdef DataProtocol _receiver
    cdef list _held
    cdef Py_ssize_t _held_size, _high, _low
    cdef int _family
    cdef bint _closing, _eof_sent, _paused, _reads_into, _writing_paused

    cdef begin(self, int descriptor, int family, peername, sockname)
    cpdef set_protocol(self, protocol)
    cdef on_ready(self, bint readable, bint writable)
    @cython.locals(data=bytes)
    cdef _read(self)
    @cython.locals(size=Py_ssize_t)
    cdef _read_into(self)
    cdef _check_error(self)
    cdef _handle_eof(self)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    @cython.locals(sent=Py_ssize_t)
    cpdef write(self, data)
    @cython.locals(size=Py_ssize_t, sent=Py_ssize_t)
    cpdef writelines(self, pieces)
    cdef bint _may_write(self) except -1
    cdef _hold(self, list pieces)
    cdef _pause_above_mark(self)
    @cython.locals(sent=Py_ssize_t)
    cdef _send_held(self)
    cpdef Py_ssize_t get_write_buffer_size(self) except -1
    cpdef bint is_closing(self) except -1
    cpdef close(self)
    cpdef abort(self)
    cdef _end(self, error)
    cdef _lose_soon(self, error)
    cpdef _lose(self, error)
    cdef _close_socket(self)

@cython.locals(size=Py_ssize_t)
cdef list _behind(list pieces, Py_ssize_t size)
