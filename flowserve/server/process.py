"""Running a server that is alone in its process, or in a worker's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from flowserve.asgi.loader import import_from
from flowserve.config import Config
from flowserve.runtime.event_loop import run_until_done
from flowserve.runtime.exit import Interruption, guard
from flowserve.server.lasting import loop_of
from flowserve.server.server import Server


def serve_alone(config: Config, interruption: Interruption) -> None:
    """Serve until a signal ends it, in a new event loop. Raises what `Server.startup()` raises, and KeyboardInterrupt
    for `interruption` if a signal arrived before anything was served."""
    server = Server(config)
    with owning_process(server) as loop:
        server.load()
        interruption.check()
        run_until_done(loop, server.serve())
        interruption.finished = True
    interruption.number = server._interrupted_by
    interruption.check()


@contextmanager
def owning_process(server: Server) -> Iterator[asyncio.AbstractEventLoop]:
    """Create the event loop for `server`, which is alone in its process, and limit the time for which threads that the
    application leaves behind keep the process alive."""
    server._owns_process = True
    guard.begin()
    if ":" in server.config.loop and isinstance(server.config.app, str):
        import_from(server.config.app_dir)  # the module of --loop may be the application's
    try:
        with loop_of(server) as loop:
            yield loop
    finally:
        guard.end(server._time_left())
