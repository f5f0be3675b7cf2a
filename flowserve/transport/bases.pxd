from flowserve.transport.flush_queue cimport Flushable

# The other methods are not called often enough to be declared.

cdef class Stream:
    cdef public bint half_open, write_paused

    cpdef write(self, data)
    cpdef writelines(self, list data)
    cpdef bint progressed(self) except -1
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cpdef close(self)
    cpdef lost(self)

cdef class DataProtocol(Flushable):
    cpdef data_received(self, bytes data)

cdef class ResponseStream(DataProtocol):
    cdef readonly object peer

    cpdef start_response(self, status, headers)
    cpdef bint send_body(self, bytes body, bint more) except -1
    cpdef finished(self)
