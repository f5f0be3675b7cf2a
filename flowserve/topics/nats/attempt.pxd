cimport cython

@cython.final
@cython.freelist(256)
cdef class Item:
    cdef readonly bytes record
    cdef readonly str check
    cdef readonly Py_ssize_t size
    cdef readonly object key, result

    cpdef settle(self, place)
    cpdef fail(self, error)

@cython.final
cdef class Attempt:
    cdef object _publisher, _topic, _retention, _id, _unknown, _log, _begun, _behind, _done
    cdef list _records
    cdef readonly list batch
    cdef readonly Py_ssize_t size

    cpdef begin(self, log, tail, done)
    cpdef _on_outcome(self, outcome)
    cdef _is_unknown(self, expected)
    cdef _stored(self, log, seq, batch)
    cdef _settle(self, tail, places)
    cdef _give_up(self)
    cdef _fail(self, error)
