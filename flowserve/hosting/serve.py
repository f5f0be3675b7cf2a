"""serve() and start_server(): a WebSocket server inside a program, on the ASGI server."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl as tls
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from flowserve.config import Config
from flowserve.config.config import OPTIONS
from flowserve.hosting.application import Handler, HandlerApp
from flowserve.hosting.arguments import ListenArguments, OpenSockets, make_config
from flowserve.hosting.events import EventStream
from flowserve.hosting.policy import HandshakePolicy, Origins, ProcessRequest, ProcessResponse, SelectSubprotocol
from flowserve.library.properties import session_of
from flowserve.library.websocket import LATE_MESSAGES_LIMIT, WebSocket
from flowserve.library.websockets_arguments import WebSocketsArguments
from flowserve.server.server import Server

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flowserve.library.keywords import ServeKeywords

_MAX_REASON = 123
"""Bytes of a reason that a close frame holds (RFC 6455 section 5.5)."""


def serve(
    handler: Handler,
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    *,
    uds: str | os.PathLike[str] | None = None,
    sock: socket.socket | None = None,
    ssl: tls.SSLContext | None = None,
    subprotocols: Sequence[str] | None = None,
    select_subprotocol: SelectSubprotocol | None = None,
    origins: Origins | None = None,
    process_request: ProcessRequest | None = None,
    process_response: ProcessResponse | None = None,
    server_header: str | bool | None = True,
    open_timeout: float | None = 10.0,
    family: int = 0,
    reuse_port: bool = False,
    start_serving: bool = True,
    write_limit: int | tuple[int, int | None] | None = None,
    logger: logging.Logger | logging.LoggerAdapter[Any] | None = None,
    **options: Unpack[ServeKeywords],
) -> WebSocketServer:
    """Serve WebSockets: `async with serve(handler, "localhost", 8765) as server`, or `server = await serve(...)`.

    The coroutine function `handler(ws)` is called for each WebSocket. When it returns, the WebSocket is closed with
    1000; when it raises, with 1011, and the exception is logged, unless it is the ConnectionClosed of this WebSocket.

    Exactly one of these says where to listen: `host`, a name or address, several of them, or None for every interface,
    with `port`, 0 or None for a free one; `uds`, the path of a UNIX domain socket; or `sock`, a socket that is already
    bound. `ssl` is the TLS context of a server, for wss://. `family` restricts the addresses of `host`, e.g. to
    socket.AF_INET; with `reuse_port` several processes may listen on the same port (SO_REUSEPORT). Without
    `start_serving` it listens only after `start_serving()` or `serve_forever()` was called.

    `process_request(handshake, request)`, a function or coroutine function, returns None to continue, or a Response to
    send instead, e.g. `handshake.respond(200, "OK")`. It is called for plain GET requests too, which get a response
    with status 426 otherwise. Attributes that it sets on `handshake` are those of the WebSocket later.
    `process_response(handshake, request, response)` may change the header fields of the response, or return another.
    `subprotocols` are those of the server, in order of preference: a client that offers none of them is refused, unless
    `select_subprotocol(handshake, offered)` chooses. `origins` are the allowed origins, str or compiled patterns, with
    None for clients that send no Origin. `hosting.policy.HandshakePolicy` has the details. `server_header` is the value
    of the Server field, True for the default, None for no field.

    `logger` logs exceptions of handlers, and becomes the `logger` of the WebSockets. `write_limit` is as for
    `connect()`.

    A client has `open_timeout` seconds (None or 0 for no limit) for its TLS handshake, as many for its request, and the
    callbacks as many to decide, after which they are cancelled. The other options are those of `connect()`, such as
    `max_size`, and the following ones of the server, by their own names: headers, access_log, backlog,
    timeout_graceful_shutdown, and the groups HTTP, limits, protection, proxies, metrics and TLS. By default there is no
    access log, and no proxy is trusted.

    Raises TypeError for an unknown option, and ConfigError, here or when it is awaited, for a wrong value or if it
    cannot listen.
    """
    policy = HandshakePolicy(subprotocols, select_subprotocol, origins, process_request, process_response)
    app = HandlerApp(handler, policy, WebSocketsArguments(logger, write_limit), open_timeout or None)
    listen = ListenArguments(host, port, uds, sock, family, reuse_port)
    config = make_config(app, listen, ssl, server_header, open_timeout, options)
    return WebSocketServer(app, config, listen.open_sockets(config.bind), start_serving)


def unix_serve(handler: Handler, path: str | os.PathLike[str] | None = None, **options: Any) -> WebSocketServer:
    """Like `serve()`, on the UNIX domain socket `path`, or on the one passed as `sock`."""
    return serve(handler, uds=path, **options)


class WebSocketServer:
    """The server that `serve()` returns, to be used with `async with` or awaited. Its methods are those of
    asyncio.Server, with the same meaning."""

    def __init__(
        self, app: HandlerApp, config: Config, sockets: OpenSockets | None, start_when_awaited: bool = True
    ) -> None:
        """`sockets()` returns the sockets to listen on; if it is None, the server opens them as `config` says.
        `start_when_awaited` is whether awaiting this starts to listen."""
        self._app = app
        self._config = config
        self._sockets = sockets
        self._start_when_awaited = start_when_awaited
        self._server: Server | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; empty before it listens and after `close()`."""
        return tuple(self._server.sockets) if self._server is not None and self.is_serving() else ()

    @property
    def connections(self) -> set[WebSocket]:
        """The open WebSockets, in a new set."""
        return {ws for ws in self._app.connections if not ws.closed}

    def is_serving(self) -> bool:
        """Whether it listens, that is, was started and not closed."""
        return self._server is not None and self._closing is None

    def close(self, close_connections: bool = True, code: int = 1001, reason: str = "") -> None:
        """Stop listening and close the WebSockets with `code` and `reason`, of which 123 bytes are sent. It returns at
        once; `wait_closed()` waits until the handlers have returned. With `close_connections=False` WebSockets stay
        open until they end by themselves. Handshakes in progress are refused with 503. Further calls have no effect.

        Handlers that have not returned after timeout_graceful_shutdown (by default 30 seconds) are cancelled. Raises
        ValueError for a code that may not be sent.
        """
        code = OPTIONS["ws_shutdown_code"].kind.parse(code)
        if self._server is None:
            self._closed.set()
        elif self._closing is None:
            self._app.closing = True
            reason = reason.encode()[:_MAX_REASON].decode(errors="ignore")
            close = (code, reason) if close_connections else None
            self._closing = asyncio.ensure_future(self._close(self._server, close))

    async def _close(self, server: Server, close: tuple[int, str] | None) -> None:
        try:
            if close is None:
                await server.stop_accepting()
                await self._app.idle.wait()
            else:
                for ws in self._app.connections:
                    session_of(ws).connection.late_room = LATE_MESSAGES_LIMIT
                    session_of(ws).close(*close)
            await server.shutdown()
        finally:
            self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until the server is closed, all connections are gone and all handlers have returned."""
        await self._closed.wait()

    async def serve_forever(self) -> None:
        """Listen, and wait until the server is closed; close it if this is cancelled."""
        await self.start_serving()
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that it serves in, which is the running one."""
        return asyncio.get_running_loop()

    async def start_serving(self) -> None:
        """Start to listen; no effect if it listens already. Raises ConfigError if it cannot."""
        if self._server is None:
            server = Server(self._config)
            server.announces = False
            await server.startup(None if self._sockets is None else self._sockets())
            self._server = server
            self._closed.clear()

    async def _start(self) -> WebSocketServer:
        if self._start_when_awaited:
            await self.start_serving()
        return self

    def __await__(self) -> Generator[Any, None, WebSocketServer]:
        return self._start().__await__()

    async def __aenter__(self) -> WebSocketServer:
        return await self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
        await self.wait_closed()


class start_server(EventStream):  # noqa: N801  (used like a function)
    """Serve WebSockets and get what happens to them as one stream of events: `async with start_server(8765) as
    events:`, and inside `async for event in events:`.

    The events are NewClient, NewMessage, Error and Disconnect; see `EventStream`. `host`, `port` and the options are
    those of `serve()`, and so are the errors raised. Leaving the `async with` block closes the server; when the server
    is closed otherwise, the stream ends. `events = await start_server(8765)` leaves closing to `events.server`.
    """

    def __init__(self, port: int | None = None, host: str | Sequence[str] | None = None, **options: Any) -> None:
        super().__init__()
        self.server = serve(self._handle, host, port, **options)
        """The WebSocketServer."""
        self._watching: asyncio.Task[None] | None = None

    async def _start(self) -> start_server:
        await self.server
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._watch())
        return self

    async def _watch(self) -> None:
        await self.server.wait_closed()
        self._finish()

    def __await__(self) -> Generator[Any, None, start_server]:
        return self._start().__await__()

    async def __aenter__(self) -> start_server:
        return await self

    async def __aexit__(self, *exc: object) -> None:
        self._discard_events()
        self.server.close()
        await self.server.wait_closed()
