cimport cython

from flowserve.topics.nats.batch cimport NewBatch, encode_batch

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
    cdef object _publisher, _topic, _retention, _id, _unknown, _log, _behind, _done
    cdef NewBatch _begun
    cdef list _records
    cdef readonly list batch
    cdef readonly Py_ssize_t size

    @cython.locals(batch=NewBatch)
    cpdef begin(self, log, tail, done)
    cdef _is_unknown(self, expected)
    @cython.locals(size=Py_ssize_t, checks=list, item=Item)
    cdef _stored(self, log, seq, NewBatch batch)
    @cython.locals(item=Item, index=Py_ssize_t)
    cdef _settle(self, tail, list places)
    cdef _give_up(self)
    cdef _fail(self, error)
