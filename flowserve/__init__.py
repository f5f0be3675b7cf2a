"""flowserve: the ASGI server for WebSockets. `flowserve myapp:app` on the command line, or the names below."""

from __future__ import annotations

from flowserve import compiled

compiled.choose()

from flowserve.asgi.context import draining  # noqa: E402
from flowserve.client.connect import connect, unix_connect  # noqa: E402
from flowserve.config import Config  # noqa: E402  (after the choice between compiled and pure)
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
