cimport cython

@cython.final
@cython.freelist(256)
cdef class NewBatch:
    cdef readonly bytes data
    cdef readonly object obsolete, before, before_size, mark, retention

    @cython.locals(places=list)
    cpdef stored(self, long long seq, checks, size)

@cython.locals(sender=bytes, size=Py_ssize_t)
cpdef bytes encode_record(bytes data, kind, str origin, str check)

@cython.locals(check=bytes, last=str, epoch=str)
cpdef NewBatch encode_batch(tail, records, retention)
