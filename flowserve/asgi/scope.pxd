cimport cython

from flowserve.asgi.context cimport Context
from flowserve.http.messages cimport RequestHead

cdef dict _ASGI, _ASGI_HTTP, _HTTP, _COMPRESSING, _NOT_COMPRESSING, _WEBSOCKET, _seen
cdef frozenset _ALIKE
cdef Py_ssize_t _LONGEST_ALIKE, _MOST_SEEN

@cython.locals(scope=dict)
cpdef dict build_scope(dict keys, str scheme, RequestHead request, peer, Context context)
cpdef dict http_scope(RequestHead request, peer, Context context)
@cython.locals(scope=dict, extensions=dict)
cpdef dict websocket_scope(RequestHead request, list subprotocols, peer, Context context)
cdef tuple _shared(tuple field)
