from flowserve.context cimport Context
from flowserve.http.messages cimport Request

cpdef dict build_scope(str kind, str scheme, Request request, peer, Context context)
cpdef dict http_scope(Request request, peer, Context context)
cpdef dict websocket_scope(Request request, list subprotocols, peer, Context context)
