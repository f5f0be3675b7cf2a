cpdef list add_waiter(list waiters, waiter)
cpdef wake(list waiters)
