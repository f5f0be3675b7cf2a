"""serve(): a WebSocket server inside a program. The ASGI server does the handshakes; `connect()` has the same
WebSocket."""

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
from flowserve.config.config import HTTP, LIMITS, METRICS, OPTIONS, PROTECTION, PROXIES, TLS
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
from flowserve.library.properties import session_of
from flowserve.library.timeout import Deadline
from flowserve.library.websocket import LATE_MESSAGES_LIMIT, WebSocket
from flowserve.library.websockets_arguments import WebSocketsArguments
from flowserve.logs.loggers import logger
from flowserve.server.listen import open_sockets
from flowserve.server.server import Server
from flowserve.websocket.constants import CloseCode

_Sockets = Callable[[], Sequence[socket.socket]]
Handler = Callable[[WebSocket], Awaitable[None]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]

_SERVER_GROUPS = (HTTP, LIMITS, PROTECTION, PROXIES, METRICS, TLS)
_SERVER_OPTIONS = ("access_log", "backlog", "timeout_graceful_shutdown")
_DEFAULTS = {"access_log": False, "proxy_headers": False}
_NO_LIMIT = 1e9
"""Seconds, used for an open_timeout of None."""
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
    **options: Any,
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
    app = _HandlerApp(handler, policy, WebSocketsArguments(logger, write_limit), open_timeout or None)
    options.pop("reuse_address", None)  # always on
    given = {name: each for name, each in options.items() if _is_server_option(name)}
    config = read_options({name: each for name, each in options.items() if name not in given})
    changes = {**_DEFAULTS, **{name: OPTIONS[name].convert(each, name) for name, each in given.items()}}
    changes.update(_server_header(server_header, changes.get("headers", ())))
    changes.update(_handshake_timeouts(open_timeout, ssl is not None))
    if ssl is not None:
        changes["ssl_context_factory"] = lambda config, make: ssl
    changes["bind"] = bind = _bind_addresses(host, port, uds, sock)
    config = dataclasses.replace(
        config,
        app=app,
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
    return WebSocketServer(app, config, sockets, start_serving)


def unix_serve(handler: Handler, path: str | os.PathLike[str] | None = None, **options: Any) -> WebSocketServer:
    """Like `serve()`, on the UNIX domain socket `path`, or on the one passed as `sock`."""
    return serve(handler, uds=path, **options)


class WebSocketServer:
    """The server that `serve()` returns, to be used with `async with` or awaited. Its methods are those of
    asyncio.Server, with the same meaning."""

    def __init__(
        self, app: _HandlerApp, config: Config, sockets: _Sockets | None, start_when_awaited: bool = True
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
    those of `serve()`. Leaving the `async with` block closes the server; when the server is closed otherwise, the
    stream ends.
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


class _HandlerApp:
    """The ASGI application that accepts or refuses handshakes and calls the handler for each WebSocket."""

    def __init__(
        self, handler: Handler, policy: HandshakePolicy, websocket_arguments: WebSocketsArguments, timeout: float | None
    ) -> None:
        self.connections: set[WebSocket] = set()  # those whose handler is running
        self.idle = asyncio.Event()  # set while no handler is running
        self.idle.set()
        self.closing = False  # refuse new handshakes
        self._handler = handler
        self._policy = policy
        self._websocket_arguments = websocket_arguments
        self._timeout = timeout

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Any], send: _Send) -> None:
        handshake = Handshake(_request(scope), scope["client"], scope["server"])
        if self._websocket_arguments.logger is not None:
            handshake.logger = self._websocket_arguments.logger
        try:
            subprotocol, headers = await self._check_handshake(handshake, scope)
        except HandshakeError as error:
            kind = "http.response" if scope["type"] == "http" else "websocket.http.response"
            await _respond(send, kind, await self._policy.process_refusal(handshake, error))
            return
        handed_over: list[Any] = []
        accept = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers}
        await send({**accept, TAKE_SESSION: lambda *given: handed_over.extend(given)})
        session, head = handed_over
        ws = self._websocket_arguments.apply_to(WebSocket(session, subprotocol, handshake._request, head))
        handshake._copy_attributes_to(ws)
        await self._handle(ws)

    async def _check_handshake(self, handshake: Handshake, scope: dict[str, Any]) -> tuple[str | None, Fields]:
        """Return the subprotocol and further header fields for a WebSocket to accept. Raises HandshakeError if it is
        refused, also with 504 when the callbacks, which are cancelled then, take longer than open_timeout."""
        deadline = Deadline(self._timeout if self._policy.may_wait else None)
        try:
            async with deadline:
                if scope["type"] == "http":
                    raise await self._policy.refuse_plain_request(handshake, scope["method"])
                subprotocol = await self._policy.choose_subprotocol(handshake, scope["subprotocols"])
                headers = await self._policy.process_acceptance(handshake, subprotocol, ())
        except TimeoutError:
            if not deadline.expired:
                raise
            (self._websocket_arguments.logger or logger).error(
                "The callbacks of a handshake were not done in time (open_timeout)"
            )
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
            if holds_only(error, partial(is_closed_error_of, session_of(ws).connection)):
                logger.debug("The handler ended with %r, as its WebSocket had", error)
                return
            if self._websocket_arguments.logger is None or not isinstance(error, Exception):
                raise
            self._websocket_arguments.logger.error("The handler of a WebSocket raised an exception", exc_info=error)
            session_of(ws).close(CloseCode.INTERNAL_ERROR, "")
        finally:
            self.connections.discard(ws)
            if not self.connections:
                self.idle.set()


def _request(scope: Mapping[str, Any]) -> bytes:
    """Return the head of the request as bytes, which Handshake and WebSocket decode when it is first read."""
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    return pack(b"%b %b HTTP/1.1" % (scope.get("method", "GET").encode(), target), scope["headers"])


async def _respond(send: _Send, kind: str, error: HandshakeError) -> None:
    status, headers, body = answer_of(error)
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


def _is_server_option(name: str) -> bool:
    option = OPTIONS.get(name)
    return (
        option is not None
        and not name.startswith("ws_")
        and (option.group in _SERVER_GROUPS or name in _SERVER_OPTIONS)
    )


def _server_header(value: str | bool | None, headers: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    if isinstance(value, str):
        return {"headers": OPTIONS["headers"].convert([*headers, ("server", value)], "server_header")}
    return {"server_header": bool(value)}


def _handshake_timeouts(seconds: float | None, secure: bool) -> dict[str, Any]:
    limit = OPTIONS["timeout_header"].convert(seconds or _NO_LIMIT, "open_timeout")
    names = ("timeout_header", "timeout_handshake") + (("ssl_handshake_timeout",) if secure else ())
    return dict.fromkeys(names, limit)


def _bind_addresses(
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
