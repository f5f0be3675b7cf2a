# cython: language_level=3, annotation_typing=False, binding=False
"""A request and its peer as an ASGI connection scope (ASGI specification, HTTP & WebSocket message format)."""

from __future__ import annotations

from typing import Any

from flowserve.asgi.context import DRAINING, Context
from flowserve.asgi.key_sharing import key_sharing
from flowserve.http.messages import RequestHead
from flowserve.transport.interfaces import Peer

_ASGI = key_sharing({"version": "3.0", "spec_version": "2.5"}, settled=True)
"""Each scope gets a copy: applications write into scopes."""
_ASGI_HTTP: dict[str, Any] = {"version": "3.0", "spec_version": "2.3"}
"""From 2.4 on Starlette does not listen for http.disconnect while it streams, but waits until a send() raises: a stream
that has nothing to send would never end."""

_NOT_COMPRESSING: dict[str, dict[str, Any]] = key_sharing({"websocket.http.response": {}, DRAINING: {}}, settled=True)
_COMPRESSING = key_sharing({**_NOT_COMPRESSING, "flowserve.compress": {}}, settled=True)

_KEYS = "type scheme asgi http_version server client root_path path raw_path query_string headers state"
_COMMON = dict.fromkeys(_KEYS.split())
_HTTP = {**_COMMON, "type": "http", "method": ""}
_WEBSOCKET = key_sharing({**_COMMON, "type": "websocket", "subprotocols": None, "extensions": None})
"""Its copies stay as long as the WebSockets, with the keys that frameworks add."""

_ALIKE = frozenset(
    b"accept-encoding accept-language cache-control connection host origin pragma sec-websocket-extensions "
    b"sec-websocket-version upgrade user-agent".split()
)
"""Fields that many clients send alike, and that tell no secret."""
_LONGEST_ALIKE = 256  # bytes of value
_MOST_SEEN = 1024
_seen: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}


def build_scope(
    keys: dict[str, Any], scheme: str, request: RequestHead, peer: Peer, context: Context
) -> dict[str, Any]:
    """Return a copy of `keys`, which has the type, with what HTTP and WebSocket scopes have in common.

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
    scope["headers"] = request.headers
    scope["state"] = context.state.copy()
    return scope


def http_scope(request: RequestHead, peer: Peer, context: Context) -> dict[str, Any]:
    """Return the scope of an HTTP request; over TLS with the extension 'tls'."""
    scope = build_scope(_HTTP, "https" if peer.secure else "http", request, peer, context)
    scope["asgi"] = _ASGI_HTTP.copy()
    scope["method"] = request.method
    if peer.tls is not None:
        scope["extensions"] = {"tls": peer.tls.copy()}
    return scope


def websocket_scope(request: RequestHead, subprotocols: list[str], peer: Peer, context: Context) -> dict[str, Any]:
    """Return the scope of a WebSocket.

    Its extensions: 'websocket.http.response' (Denial Response), and with permessage-deflate on 'flowserve.compress': a
    websocket.send may have the key 'compress', True or False, to have that message compressed or not whatever its
    length; 'flowserve.draining': there is `flowserve.draining()`, an event that is set when the server begins to shut
    down; over TLS 'tls' (ASGI TLS extension, version 0.2).
    """
    scope = build_scope(_WEBSOCKET, "wss" if peer.secure else "ws", request, peer, context)
    scope["asgi"] = _ASGI.copy()
    scope["headers"] = [
        _shared(field) if field[0] in _ALIKE and len(field[1]) <= _LONGEST_ALIKE else field for field in request.headers
    ]
    scope["subprotocols"] = subprotocols
    extensions = _COMPRESSING if context.config.ws_per_message_deflate else _NOT_COMPRESSING
    scope["extensions"] = extensions.copy()
    if peer.tls is not None:
        scope["extensions"]["tls"] = peer.tls.copy()
    return scope


def _shared(field: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """One object for all connections that have sent this field lately."""
    known = _seen.get(field)
    if known is None:
        if len(_seen) >= _MOST_SEEN:
            _seen.clear()
        _seen[field] = known = field
    return known
