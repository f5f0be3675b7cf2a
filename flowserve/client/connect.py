"""connect(): a WebSocket to a server, once or as often as it takes."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl as tls
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Literal

from flowserve.client.arguments import (
    HeadersLike,
    add_arguments,
    checked_number,
    checked_seconds,
    make_route,
    make_wish,
)
from flowserve.client.dial import Route, dial
from flowserve.client.handshake import HandshakeRequest, open_websocket
from flowserve.client.reconnect import HELD, Delays, Schedule, backoff, process_exception, retry_after
from flowserve.client.redirects import follow, target_of, too_many
from flowserve.client.uri import URI, parse_uri
from flowserve.errors import ConfigError, HandshakeError
from flowserve.library.context import LibraryContext, read_options
from flowserve.library.timeout import Deadline
from flowserve.library.websocket import WebSocket
from flowserve.library.websockets_arguments import WebSocketsArguments
from flowserve.logs import loggers
from flowserve.version import __version__
from flowserve.websocket.constants import CloseCode


class connect:  # noqa: N801  (used like a function)
    """Open a WebSocket to `uri`, ws:// or wss://.

    `async with connect(uri) as ws` closes it at the end of the block; `ws = await connect(uri)` leaves that to you;
    `async for ws in connect(uri)` gives a new one whenever the loop's body is done with the one before, which is
    closed, or has seen its end (`except ConnectionClosed: continue`). While that fails for a reason that may pass, it
    tries again, with growing delays; leaving the loop closes the WebSocket.

    What is asked for: `subprotocols` in order of preference, `additional_headers` (a mapping or pairs), `origin`,
    `user_agent_header` (None for none). `compression` is "deflate" or None.

    How to get there: for wss://, `ssl` is the context, by default one with the system's authorities, or those in
    `ca_file` (PEM); `server_hostname` is the name that the certificate must have, if not the URI's host. `host` and
    `port` connect there instead of where the URI says, `uds` to a UNIX domain socket; `sock` is connected already, and
    closed with the WebSocket, or if none comes of it. `local_addr` is this end's (host, port). `proxy` is an http://
    or https:// URL, True for what the environment or system says (https_proxy, http_proxy, no_proxy), None for none;
    `proxy_ssl` the context for an https:// one. At most `max_redirects` redirects are followed.

    `family`, `proto`, `flags` and, with asyncio's own loop, `happy_eyeballs_delay`, `interleave` and `all_errors` are
    as for its create_connection(); `ssl_handshake_timeout` and `ssl_shutdown_timeout` as for its start_tls(), with
    proxy_ before them for the proxy, which has a `proxy_server_hostname` too.

    `open_timeout` is in seconds and for all of the opening; None or 0 for no limit. `reconnect_delays()` gives the
    delays for `async for`, in seconds, anew after a connection that held; where they end, so does the loop.
    `process_exception(error)` says which errors it outlasts: it returns None for these, and else the one to raise.

    `logger` is told of losses and attempts, and is the WebSocket's `logger`. `write_limit` is how many bytes the
    transport takes before `send()` waits, or (high, low).

    Other keyword arguments are the server's options without their ws_: max_size, max_queue, ping_interval,
    ping_timeout, close_timeout, idle_timeout, send_timeout, deflate_level and so on.

    Raises InvalidURI, ConfigError and TypeError at once for what is wrong with the arguments. Opening raises OSError
    (ssl.SSLError for TLS), TimeoutError, InvalidProxy, ProxyError, and HandshakeError, with status, headers and body,
    for an answer that opens no WebSocket.
    """

    def __init__(
        self,
        uri: str,
        *,
        origin: str | None = None,
        subprotocols: Sequence[str] | None = None,
        additional_headers: HeadersLike | None = None,
        user_agent_header: str | None = f"flowserve/{__version__}",
        proxy: str | Literal[True] | None = True,
        proxy_ssl: tls.SSLContext | None = None,
        process_exception: Callable[[Exception], Exception | None] = process_exception,
        reconnect_delays: Delays = backoff,
        max_redirects: int = 10,
        open_timeout: float | None = 10.0,
        ssl: tls.SSLContext | Literal[True] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        server_hostname: str | None = None,
        host: str | None = None,
        port: int | None = None,
        uds: str | os.PathLike[str] | None = None,
        sock: socket.socket | None = None,
        local_addr: tuple[str, int] | None = None,
        write_limit: int | tuple[int, int | None] | None = None,
        logger: logging.Logger | logging.LoggerAdapter[Any] | None = None,
        **options: Any,
    ) -> None:
        self._uri = parse_uri(uri)
        route = make_route(
            self._uri, ssl, ca_file, server_hostname, host, port, uds, sock, local_addr, proxy, proxy_ssl
        )
        self._route = add_arguments(route, options)
        self._config = read_options(options)
        self._extras = WebSocketsArguments(logger, write_limit)
        self._logger = logger or loggers.logger
        self._wish = make_wish(subprotocols, additional_headers, origin, user_agent_header)
        self._open_timeout = checked_seconds("open_timeout", open_timeout)
        self._max_redirects = checked_number("max_redirects", max_redirects)
        self._process_exception = process_exception
        self._reconnect_delays = reconnect_delays
        self._ws: WebSocket | None = None
        self._spent = False  # the socket that was given

    # await, and async with

    def __await__(self) -> Generator[Any, None, WebSocket]:
        return self._open().__await__()

    async def __aenter__(self) -> WebSocket:
        if self._ws is not None:
            raise RuntimeError("this connect() has its block already; call connect() again for another WebSocket")
        self._ws = await self
        return self._ws

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ws, self._ws = self._ws, None
        if ws is not None:
            await _close(ws, CloseCode.NORMAL if kind is None else CloseCode.INTERNAL_ERROR)

    async def _open(self) -> WebSocket:
        sock = self._route.sock
        if sock is not None and self._spent:
            raise ConfigError("sock: a socket leads to its server once; give another connect() another one")
        self._spent = True
        try:
            async with Deadline(self._open_timeout) as deadline:
                return await self._find(deadline)
        except BaseException:
            if sock is not None:
                sock.close()
            raise

    async def _find(self, deadline: Deadline) -> WebSocket:
        """Open it, wherever the server sends this client."""
        uri, route, wish = self._uri, self._route, self._wish
        redirects = 0
        while True:
            try:
                return await self._attempt(uri, route, wish, deadline)
            except HandshakeError as error:
                new = target_of(uri, error)
                if new is None:
                    raise
                redirects += 1
                if redirects > self._max_redirects:
                    raise too_many(error, self._max_redirects) from None
                route, wish = follow(uri, new, route, wish, error)
                uri = new

    async def _attempt(self, uri: URI, route: Route, wish: HandshakeRequest, deadline: Deadline) -> WebSocket:
        home = LibraryContext(self._config, asyncio.get_running_loop())
        transport = await dial(uri, route, self._config, wish.user_agent, deadline)
        deadline.doing = f"waiting for the answer of {uri}"
        try:
            return self._extras.apply_to(await open_websocket(transport, uri, wish, home))
        except BaseException:
            transport.abort()
            raise

    # async for

    async def __aiter__(self) -> AsyncIterator[WebSocket]:
        if self._route.sock is not None:
            raise ConfigError("sock: a socket can't be connected again; use `async with`, or `await`")
        loop = asyncio.get_running_loop()
        schedule = Schedule(self._reconnect_delays)
        while True:
            try:
                ws = await self._open()
            except Exception as error:
                delay = self._delay(error, schedule)
            else:
                opened_at = loop.time()
                try:
                    yield ws
                finally:
                    wanted = _wanted(ws)
                    await _close(ws, CloseCode.NORMAL)
                if loop.time() - opened_at >= HELD:
                    schedule.reset()
                if wanted:
                    continue
                following = schedule.next()
                if following is None:
                    return
                delay = following
                self._logger.info(
                    "The WebSocket to %s was lost (%d); connecting again in %.1f s", self._uri, ws.close_code, delay
                )
            await asyncio.sleep(delay)

    def _delay(self, error: Exception, schedule: Schedule) -> float:
        """Return the seconds until the next attempt after `error`; raises where there is to be none."""
        try:
            verdict = self._process_exception(error)
        except Exception as raised:  # which says the same as returning it
            verdict = raised
        if verdict is not None:
            if verdict is error:
                raise verdict
            raise verdict from error
        delay = schedule.next()
        if delay is None:
            raise error
        delay = max(delay, retry_after(error))
        self._logger.warning(
            "Could not connect to %s; trying again in %.1f s: %s", self._uri, delay, str(error) or type(error).__name__
        )
        return delay


def unix_connect(path: str | os.PathLike[str], uri: str | None = None, **options: Any) -> connect:
    """`connect()` to a server that listens on a UNIX domain socket; `uri` is ws://localhost/ by default, or
    wss://localhost/ with an `ssl` or a `ca_file`."""
    if uri is None:
        secure = options.get("ssl") is not None or options.get("ca_file") is not None
        uri = "wss://localhost/" if secure else "ws://localhost/"
    return connect(uri, uds=path, **options)


async def _close(ws: WebSocket, code: int) -> None:
    """Close it; at once if there is no time to wait for the peer's answer."""
    try:
        await ws.close(code)
    except BaseException:
        ws.abort()
        raise


def _wanted(ws: WebSocket) -> bool:
    """Whether it is still open, or was closed in order by this end: no reason to be careful with the next."""
    if not ws.closed:
        return True
    connection = ws.session.connection
    code = (connection.sent_close or b"")[:2]
    return not connection.answered and code in (b"\x03\xe8", b"\x03\xe9")
