# cython: language_level=3, annotation_typing=False, binding=False
"""Builds ASGI connection scopes from a request and its peer (ASGI specification, HTTP & WebSocket message format)."""

from __future__ import annotations

from typing import Any

from flowserve.asgi.context import DRAINING, Context
from flowserve.asgi.key_sharing import key_sharing
from flowserve.http.messages import RequestHead
from flowserve.transport.interfaces import Peer

_ASGI = key_sharing({"version": "3.0", "spec_version": "2.5"}, compact=True)
"""The `asgi` of WebSocket scopes. Each scope gets a copy: applications may modify it."""
_ASGI_HTTP: dict[str, Any] = {"version": "3.0", "spec_version": "2.3"}
"""The `asgi` of HTTP scopes. With 2.4 Starlette does not listen for http.disconnect while it streams, but waits until
send() raises: a stream that has nothing to send would never end."""

TOPICS = "flowserve.topics"
"""The key in a WebSocket scope's extensions for what `flowserve.topics.subscribe()` takes."""

_EXTENSIONS: dict[str, Any] = key_sharing({"websocket.http.response": {}, DRAINING: {}, TOPICS: None}, compact=True)
_EXTENSIONS_DEFLATE = key_sharing({**_EXTENSIONS, "flowserve.compress": {}}, compact=True)

_KEYS = "type scheme asgi http_version server client root_path path raw_path query_string headers state"
_COMMON = dict.fromkeys(_KEYS.split())
_HTTP = {**_COMMON, "type": "http", "method": ""}
_WEBSOCKET = key_sharing({**_COMMON, "type": "websocket", "subprotocols": None, "extensions": None})
"""Copies live as long as their WebSockets, with the keys that frameworks add."""

_SHARED_FIELDS = frozenset(
    b"accept-encoding accept-language cache-control connection host origin pragma sec-websocket-extensions "
    b"sec-websocket-version upgrade user-agent".split()
)
"""Header fields that many clients send with the same value and that hold no secret: equal ones share one object."""
_MAX_SHARED_SIZE = 256  # in bytes, of the value
_MAX_CACHED_FIELDS = 1024
_field_cache: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}


def build_scope(
    keys: dict[str, Any], scheme: str, request: RequestHead, peer: Peer, context: Context
) -> dict[str, Any]:
    """Return a copy of `keys`, which has the type, with the entries that HTTP and WebSocket scopes have in common.

    `path` begins with `root_path`, as in WSGI SCRIPT_NAME + PATH_INFO; `raw_path` is what the client sent.
    """
    scope = keys.copy()
    scope["scheme"] = scheme
    scope["http_version"] = request.http_version
    scope["server"] = peer.server
    scope["client"] = peer.client
    scope["root_path"] = context.root_path
    scope["path"] = context.root_path + request.path
    scope["raw_path"] = request.raw_path
    scope["query_string"] = request.query_string
    scope["headers"] = request.headers.copy()  # the application may change it
    scope["state"] = context.state.copy()
    return scope


def http_scope(request: RequestHead, peer: Peer, context: Context) -> dict[str, Any]:
    """Return the scope of an HTTP request; over TLS with the extension 'tls'."""
    if request.scope is not None:
        return _repeated_scope(request.scope, context)
    scope = build_scope(_HTTP, "https" if peer.secure else "http", request, peer, context)
    scope["asgi"] = _ASGI_HTTP.copy()
    scope["method"] = request.method
    if peer.tls is not None:
        scope["extensions"] = {"tls": peer.tls.copy()}
    elif request.repeated:
        request.scope = {**scope, "asgi": None, "headers": request.headers, "state": None}
    return scope


def _repeated_scope(known: dict[str, Any], context: Context) -> dict[str, Any]:
    """Return the scope of a request that has come again: a copy, as the application may change it."""
    scope = known.copy()
    scope["asgi"] = _ASGI_HTTP.copy()
    scope["headers"] = scope["headers"].copy()
    scope["state"] = context.state.copy()
    return scope


def websocket_scope(request: RequestHead, subprotocols: list[str], peer: Peer, context: Context) -> dict[str, Any]:
    """Return the scope of a WebSocket.

    Its extensions: 'websocket.http.response' (WebSocket Denial Response); with permessage-deflate enabled
    'flowserve.compress': a websocket.send may have the key 'compress', True or False, which decides instead of its
    length whether the message is compressed; 'flowserve.draining': `flowserve.draining()` returns an event that is set
    when the server begins to shut down; 'flowserve.topics', an object whose attribute `session` is the Session once the
    WebSocket is accepted; over TLS 'tls' (ASGI TLS extension, version 0.2).
    """
    scope = build_scope(_WEBSOCKET, "wss" if peer.secure else "ws", request, peer, context)
    scope["asgi"] = _ASGI.copy()
    _share_fields(scope["headers"])
    scope["subprotocols"] = subprotocols
    extensions = _EXTENSIONS_DEFLATE if context.config.ws_per_message_deflate else _EXTENSIONS
    scope["extensions"] = extensions.copy()
    if peer.tls is not None:
        scope["extensions"]["tls"] = peer.tls.copy()
    return scope


def _share_fields(headers: list[tuple[bytes, bytes]]) -> None:
    """Replace fields by those that other connections have, in place: a list that is not appended to takes less room."""
    for index, field in enumerate(headers):
        known = _field_cache.get(field)
        if known is not None:
            headers[index] = known
        elif field[0] in _SHARED_FIELDS and len(field[1]) <= _MAX_SHARED_SIZE:
            if len(_field_cache) >= _MAX_CACHED_FIELDS:
                _field_cache.clear()
            _field_cache[field] = field
