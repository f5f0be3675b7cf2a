"""connect(): open a WebSocket to a server, and reopen it if wanted."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl as tls
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from flowserve.client.arguments import (
    HeadersLike,
    RouteArguments,
    checked_number,
    checked_seconds,
    make_handshake_request,
)
from flowserve.client.dial import Route, dial
from flowserve.client.handshake import HandshakeRequest, open_websocket
from flowserve.client.reconnect import STABLE_SECONDS, Delays, Schedule, backoff, process_exception, retry_after
from flowserve.client.redirects import follow, redirect_location, too_many_redirects
from flowserve.client.uri import URI, parse_uri
from flowserve.errors import ConfigError, HandshakeError
from flowserve.library.context import LibraryContext, read_options
from flowserve.library.properties import session_of
from flowserve.library.timeout import Deadline
from flowserve.library.websocket import WebSocket
from flowserve.library.websockets_arguments import WebSocketsArguments
from flowserve.logs import loggers
from flowserve.version import __version__
from flowserve.websocket.constants import CloseCode

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flowserve.library.keywords import ConnectKeywords


class connect:  # noqa: N801  (used like a function)
    """Connect to the WebSocket server at `uri`, ws:// or wss://, and do the opening handshake.

    There are three ways to use it. `async with connect(uri) as ws` closes the WebSocket at the end of the block, with
    1011 after an exception. `ws = await connect(uri)` leaves closing to the caller. `async for ws in connect(uri)`
    reconnects: whenever the loop's body ends, or continues after the WebSocket was closed (`except ConnectionClosed:
    continue`), it closes that WebSocket and opens a new one; while opening fails for a reason that may pass, it retries
    with growing delays. Leaving the loop closes the WebSocket.

    The request: `subprotocols` are offered in order of preference; `additional_headers` is a mapping or pairs
    (name, value) of str; `origin` is the Origin field; `user_agent_header` is the User-Agent field, None for none;
    `compression` is "deflate" to offer permessage-deflate (RFC 7692), the default, or None.

    The connection: for wss://, `ssl` is the TLS context, by default one that trusts the system's certificate
    authorities, or those in the file `ca_file` (PEM), and that is shared by all connections that ask for the same;
    `server_hostname` is the name that the certificate must have, by default the URI's host. `host` and `port` are where
    to connect instead of the URI's host and port, `uds` is the path of a UNIX domain socket to connect to; `sock` is a
    socket that is connected already, which is closed together with the WebSocket, or when opening fails. `local_addr`
    is the local (host, port) to bind to.

    `proxy` is the URL of a proxy, http://, https://, or with the package python-socks socks5h://, socks5://, socks4a://
    or socks4://, with user and password if it wants them; True (the default) for the one that the environment or system
    names (wss_proxy or ws_proxy, socks_proxy, https_proxy, http_proxy, all_proxy, unless no_proxy covers the server);
    None for a direct connection. socks5h:// and socks4a:// leave it to the proxy to look up the server's name.
    `proxy_ssl` is the TLS context for an https:// proxy. At most `max_redirects` redirects (301, 302, 303, 307, 308)
    are followed.

    If a host has several addresses, they are tried as RFC 8305 says ("happy eyeballs"): the next one as soon as the one
    before has failed, or has not answered for `happy_eyeballs_delay` seconds, by default 0.25; None or 0 waits until it
    fails. `interleave` is how many addresses of the first family are tried before one of the other, by default 1.
    `family`, `proto` and `flags` are passed to the event loop's getaddrinfo(). `ssl_handshake_timeout` and
    `ssl_shutdown_timeout` are passed to its start_tls(), `proxy_ssl_handshake_timeout` and `proxy_ssl_shutdown_timeout`
    likewise for the proxy; `proxy_server_hostname` is the name that the proxy's certificate must have.

    `open_timeout` limits the seconds from the start until the WebSocket is open, redirects included; None or 0 for no
    limit. For `async for`, `reconnect_delays()` returns an iterable of the delays between attempts, in seconds; it is
    called again after a connection that was open for 10 seconds, and when it is exhausted, the loop ends after a lost
    connection and raises after a failed attempt. A longer Retry-After of the response is respected, up to 300 seconds.
    `process_exception(error)` decides what happens after a failed attempt: it returns None to retry, or the exception
    to raise. By default it retries after OSError, timeouts, and responses with 429, 500, 502, 503 or 504.

    `logger` logs lost connections and retries, and becomes the WebSocket's `logger`. `write_limit` is how many bytes
    the transport buffers before `send()` waits, or a pair (high, low) of marks.

    Other keyword arguments are the server's WebSocket options without their prefix ws_: max_size, max_queue,
    ping_interval, ping_timeout, close_timeout, idle_timeout, send_timeout, deflate_level and so on.

    The call itself raises InvalidURI, ConfigError or TypeError for wrong arguments. Opening raises OSError
    (ssl.SSLError for TLS), TimeoutError, InvalidProxy, ProxyError, or HandshakeError, with status, headers and body of
    the response, if the server does not open the WebSocket.
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
        **options: Unpack[ConnectKeywords],
    ) -> None:
        self._uri = parse_uri(uri)
        route = RouteArguments(ssl, ca_file, server_hostname, host, port, uds, sock, local_addr, proxy, proxy_ssl)
        others: dict[str, Any] = {**options}
        self._route = route.make_route(self._uri, others)
        self._config = read_options(others)
        self._websocket_arguments = WebSocketsArguments(logger, write_limit)
        self._logger = logger or loggers.logger
        self._request = make_handshake_request(subprotocols, additional_headers, origin, user_agent_header)
        self._open_timeout = checked_seconds("open_timeout", open_timeout)
        self._max_redirects = checked_number("max_redirects", max_redirects)
        self._process_exception = process_exception
        self._reconnect_delays = reconnect_delays
        self._ws: WebSocket | None = None
        self._sock_used = False  # `sock` can be used for one connection only

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
        if sock is not None and self._sock_used:
            raise ConfigError("sock: a socket leads to its server once; give another connect() another one")
        self._sock_used = True
        try:
            async with Deadline(self._open_timeout) as deadline:
                return await self._open_and_redirect(deadline)
        except BaseException:
            if sock is not None:
                sock.close()
            raise

    async def _open_and_redirect(self, deadline: Deadline) -> WebSocket:
        """Open the WebSocket, following redirects."""
        uri, route, request = self._uri, self._route, self._request
        redirects = 0
        while True:
            try:
                return await self._open_once(uri, route, request, deadline)
            except HandshakeError as error:
                new = redirect_location(uri, error)
                if new is None:
                    raise
                redirects += 1
                if redirects > self._max_redirects:
                    raise too_many_redirects(error, self._max_redirects) from None
                route, request = follow(uri, new, route, request, error)
                uri = new

    async def _open_once(self, uri: URI, route: Route, request: HandshakeRequest, deadline: Deadline) -> WebSocket:
        context = LibraryContext(self._config, asyncio.get_running_loop())
        transport = await dial(uri, route, self._config, request.user_agent, deadline)
        deadline.doing = f"waiting for the answer of {uri}"
        try:
            return self._websocket_arguments.apply_to(await open_websocket(transport, uri, request, context))
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
                delay = self._retry_delay(error, schedule)
            else:
                opened_at = loop.time()
                try:
                    yield ws
                finally:
                    at_once = _may_reconnect_at_once(ws)
                    await _close(ws, CloseCode.NORMAL)
                if loop.time() - opened_at >= STABLE_SECONDS:
                    schedule.reset()
                if at_once:
                    continue
                next_delay = schedule.next()
                if next_delay is None:
                    return
                delay = next_delay
                self._logger.info(
                    "The WebSocket to %s was lost (%d); connecting again in %.1f s", self._uri, ws.close_code, delay
                )
            await asyncio.sleep(delay)

    def _retry_delay(self, error: Exception, schedule: Schedule) -> float:
        """Return the seconds until the next attempt after `error`, or raise if there is to be none."""
        try:
            fatal = self._process_exception(error)
        except Exception as raised:  # the same as returning it
            fatal = raised
        if fatal is not None:
            if fatal is error:
                raise fatal
            raise fatal from error
        delay = schedule.next()
        if delay is None:
            raise error
        delay = max(delay, retry_after(error))
        self._logger.warning(
            "Could not connect to %s; trying again in %.1f s: %s", self._uri, delay, str(error) or type(error).__name__
        )
        return delay


def unix_connect(path: str | os.PathLike[str], uri: str | None = None, **options: Any) -> connect:
    """Like `connect()`, to a server that listens on the UNIX domain socket `path`. `uri` is ws://localhost/ by default,
    wss://localhost/ if `ssl` or `ca_file` is given."""
    if uri is None:
        secure = options.get("ssl") is not None or options.get("ca_file") is not None
        uri = "wss://localhost/" if secure else "ws://localhost/"
    return connect(uri, uds=path, **options)


async def _close(ws: WebSocket, code: int) -> None:
    """Close the WebSocket; abort it if the wait for the peer's close frame is cancelled."""
    try:
        await ws.close(code)
    except BaseException:
        ws.abort()
        raise


def _may_reconnect_at_once(ws: WebSocket) -> bool:
    """Whether the WebSocket is still open, or this end closed it first with 1000 or 1001: then there is no reason to
    delay the next connection."""
    if not ws.closed:
        return True
    connection = session_of(ws).connection
    code = (connection.sent_close or b"")[:2]
    return not connection.answered and code in (b"\x03\xe8", b"\x03\xe9")
