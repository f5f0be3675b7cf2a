"""serve(): WebSockets of a server inside a program, behind the same face as a client's. The ASGI server opens them."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import socket
import ssl as tls
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any

from flowserve.asgi.application_errors import holds_only
from flowserve.asgi.websocket import TAKE_SESSION
from flowserve.config import Config
from flowserve.config.addresses import Bind
from flowserve.config.config import HTTP, LIMITS, OPTIONS, PROTECTION, PROXIES, SIGHT, TLS
from flowserve.errors import LATE_ANSWER, ConfigError, HandshakeError
from flowserve.hosting.events import EventStream
from flowserve.hosting.handshake import Handshake
from flowserve.hosting.policy import (
    Fields,
    HandshakePolicy,
    Origins,
    ProcessRequest,
    ProcessResponse,
    SelectSubprotocol,
    answer_of,
)
from flowserve.library.close_errors import is_closed_error_of
from flowserve.library.context import read_options
from flowserve.library.messages import pack
from flowserve.library.timeout import Deadline
from flowserve.library.websocket import LATE_ROOM, WebSocket
from flowserve.library.websockets_arguments import WebSocketsArguments
from flowserve.logs.loggers import logger
from flowserve.server.listen import open_sockets
from flowserve.server.server import Server
from flowserve.websocket.constants import CloseCode

_Sockets = Callable[[], Sequence[socket.socket]]
Handler = Callable[[WebSocket], Awaitable[None]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]

_GROUPS = (HTTP, LIMITS, PROTECTION, PROXIES, SIGHT, TLS)
_OTHERS = ("access_log", "backlog", "timeout_graceful_shutdown")
_DEFAULTS = {"access_log": False, "proxy_headers": False}
_FOREVER = 1e9
"""Seconds, for no limit."""
_MAX_REASON = 123
"""Bytes in a close frame (RFC 6455 section 5.5)."""


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
    **options: Any,
) -> WebSocketServer:
    """Serve WebSockets: `async with serve(handler, "localhost", 8765) as server`, or `server = await serve(...)`.

    `handler(ws)` is called for each. When it returns, the WebSocket is closed with 1000, and with 1011 when it raises,
    which the log tells of; ConnectionClosed of this WebSocket is no error.

    It listens at `host`, several hosts or None for every interface, and `port`, 0 or None for a free one; or at the
    UNIX domain socket `uds`; or at `sock`, bound already. `ssl` is a server's context, for wss. `family` chooses among
    the host's addresses; with `reuse_port` several processes may listen there (SO_REUSEPORT). Without `start_serving`
    it listens when `start_serving()` or `serve_forever()` is called.

    `process_request(handshake, request)` may answer with a Response, `handshake.respond(200, "OK")`, also to a GET that
    asks for no WebSocket; otherwise that gets a 426. Attributes that it sets, `handshake.user = ...`, are the
    WebSocket's in the handler. `process_response(handshake, request, response)` may change the answer's fields, or
    return another answer. `subprotocols` are what is spoken here: a client that offers none of them is refused, unless
    `select_subprotocol(handshake, offered)` chooses. `origins` are those allowed, with None for clients that send no
    Origin. See `library.terms.HandshakePolicy`. `server_header` is its value, or None for none.

    `logger` is told of handlers that raise, and is the WebSockets' `logger`; `write_limit` is as for `connect()`.

    A client has `open_timeout` seconds (None or 0: no limit) for its request, and for its TLS handshake; the callbacks
    have as long, and are cancelled then. The other options are those of a WebSocket, such as `max_size`, and these of
    the server by their own names: headers, access_log, backlog, timeout_graceful_shutdown, and the groups HTTP, limits,
    protection, proxies, metrics and TLS. By default nothing is written to the access log, and no proxy is believed.

    Raises ConfigError, here or when it is awaited, for what can't be served; TypeError for an unknown option.
    """
    terms = HandshakePolicy(subprotocols, select_subprotocol, origins, process_request, process_response)
    host_app = _Host(handler, terms, WebSocketsArguments(logger, write_limit), open_timeout or None)
    options.pop("reuse_address", None)  # which is always so
    given = {name: each for name, each in options.items() if _is_servers(name)}
    config = read_options({name: each for name, each in options.items() if name not in given})
    changes = {**_DEFAULTS, **{name: OPTIONS[name].convert(each, name) for name, each in given.items()}}
    changes.update(_server_header(server_header, changes.get("headers", ())))
    changes.update(_timeouts(open_timeout, ssl is not None))
    if ssl is not None:
        changes["ssl_context_factory"] = lambda config, make: ssl
    changes["bind"] = bind = _places(host, port, uds, sock)
    config = dataclasses.replace(
        config,
        app=host_app,
        interface="asgi3",
        lifespan="off",
        ws_shutdown_code=1001,
        ws_shutdown_reason="",
        **changes,
    )
    sockets: _Sockets | None = None
    if sock is not None:
        sockets = partial(list, [sock])
    elif uds is None and (family or reuse_port):
        sockets = partial(open_sockets, bind, family, reuse_port)
    return WebSocketServer(host_app, config, sockets, start_serving)


def unix_serve(handler: Handler, path: str | os.PathLike[str] | None = None, **options: Any) -> WebSocketServer:
    """Serve WebSockets at the UNIX domain socket `path`, or at `sock=`; everything else is as in `serve()`."""
    return serve(handler, uds=path, **options)


class WebSocketServer:
    """What `serve()` returns: used with `async with`, or awaited; its methods are those of an asyncio.Server."""

    def __init__(self, host: _Host, config: Config, sockets: _Sockets | None, at_once: bool = True) -> None:
        """`sockets()` gives those to listen on, if not the server itself makes them; `at_once` is whether it listens
        as soon as it is awaited."""
        self._host = host
        self._config = config
        self._sockets = sockets
        self._at_once = at_once
        self._server: Server | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; none before it serves, and after `close()`."""
        return tuple(self._server.sockets) if self._server is not None and self.is_serving() else ()

    @property
    def connections(self) -> set[WebSocket]:
        """The WebSockets that are open."""
        return {ws for ws in self._host.connections if not ws.closed}

    def is_serving(self) -> bool:
        """Whether it listens."""
        return self._server is not None and self._closing is None

    def close(self, close_connections: bool = True, code: int = 1001, reason: str = "") -> None:
        """Stop listening, close the WebSockets with `code` and `reason`, and wait in the background for the handlers;
        `wait_closed()` tells the end. With `close_connections=False` the WebSockets go on until they end by
        themselves. Newcomers get a 503. A second call changes nothing.

        Handlers that are not done within timeout_graceful_shutdown (30 seconds by default) are cancelled.
        """
        code = OPTIONS["ws_shutdown_code"].kind.parse(code)
        if self._server is None:
            self._closed.set()
        elif self._closing is None:
            self._host.closing = True
            reason = reason.encode()[:_MAX_REASON].decode(errors="ignore")
            farewell = (code, reason) if close_connections else None
            self._closing = asyncio.ensure_future(self._close(self._server, farewell))

    async def _close(self, server: Server, farewell: tuple[int, str] | None) -> None:
        try:
            if farewell is None:
                await server.stop_accepting()
                await self._host.idle.wait()
            else:
                for ws in self._host.connections:
                    ws.session.connection.late_room = LATE_ROOM
                    ws.session.close(*farewell)
            await server.shutdown()
        finally:
            self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until it is closed, all connections are gone, and all handlers have returned."""
        await self._closed.wait()

    async def serve_forever(self) -> None:
        """Wait until it is closed; when this is cancelled, close it."""
        await self.start_serving()
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it serves in: the running one."""
        return asyncio.get_running_loop()

    async def start_serving(self) -> None:
        """Listen, if it does not yet."""
        if self._server is None:
            server = Server(self._config)
            server.announces = False
            await server.startup(None if self._sockets is None else self._sockets())
            self._server = server
            self._closed.clear()

    async def _start(self) -> WebSocketServer:
        if self._at_once:
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
    """Serve WebSockets as one stream of events: `async with start_server(8765) as events: async for event in events`.

    The events are NewClient, NewMessage, Error and Disconnect; see `EventStream`. `server` is the WebSocketServer
    beneath: leaving the `async with` closes it, and when it is closed otherwise the stream ends. The options are those
    of `serve()`.
    """

    def __init__(self, port: int | None = None, host: str | Sequence[str] | None = None, **options: Any) -> None:
        super().__init__()
        self.server = serve(self.handle, host, port, **options)
        self._watching: asyncio.Task[None] | None = None

    async def _start(self) -> start_server:
        await self.server
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._watch())
        return self

    async def _watch(self) -> None:
        await self.server.wait_closed()
        self.finish()

    def __await__(self) -> Generator[Any, None, start_server]:
        return self._start().__await__()

    async def __aenter__(self) -> start_server:
        return await self

    async def __aexit__(self, *exc: object) -> None:
        self.leave()
        self.server.close()
        await self.server.wait_closed()


class _Host:
    """The ASGI application that opens WebSockets and gives them to a handler."""

    def __init__(
        self, handler: Handler, terms: HandshakePolicy, extras: WebSocketsArguments, timeout: float | None
    ) -> None:
        self.connections: set[WebSocket] = set()  # whose handler is running
        self.idle = asyncio.Event()  # none is
        self.idle.set()
        self.closing = False
        self._handler = handler
        self._terms = terms
        self._extras = extras
        self._timeout = timeout

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Any], send: _Send) -> None:
        handshake = Handshake(_request(scope), scope["client"], scope["server"])
        if self._extras.logger is not None:
            handshake.logger = self._extras.logger
        try:
            subprotocol, headers = await self._decide(handshake, scope)
        except HandshakeError as error:
            kind = "http.response" if scope["type"] == "http" else "websocket.http.response"
            await _respond(send, kind, await self._terms.refused(handshake, error))
            return
        taken: list[Any] = []
        accept = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers}
        await send({**accept, TAKE_SESSION: lambda *given: taken.extend(given)})
        session, head = taken
        ws = self._extras.apply_to(WebSocket(session, subprotocol, handshake._request, head))
        await self._handle(handshake.hand_over(ws))

    async def _decide(self, handshake: Handshake, scope: dict[str, Any]) -> tuple[str | None, Fields]:
        """Return subprotocol and header fields of a WebSocket that may be opened. Raises HandshakeError for another,
        also when the callbacks are not done in time: nobody waits for them then, so they are cancelled."""
        deadline = Deadline(self._timeout if self._terms.waits else None)
        try:
            async with deadline:
                if scope["type"] == "http":
                    raise await self._terms.turn_away(handshake, scope["method"])
                subprotocol = await self._terms.agree(handshake, scope["subprotocols"])
                headers = await self._terms.accepted(handshake, subprotocol, ())
        except TimeoutError:
            if not deadline.expired:
                raise
            (self._extras.logger or logger).error("The callbacks of a handshake were not done in time (open_timeout)")
            raise HandshakeError(*LATE_ANSWER) from None
        if self.closing:
            raise HandshakeError(503, "The server is shutting down")
        return subprotocol, headers

    async def _handle(self, ws: WebSocket) -> None:
        self.connections.add(ws)
        self.idle.clear()
        try:
            await self._handler(ws)
        except BaseException as error:
            if holds_only(error, partial(is_closed_error_of, ws.session.connection)):
                logger.debug("The handler ended with %r, as its WebSocket had", error)
                return
            if self._extras.logger is None or not isinstance(error, Exception):
                raise
            self._extras.logger.error("The handler of a WebSocket raised an exception", exc_info=error)
            ws.session.close(CloseCode.INTERNAL_ERROR, "")
        finally:
            self.connections.discard(ws)
            if not self.connections:
                self.idle.set()


def _request(scope: Mapping[str, Any]) -> bytes:
    """The request's head; who needs more than bytes of it unpacks it."""
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    return pack(b"%b %b HTTP/1.1" % (scope.get("method", "GET").encode(), target), scope["headers"])


async def _respond(send: _Send, kind: str, error: HandshakeError) -> None:
    status, headers, body = answer_of(error)
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


def _is_servers(name: str) -> bool:
    option = OPTIONS.get(name)
    return option is not None and not name.startswith("ws_") and (option.group in _GROUPS or name in _OTHERS)


def _server_header(value: str | bool | None, headers: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    if isinstance(value, str):
        return {"headers": OPTIONS["headers"].convert([*headers, ("server", value)], "server_header")}
    return {"server_header": bool(value)}


def _timeouts(seconds: float | None, secure: bool) -> dict[str, Any]:
    limit = OPTIONS["timeout_header"].convert(seconds or _FOREVER, "open_timeout")
    names = ("timeout_header", "timeout_handshake") + (("ssl_handshake_timeout",) if secure else ())
    return dict.fromkeys(names, limit)


def _places(
    host: str | Sequence[str] | None,
    port: int | None,
    uds: str | os.PathLike[str] | None,
    sock: socket.socket | None,
) -> tuple[Bind, ...]:
    given = (host is not None or port is not None, uds is not None, sock is not None)
    if sum(given) != 1:
        raise ConfigError("say where to listen: either host and port, or uds, or sock")
    if uds is not None:
        return (Bind(path=OPTIONS["uds"].convert(uds, "uds")),)
    if sock is not None:
        return ()
    number = OPTIONS["port"].convert(port or 0, "port")
    hosts = [host] if isinstance(host, str) or host is None else host
    return tuple(Bind(host=OPTIONS["host"].convert(each or "::", "host"), port=number) for each in hosts)
