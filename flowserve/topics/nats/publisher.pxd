cimport cython

from flowserve.topics.nats.attempt cimport Attempt, Item
from flowserve.topics.nats.batch cimport encode_record

@cython.final
cdef class _Lane:
    cdef Publisher publisher
    cdef readonly object topic, queue
    cdef object retention

@cython.final
cdef class Publisher:
    cdef object _connected, _log, _covered, _tails, _idle, _loop
    cdef readonly dict _lanes
    cdef readonly Py_ssize_t _size
    cdef dict _obsolete
    cdef list _ready
    cdef bint _purging, _given_up, _overflowing, _silent
    cdef Py_ssize_t _max_payload
    cdef set _tasks

    @cython.locals(lane=_Lane, record=bytes)
    cpdef publish(self, topic, data, kind, key, origin, retention)
    cdef bint _overflows(self, Py_ssize_t size) except -1
    cdef _spawn(self, work)
    cdef _end(self, _Lane lane)
    cpdef up(self, log)
    cpdef down(self)
    cpdef give_up(self)
    cpdef note(self, topic, tail)
    @cython.locals(lane=_Lane)
    cpdef _flush(self)
    @cython.locals(attempt=Attempt)
    cdef _next(self, _Lane lane, log)
    cdef _usable(self)
    cdef bint _covers(self, log, retention) except -1
    cdef began(self, _Lane lane, Attempt attempt, bint settled)
    @cython.locals(item=Item, size=Py_ssize_t, limit=Py_ssize_t, alone=bint, batch=list)
    cdef list _fill(self, _Lane lane)
    cpdef learn(self, topic, tail)
    cpdef note_silence(self, error)
    cpdef doubt(self, topic, seq)
    cpdef purge(self, log, topic, seq)
