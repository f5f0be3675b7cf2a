# What compiled code calls for `threading.get_ident()`, in each send(). That of asyncio for the running event loop asks
# the system for the process's id as well.
cdef extern from "pythread.h":
    unsigned long get_ident "PyThread_get_thread_ident"() noexcept
