from flowserve.websocket.budget cimport Budget

cdef class DecodingQueue(Budget):
    cdef object _loop, _variables, _waiting
    cdef bint _scheduled

    cpdef add(self, session)
    cpdef refill(self)
    cpdef _go_on(self)
