"""A server that has its process, or a worker's, for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from flowserve.config import Config
from flowserve.runtime.event_loop import event_loop, run_until_done
from flowserve.runtime.exit import Interruption, guard
from flowserve.server.server import Server


def serve_alone(config: Config, interruption: Interruption) -> None:
    """Serve until a signal ends it, in an event loop of its own. Raises what `Server.startup()` raises, and
    KeyboardInterrupt where a signal came before it served, for `interruption` to know."""
    server = Server(config)
    with owning_process(server) as loop:
        server.load()
        interruption.check()
        run_until_done(loop, server.serve())
        interruption.finished = True
    interruption.number = server.interrupted
    interruption.check()


@contextmanager
def owning_process(server: Server) -> Iterator[asyncio.AbstractEventLoop]:
    """Make the event loop for `server`, with which it is alone in its process, and see to it that threads which the
    application leaves behind don't hold that for ever."""
    server.owns_process = True
    guard.begin()
    try:
        with event_loop(server.config.loop) as loop:
            yield loop
    finally:
        guard.end(server.time_left())
