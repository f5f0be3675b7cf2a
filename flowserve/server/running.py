"""The parts of a server between its startup and its shutdown: sockets, acceptor, lifespan, metrics."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from functools import partial

from asgiref.typing import ASGI3Application

from flowserve.asgi.context import Context
from flowserve.asgi.lifespan import Lifespan
from flowserve.config import Config
from flowserve.errors import ConfigError, TopicsError
from flowserve.metrics import Metrics
from flowserve.runtime.slow_step import noticed_if_slow
from flowserve.server import metrics_endpoint
from flowserve.server.acceptor import Acceptor
from flowserve.server.lasting import LastingTopics
from flowserve.server.listen import Listeners
from flowserve.server.periodic_callback import PeriodicCallback
from flowserve.server.quiesce import drop_new_connections
from flowserve.server.recycling import Recycling
from flowserve.server.tls import Certificates
from flowserve.topics.counts import Counts
from flowserve.topics.hub.current import HubSource
from flowserve.topics.hub.current import source as topics_source
from flowserve.topics.hub.open import open_hub, reaches_machines
from flowserve.topics.settings import Settings
from flowserve.transport.flush_queue import FlushQueue

_TCP_HANDSHAKE_TIME = 0.05
"""Seconds for TCP handshakes in progress."""
_ACCEPT_ITERATIONS = 3
"""Iterations of the event loop within which it accepts the connections that wait in the backlog."""


class Running:
    """The parts of one server. It listens on `sockets`; `certificates` is None without TLS."""

    def __init__(
        self,
        app: ASGI3Application,
        config: Config,
        sockets: Sequence[socket.socket] | None,
        worn: Callable[[str], None],
        where: str,
    ) -> None:
        """Call this in the event loop. `sockets` are bound already; None to bind those of the configuration. `worn` is
        the `on_limit` of Recycling; `where` is appended to log lines. Raises ConfigError."""
        self._config = config
        self._where = where
        loop = asyncio.get_running_loop()
        self.certificates = Certificates(config) if config.ssl else None
        self.context = Context(app, config, loop, FlushQueue(loop))
        counts = None if config.metrics is None else Counts()
        make_hub = partial(open_hub, config.topics_url, Settings.of(config), counts)
        self.topics = HubSource(loop, make_hub, config.topics_url)
        self.context.variables.run(topics_source.set, self.topics)
        self.topics.announce()
        self.lifespan = Lifespan(self.context)
        self.recycling = Recycling(self.context, worn)
        self.acceptor = Acceptor(self.context, self.certificates, where)
        callback = config.callback_notify
        self._callback = PeriodicCallback(callback, config.timeout_notify) if callback is not None else None
        self._metrics_server: metrics_endpoint.MetricsServer | None = None
        self._listeners = Listeners(config) if sockets is None else None
        self.sockets = self._listeners.slot(0) if self._listeners is not None else list(sockets or ())

    async def start(self, collect: metrics_endpoint.Collect | None) -> None:
        """Start counting, run the lifespan startup, and accept. With --metrics, the metrics page shows what `collect()`
        returns; None if another process serves it. Raises as `Server.startup()` does, after closing everything."""
        try:
            await self._start_metrics(collect)
            await self._open_topics()
            await self._start_lifespan()
            await self.acceptor.start(self.sockets)
            if self.certificates is not None:
                self.certificates.watch(self.context.loop)
            self.recycling.start()
            if self._callback is not None:
                self._callback.start()
        except BaseException:
            self._close_sockets()
            await self.lifespan.close()
            await self.close()
            self.recycling.stop()
            raise

    async def _start_metrics(self, collect: metrics_endpoint.Collect | None) -> None:
        if self._config.metrics is not None:
            self.context.metrics = Metrics(self.context.loop)
            if collect is not None:
                self._metrics_server = await metrics_endpoint.listen(self._config, collect)

    async def _open_topics(self) -> None:
        """Connect to Redis or NATS, if it is configured: what is wrong with that shows now, and not to the first
        client."""
        if reaches_machines(self._config.topics_url):
            try:
                await self.topics.hub.open()
            except (ConfigError, TopicsError) as error:
                raise ConfigError(f"--topics-url: {error}") from None

    async def _start_lifespan(self) -> None:
        with noticed_if_slow(f"the application's startup{self._where}"):
            await self.lifespan.startup()

    def drain(self) -> None:
        """Begin the end: have the server replaced no more, and end the event streams, which would never end."""
        self.recycling.stop()
        self.topics.drain()

    async def close(self, lasting: LastingTopics | None = None) -> None:
        """Close what connections have used, and stop counting, and serving the metrics page. The topics are left to
        `lasting`, if there is one."""
        if lasting is None:
            await self.topics.close()
        else:
            lasting.topics = self.topics
        if self.context.metrics is not None:
            self.context.metrics.close()
        if self._metrics_server is not None:
            self._metrics_server.close()
            await self._metrics_server.wait_closed()

    async def stop_accepting(self, wait: bool) -> None:
        """Close the listening sockets without losing connections that are already established, or, with `wait`, whose
        TCP handshake is in progress. The calls of `callback_notify` end too."""
        if self._callback is not None:
            await self._callback.stop()
        if self._listeners is not None:
            drop_new_connections(self._listeners.bound)
            if wait:
                await asyncio.sleep(_TCP_HANDSHAKE_TIME)
        for _ in range(_ACCEPT_ITERATIONS):
            await asyncio.sleep(0)
        await self.acceptor.stop()
        self._close_sockets()

    def _close_sockets(self) -> None:
        self.acceptor.close()
        if self.certificates is not None:
            self.certificates.close()
        if self._listeners is not None:
            self._listeners.close()
        for sock in self.sockets:
            sock.close()
        self.sockets = []
