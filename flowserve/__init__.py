"""flowserve, an ASGI server for WebSockets and HTTP, and a WebSocket library for clients and servers.

`run()` serves an ASGI application as the command `flowserve myapp:app` does; a `Server` with its `Config` serves one in
the running event loop, and `draining()` lets the application notice the shutdown.

`connect()` opens a WebSocket to a server, `serve()` serves WebSockets with a handler, `start_server()` with a stream of
events, and `accept()` opens one on a connection that the program has accepted itself. They return a `WebSocket`, or
pass it to the handler or with an event; `broadcast()` sends a message to many of them.

flowserve's own exceptions are derived from `FlowserveError`.
"""

from __future__ import annotations

from flowserve import compiled

compiled.choose()  # before any module is imported of which there is a compiled one

from flowserve.asgi.context import draining  # noqa: E402
from flowserve.client.connect import connect, unix_connect  # noqa: E402
from flowserve.config import Config  # noqa: E402
from flowserve.errors import (  # noqa: E402
    AlreadyClosed,
    ASGIMisuse,
    ClientDisconnected,
    Close,
    ConfigError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    FlowserveError,
    HandshakeError,
    InvalidProxy,
    InvalidText,
    InvalidURI,
    PayloadTooBig,
    ProtocolError,
    ProxyError,
    RequestError,
    StartupFailed,
)
from flowserve.hosting.accept import accept  # noqa: E402
from flowserve.hosting.basic_auth import basic_auth  # noqa: E402
from flowserve.hosting.events import Disconnect, Error, EventStream, NewClient, NewMessage  # noqa: E402
from flowserve.hosting.handshake import Handshake  # noqa: E402
from flowserve.hosting.serve import WebSocketServer, serve, start_server, unix_serve  # noqa: E402
from flowserve.http.headers import Headers  # noqa: E402
from flowserve.library.broadcast import broadcast  # noqa: E402
from flowserve.library.messages import Request, Response  # noqa: E402
from flowserve.library.websocket import Reader, WebSocket, Writer  # noqa: E402
from flowserve.server.server import Server  # noqa: E402
from flowserve.supervisor import run  # noqa: E402
from flowserve.version import __version__  # noqa: E402
from flowserve.websocket.constants import CloseCode, State  # noqa: E402

__all__ = [
    "ASGIMisuse",
    "AlreadyClosed",
    "ClientDisconnected",
    "Close",
    "CloseCode",
    "Config",
    "ConfigError",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "Disconnect",
    "Error",
    "EventStream",
    "FlowserveError",
    "Handshake",
    "HandshakeError",
    "Headers",
    "InvalidProxy",
    "InvalidText",
    "InvalidURI",
    "NewClient",
    "NewMessage",
    "PayloadTooBig",
    "ProtocolError",
    "ProxyError",
    "Reader",
    "Request",
    "RequestError",
    "Response",
    "Server",
    "StartupFailed",
    "State",
    "WebSocket",
    "WebSocketServer",
    "Writer",
    "__version__",
    "accept",
    "basic_auth",
    "broadcast",
    "connect",
    "draining",
    "run",
    "serve",
    "start_server",
    "unix_connect",
    "unix_serve",
]
