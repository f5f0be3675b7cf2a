cimport cython

cdef extern from *:
    """
    #define FLOWSERVE_MAX_EVENTS 128  /* a call; those that are left are the first of the next one */
    #ifdef __linux__
    #include <errno.h>
    #include <unistd.h>
    #include <sys/epoll.h>
    typedef struct epoll_event flowserve_event;
    static int flowserve_create_epoll(void) {
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        if (epoll < 0)
            PyErr_SetFromErrno(PyExc_OSError);
        return epoll;
    }
    static int flowserve_wait(int epoll, flowserve_event *events) {
        int count = epoll_wait(epoll, events, FLOWSERVE_MAX_EVENTS, 0);
        return count < 0 ? 0 : count;
    }
    /* `before`: it is watched already. It must be taken out before it is closed: the kernel goes on watching what
       another process has inherited. */
    static void flowserve_watch(int epoll, int descriptor, int before, int reads, int writes) {
        flowserve_event event = {.events = (reads ? EPOLLIN : 0) | (writes ? EPOLLOUT : 0)};
        event.data.fd = descriptor;
        epoll_ctl(epoll, !before ? EPOLL_CTL_ADD : event.events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, descriptor, &event);
    }
    #define flowserve_descriptor_of(all, index) (all[index].data.fd)
    #define flowserve_is(all, index, what) ((all[index].events & (what | EPOLLERR | EPOLLHUP)) != 0)
    #define flowserve_is_readable(all, index) flowserve_is(all, index, EPOLLIN)
    #define flowserve_is_writable(all, index) flowserve_is(all, index, EPOLLOUT)
    #define flowserve_close close
    #else
    typedef int flowserve_event;
    static int flowserve_create_epoll(void) {
        PyErr_SetString(PyExc_OSError, "this system has no epoll");
        return -1;
    }
    #define flowserve_wait(epoll, events) 0
    #define flowserve_watch(epoll, descriptor, before, reads, writes)
    #define flowserve_descriptor_of(all, index) 0
    #define flowserve_is_readable(all, index) 0
    #define flowserve_is_writable(all, index) 0
    #define flowserve_close(descriptor) 0
    #endif
    typedef flowserve_event flowserve_events[FLOWSERVE_MAX_EVENTS];
    """
    ctypedef struct Event "flowserve_event":
        pass
    ctypedef Event Events "flowserve_events" [128]
    int create_epoll "flowserve_create_epoll"() except -1
    int wait "flowserve_wait"(int epoll, Event *events)
    void watch "flowserve_watch"(int epoll, int descriptor, bint before, bint reads, bint writes)
    int descriptor_of "flowserve_descriptor_of"(Event *events, int index)
    bint is_readable "flowserve_is_readable"(Event *events, int index)
    bint is_writable "flowserve_is_writable"(Event *events, int index)
    int close_descriptor "flowserve_close"(int descriptor)

cdef class Watched:
    cdef int _descriptor
    cdef bint _reads, _writes
    cdef on_ready(self, bint readable, bint writable)

cdef class Poller:
    cdef readonly object loop, variables
    cdef int _epoll
    cdef Py_ssize_t _count
    cdef list _watched

    @cython.locals(before=bint)
    cdef watch(self, Watched watched, bint reads, bint writes)
    cdef _add(self, Watched watched)
    cdef _remove(self, Watched watched)
    @cython.locals(events=Events, count=int, index=int, watched=Watched)
    cpdef _poll(self)
