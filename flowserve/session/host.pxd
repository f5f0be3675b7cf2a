from flowserve.session.time_slice cimport TimeSlice
from flowserve.transport.flush_queue cimport FlushQueue
from flowserve.transport.timers cimport Timers

cdef class SessionContext:
    cdef readonly object config, loop
    cdef readonly FlushQueue flush_queue
    cdef readonly Timers timers
    cdef readonly TimeSlice timeslice
    cdef readonly set live
    cdef public object metrics
