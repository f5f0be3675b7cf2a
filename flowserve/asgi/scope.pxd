cimport cython

from flowserve.asgi.context cimport Context
from flowserve.http.messages cimport RequestHead

cdef dict _ASGI, _ASGI_HTTP, _HTTP, _EXTENSIONS_DEFLATE, _EXTENSIONS, _WEBSOCKET, _field_cache
cdef frozenset _SHARED_FIELDS
cdef Py_ssize_t _MAX_SHARED_SIZE, _MAX_CACHED_FIELDS

@cython.locals(scope=dict)
cpdef dict build_scope(dict keys, str scheme, RequestHead request, peer, Context context)
cpdef dict http_scope(RequestHead request, peer, Context context)
@cython.locals(scope=dict, extensions=dict)
cpdef dict websocket_scope(RequestHead request, list subprotocols, peer, Context context)
@cython.locals(field=tuple, index=Py_ssize_t)
cdef _share_fields(list headers)
