cimport cython

from flowserve.transport.bases cimport DataProtocol, Stream
from flowserve.transport.flush_queue cimport FlushQueue
from flowserve.websocket.connection cimport Connection

cdef int _CLOSED
cdef Py_ssize_t _BACKLOG_MARK

cdef class SessionWriter(DataProtocol):
    cdef readonly Connection connection
    cdef readonly Stream stream
    cdef readonly long long written
    cdef FlushQueue _flush_queue
    cdef bint _lost

    cdef _begin_writer(self, Connection connection, Stream stream, FlushQueue flush_queue)
    cpdef begin(self, bytes head)
    @cython.locals(connection=Connection)
    cpdef flush(self)
    @cython.locals(connection=Connection, pieces=list)
    cdef _write_output(self)
    @cython.locals(connection=Connection, pieces=list)
    cdef _write_backlog(self)
