"""connect(): a WebSocket to a server, once or as often as it takes."""

from __future__ import annotations

import asyncio
import socket
import ssl as tls
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

from flowserve.library.dialing import Route, dial
from flowserve.library.home import Home, read_options
from flowserve.library.opening import Wish, open_websocket
from flowserve.library.uri import parse_uri
from flowserve.library.websocket import WebSocket
from flowserve.version import __version__

HeadersLike = Mapping[str, str] | Iterable[tuple[str, str]]


class connect:  # noqa: N801  (used like a function)
    """Open a WebSocket to `uri`: `async with connect(uri) as ws`, or `ws = await connect(uri)`."""

    def __init__(
        self,
        uri: str,
        *,
        subprotocols: Sequence[str] = (),
        additional_headers: HeadersLike | None = None,
        origin: str | None = None,
        user_agent_header: str | None = f"flowserve/{__version__}",
        open_timeout: float | None = 10.0,
        ssl: tls.SSLContext | None = None,
        ca_file: str | None = None,
        server_hostname: str | None = None,
        host: str | None = None,
        port: int | None = None,
        uds: str | None = None,
        sock: socket.socket | None = None,
        local_addr: tuple[str, int] | None = None,
        **options: Any,
    ) -> None:
        self._uri = parse_uri(uri)
        self._config = read_options(options)
        self._route = Route(ssl, ca_file, server_hostname, host, port, uds, sock, local_addr)
        self._wish = Wish(subprotocols, _headers(additional_headers, origin, user_agent_header))
        self._open_timeout = open_timeout
        self._ws: WebSocket | None = None

    def __await__(self) -> Generator[Any, None, WebSocket]:
        return self._open().__await__()

    async def __aenter__(self) -> WebSocket:
        self._ws = await self
        return self._ws

    async def __aexit__(self, *exc: object) -> None:
        if self._ws is not None:
            await self._ws.close()

    async def _open(self) -> WebSocket:
        return await asyncio.wait_for(self._connect(), self._open_timeout)

    async def _connect(self) -> WebSocket:
        home = Home(self._config, asyncio.get_running_loop())
        transport = await dial(self._uri, self._route)
        try:
            return await open_websocket(transport, self._uri, self._wish, home)
        except BaseException:
            transport.abort()
            raise


def _headers(given: HeadersLike | None, origin: str | None, user_agent: str | None) -> list[tuple[bytes, bytes]]:
    pairs = list(given.items() if isinstance(given, Mapping) else given or ())
    names = {name.lower() for name, _ in pairs}
    if origin is not None:
        pairs.insert(0, ("Origin", origin))
    if user_agent is not None and "user-agent" not in names:
        pairs.append(("User-Agent", user_agent))
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
