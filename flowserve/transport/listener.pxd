cimport cython

from flowserve.transport.poller cimport Poller, Watched, close_descriptor
from flowserve.transport.socket_transport cimport SocketTransport

cdef extern from *:
    """
    #ifdef __linux__
    #include <errno.h>
    #include <arpa/inet.h>
    #include <netinet/in.h>
    #include <sys/socket.h>
    typedef struct sockaddr_storage flowserve_address[1];
    static int flowserve_accept(int descriptor, struct sockaddr_storage *address) {
        socklen_t size = sizeof(*address);
        return accept4(descriptor, (struct sockaddr *)address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }
    /* Whether the last failure was that of one connection, of which accept(2) tells here. */
    static int flowserve_may_accept_more(void) {
        switch (errno) {
            case ECONNABORTED: case EINTR: case EPERM: case EPROTO: case ENETDOWN: case ENOPROTOOPT: case EHOSTDOWN:
            case ENONET: case EHOSTUNREACH: case EOPNOTSUPP: case ENETUNREACH: case ETIMEDOUT:
                return 1;
        }
        return 0;
    }
    static int flowserve_is_short(void) {
        return errno != EAGAIN && errno != EWOULDBLOCK;
    }
    /* As a socket's getpeername() has it. */
    static PyObject *flowserve_address_of(struct sockaddr_storage *address) {
        char host[INET6_ADDRSTRLEN];
        if (address->ss_family == AF_INET) {
            struct sockaddr_in *four = (struct sockaddr_in *)address;
            inet_ntop(AF_INET, &four->sin_addr, host, sizeof(host));
            return Py_BuildValue("(si)", host, ntohs(four->sin_port));
        }
        if (address->ss_family == AF_INET6) {
            struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
            inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof(host));
            return Py_BuildValue("(siII)", host, ntohs(six->sin6_port), ntohl(six->sin6_flowinfo), six->sin6_scope_id);
        }
        return PyUnicode_FromString("");  /* a UNIX domain socket without a name */
    }
    static PyObject *flowserve_local_address(int descriptor) {
        struct sockaddr_storage address;
        socklen_t size = sizeof(address);
        if (getsockname(descriptor, (struct sockaddr *)&address, &size) < 0)
            return Py_NewRef(Py_None);
        return flowserve_address_of(&address);
    }
    #else
    typedef int flowserve_address[1];
    #define flowserve_accept(descriptor, address) -1
    #define flowserve_may_accept_more() 0
    #define flowserve_is_short() 0
    #define flowserve_address_of(address) Py_NewRef(Py_None)
    #define flowserve_local_address(descriptor) Py_NewRef(Py_None)
    #endif
    """
    ctypedef struct SocketAddress "struct sockaddr_storage":
        pass
    ctypedef SocketAddress Address "flowserve_address" [1]
    int accept "flowserve_accept"(int descriptor, SocketAddress *address)
    bint may_accept_more "flowserve_may_accept_more"()
    bint is_short "flowserve_is_short"()
    object address_of "flowserve_address_of"(SocketAddress *address)
    object local_address "flowserve_local_address"(int descriptor)

cdef int _MAX_ACCEPTS

cdef class Listener(Watched):
    cdef readonly tuple sockets
    cdef Poller _poller
    cdef object _sockname, _factory, _on_shortage
    cdef int _family

    cpdef close(self)
    @cython.locals(left=int, descriptor=int, address=Address)
    cdef on_ready(self, bint readable, bint writable)
    @cython.locals(transport=SocketTransport)
    cdef _connect(self, int descriptor, peername)
