# cython: language_level=3, annotation_typing=False
"""A request and its peer as an ASGI connection scope (ASGI specification, HTTP & WebSocket message format, version
2.5)."""

from __future__ import annotations

from typing import Any

from flowserve.context import DRAINING, Context
from flowserve.http.messages import Request
from flowserve.stream import Peer

ASGI = {"version": "3.0", "spec_version": "2.5"}
"""Each scope gets a copy: applications write into scopes."""


_NOT_COMPRESSING: dict[str, dict[str, Any]] = {"websocket.http.response": {}, DRAINING: {}}
_COMPRESSING = {**_NOT_COMPRESSING, "flowserve.compress": {}}


def build_scope(kind: str, scheme: str, request: Request, peer: Peer, context: Context) -> dict[str, Any]:
    """Return the keys that HTTP and WebSocket scopes have in common.

    `path` begins with `root_path`, as in WSGI SCRIPT_NAME + PATH_INFO; `raw_path` is what the client sent.
    """
    return {
        "type": kind,
        "scheme": scheme,
        "asgi": ASGI.copy(),
        "http_version": request.http_version,
        "server": peer.server,
        "client": peer.client,
        "root_path": context.root_path,
        "path": context.root_path + request.path,
        "raw_path": request.raw_path,
        "query_string": request.query_string,
        "headers": request.headers,
        "state": context.state.copy(),
    }


def http_scope(request: Request, peer: Peer, context: Context) -> dict[str, Any]:
    """Return the scope of an HTTP request; over TLS with the extension 'tls'."""
    scope = build_scope("http", "https" if peer.secure else "http", request, peer, context)
    scope["method"] = request.method
    if peer.tls is not None:
        scope["extensions"] = {"tls": peer.tls.copy()}
    return scope


def websocket_scope(request: Request, subprotocols: list[str], peer: Peer, context: Context) -> dict[str, Any]:
    """Return the scope of a WebSocket.

    Its extensions: 'websocket.http.response' (Denial Response), and with permessage-deflate on 'flowserve.compress': a
    websocket.send may have the key 'compress', True or False, to have that message compressed or not whatever its
    length; 'flowserve.draining': `scope["state"]["flowserve.draining"]` is an asyncio.Event that is set when the server
    begins to shut down; over TLS 'tls' (ASGI TLS extension, version 0.2).
    """
    scope = build_scope("websocket", "wss" if peer.secure else "ws", request, peer, context)
    scope["subprotocols"] = subprotocols
    extensions = _COMPRESSING if context.config.ws_per_message_deflate else _NOT_COMPRESSING
    scope["extensions"] = extensions.copy()
    if peer.tls is not None:
        scope["extensions"]["tls"] = peer.tls.copy()
    return scope
