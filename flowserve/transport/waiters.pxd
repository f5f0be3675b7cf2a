cpdef list joined(list waiters, waiter)
cpdef wake(list waiters)
