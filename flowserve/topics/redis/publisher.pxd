cimport cython

@cython.final
@cython.freelist(256)
cdef class _Item:
    cdef readonly bytes record, key
    cdef readonly str check
    cdef readonly object result

    cdef settle(self, place)
    cdef fail(self, error)

@cython.final
cdef class _Lane:
    cdef Publisher publisher
    cdef readonly object topic, encode, queue
    cdef object retention
    cdef readonly list batch
    cdef readonly bytes command

    @cython.locals(size=Py_ssize_t, item=_Item)
    cdef Py_ssize_t taken(self) except -1

@cython.final
cdef class Shared:
    cdef readonly Py_ssize_t _size
    cdef bint _overflowing
    cdef list _due
    cdef object _loop

    cdef add(self, Py_ssize_t size)
    cdef bint overflows(self, Py_ssize_t size) except -1
    cdef schedule(self, Publisher publisher)

@cython.final
cdef class Publisher:
    cdef bint _given_up, _scheduled
    cdef object _command_of, _numbers, _link, _loop
    cdef readonly dict _lanes
    cdef list _ready
    cdef readonly Shared _shared

    @cython.locals(lane=_Lane, record=bytes)
    cpdef publish(self, topic, data, kind, key, origin, retention)
    cpdef up(self, link)
    cpdef down(self)
    @cython.locals(lane=_Lane, item=_Item)
    cpdef give_up(self)
    cpdef schedule(self)
    @cython.locals(ready=list, commands=list, filled=list, lane=_Lane)
    cpdef flush(self)
    @cython.locals(batch=list, records=list, size=Py_ssize_t, item=_Item)
    cdef bint _fill(self, _Lane lane) except -1
    @cython.locals(batch=list, size=Py_ssize_t)
    cdef answered(self, _Lane lane, answer)
    @cython.locals(item=_Item, index=Py_ssize_t, places=list)
    cdef _settle(self, list batch, answer)

@cython.locals(item=_Item, index=Py_ssize_t, places=list)
cdef list _places(answer, list batch)
