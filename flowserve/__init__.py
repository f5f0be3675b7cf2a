"""flowserve, an ASGI server for WebSockets and HTTP, and a WebSocket library for clients and servers.

`run()` serves an ASGI application as the command `flowserve myapp:app` does; a `Server` with its `Config` serves one in
the running event loop, and `draining()` lets the application notice the shutdown.

`connect()` opens a WebSocket to a server, `serve()` serves WebSockets with a handler, `start_server()` with a stream of
events, and `accept()` opens one on a connection that the program has accepted itself. They return a `WebSocket`, or
pass it to the handler or with an event; `broadcast()` sends a message to many of them. `flowserve.sync.connect()` is
for programs without asyncio.

flowserve's own exceptions are derived from `FlowserveError`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flowserve import compiled
from flowserve.version import __version__

compiled.choose()  # before any module is imported of which there is a compiled one

if TYPE_CHECKING:
    from flowserve.asgi.context import draining as draining
    from flowserve.client.connect import connect as connect
    from flowserve.client.connect import unix_connect as unix_connect
    from flowserve.config import Config as Config
    from flowserve.errors import AlreadyClosed as AlreadyClosed
    from flowserve.errors import ASGIMisuse as ASGIMisuse
    from flowserve.errors import ClientDisconnected as ClientDisconnected
    from flowserve.errors import Close as Close
    from flowserve.errors import ConfigError as ConfigError
    from flowserve.errors import ConnectionClosed as ConnectionClosed
    from flowserve.errors import ConnectionClosedError as ConnectionClosedError
    from flowserve.errors import ConnectionClosedOK as ConnectionClosedOK
    from flowserve.errors import FlowserveError as FlowserveError
    from flowserve.errors import HandshakeError as HandshakeError
    from flowserve.errors import InvalidProxy as InvalidProxy
    from flowserve.errors import InvalidText as InvalidText
    from flowserve.errors import InvalidURI as InvalidURI
    from flowserve.errors import PayloadTooBig as PayloadTooBig
    from flowserve.errors import ProtocolError as ProtocolError
    from flowserve.errors import ProxyError as ProxyError
    from flowserve.errors import RequestError as RequestError
    from flowserve.errors import StartupFailed as StartupFailed
    from flowserve.hosting.accept import accept as accept
    from flowserve.hosting.basic_auth import basic_auth as basic_auth
    from flowserve.hosting.events import Disconnect as Disconnect
    from flowserve.hosting.events import Error as Error
    from flowserve.hosting.events import EventStream as EventStream
    from flowserve.hosting.events import NewClient as NewClient
    from flowserve.hosting.events import NewMessage as NewMessage
    from flowserve.hosting.handshake import Handshake as Handshake
    from flowserve.hosting.serve import WebSocketServer as WebSocketServer
    from flowserve.hosting.serve import serve as serve
    from flowserve.hosting.serve import start_server as start_server
    from flowserve.hosting.serve import unix_serve as unix_serve
    from flowserve.http.headers import Headers as Headers
    from flowserve.library.broadcast import broadcast as broadcast
    from flowserve.library.messages import Request as Request
    from flowserve.library.messages import Response as Response
    from flowserve.library.websocket import Reader as Reader
    from flowserve.library.websocket import WebSocket as WebSocket
    from flowserve.library.websocket import Writer as Writer
    from flowserve.server.server import Server as Server
    from flowserve.supervisor import run as run
    from flowserve.websocket.constants import CloseCode as CloseCode
    from flowserve.websocket.constants import State as State

_NAMES = {
    "flowserve.asgi.context": ("draining",),
    "flowserve.client.connect": ("connect", "unix_connect"),
    "flowserve.config": ("Config",),
    "flowserve.errors": (
        "AlreadyClosed",
        "ASGIMisuse",
        "ClientDisconnected",
        "Close",
        "ConfigError",
        "ConnectionClosed",
        "ConnectionClosedError",
        "ConnectionClosedOK",
        "FlowserveError",
        "HandshakeError",
        "InvalidProxy",
        "InvalidText",
        "InvalidURI",
        "PayloadTooBig",
        "ProtocolError",
        "ProxyError",
        "RequestError",
        "StartupFailed",
    ),
    "flowserve.hosting.accept": ("accept",),
    "flowserve.hosting.basic_auth": ("basic_auth",),
    "flowserve.hosting.events": ("Disconnect", "Error", "EventStream", "NewClient", "NewMessage"),
    "flowserve.hosting.handshake": ("Handshake",),
    "flowserve.hosting.serve": ("WebSocketServer", "serve", "start_server", "unix_serve"),
    "flowserve.http.headers": ("Headers",),
    "flowserve.library.broadcast": ("broadcast",),
    "flowserve.library.messages": ("Request", "Response"),
    "flowserve.library.websocket": ("Reader", "WebSocket", "Writer"),
    "flowserve.server.server": ("Server",),
    "flowserve.supervisor": ("run",),
    "flowserve.websocket.constants": ("CloseCode", "State"),
}
"""The public names by module. Each is imported at its first use: a server does without the client, and the other way
round. A test holds them equal to what type checkers see above."""
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name, or a module of the package."""
    if name in _MODULES:
        found: Any = getattr(import_module(_MODULES[name]), name)
        globals()[name] = found
        return found
    if not name.startswith("_"):
        try:
            return import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
