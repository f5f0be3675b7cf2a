"""A separate small HTTP server for --metrics, independent of the application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import time
from typing import Any

from flowserve import metrics
from flowserve.asgi.context import Context
from flowserve.config import Config
from flowserve.errors import ConfigError, install_hint
from flowserve.logs.loggers import logger
from flowserve.server.acceptor import Acceptor
from flowserve.server.listen import Listeners
from flowserve.transport.flush_queue import FlushQueue

PATH = "/metrics"

_LAST_SCRAPE = 1.0
"""Seconds that a scrape in progress gets at shutdown."""
_POLL_INTERVAL = 0.02
_PLAIN = "text/plain; charset=utf-8"

Collect = Callable[[], Awaitable[list[tuple[str, metrics.Snapshot]]]]


async def listen(config: Config, collect: Collect) -> MetricsServer:
    """Serve GET /metrics at `config.metrics`, which is not None, until the returned server is closed.

    `collect()` returns what `metrics.render()` takes: pairs of a worker's name and snapshot; snapshots with an empty
    name count in the sums only. Raises ConfigError if it can't listen there, or without prometheus-client.
    """
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        raise ConfigError(f"--metrics: {install_hint('prometheus-client')}") from None
    server = MetricsServer(config, collect)
    await server.start()
    return server


class MetricsServer:
    """The HTTP server of the metrics, closed like an asyncio.Server. `sockets` are those that it listens on."""

    def __init__(self, config: Config, collect: Collect) -> None:
        """Bind the sockets. Raises ConfigError."""
        assert config.metrics is not None
        self._collect = collect
        self._started_at = time()
        loop = asyncio.get_running_loop()
        own_config = Config(self, bind=(config.metrics,), access_log=False, backlog=config.backlog)
        self._context = Context(self, own_config, loop, FlushQueue(loop))
        self._acceptor = Acceptor(self._context, where=" (metrics)")
        try:
            self._listeners = Listeners(own_config)
        except ConfigError as error:
            raise ConfigError(f"--metrics: {str(error).removeprefix('--bind: ')}") from None
        self.sockets = self._listeners.slot(0)

    async def start(self) -> None:
        """Start listening."""
        await self._acceptor.start(self.sockets)
        for url in self._listeners.describe():
            logger.info("Metrics on %s%s", url, PATH)

    def close(self) -> None:
        """Stop listening, and close the connections after the scrape in progress."""
        self._acceptor.close()
        self._listeners.close()
        self._context.shutting_down = True
        for connection in list(self._context.live):
            connection.shutdown()

    async def wait_closed(self) -> None:
        """Wait until the connections have ended, at most _LAST_SCRAPE seconds; then abort them."""
        context = self._context
        end = context.loop.time() + _LAST_SCRAPE
        while context.live and context.loop.time() < end:  # noqa: ASYNC110  (many things to wait for)
            await asyncio.sleep(_POLL_INTERVAL)
        for connection in list(context.live):
            connection.abort()
        context.timers.close()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI application of this server."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
        elif scope["path"] != PATH:
            await _respond(send, 404, _PLAIN, f"The metrics are at {PATH}\n".encode())
        elif scope["method"] not in ("GET", "HEAD"):
            await _respond(send, 405, _PLAIN, b"GET the metrics\n")
        else:
            accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
            parts = [*await self._collect(), ("", {metrics.START: {"": self._started_at}})]
            page, media_type = metrics.render(parts, accept.decode("latin-1"))
            await _respond(send, 200, media_type, page)


async def _respond(send: Any, status: int, media_type: str, body: bytes) -> None:
    headers = [(b"content-type", media_type.encode("latin-1")), (b"content-length", b"%d" % len(body))]
    if status == 405:
        headers.append((b"allow", b"GET, HEAD"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
