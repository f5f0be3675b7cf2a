"""--reload: one worker, restarted whenever a file changes."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from contextlib import suppress
from importlib.util import cache_from_source
from typing import Any

from flowserve.config import Config
from flowserve.logs.loggers import logger
from flowserve.runtime.signals import handling
from flowserve.runtime.start_line import about
from flowserve.server.listen import Listeners
from flowserve.supervisor.changes import Changes
from flowserve.supervisor.counts import Counts
from flowserve.supervisor.owed_gaps import OwedGaps
from flowserve.supervisor.process import WorkerProcess

_GRACEFUL_TIMEOUT = 0.5
"""Most seconds for requests in progress when a file changes: the worker's --timeout-graceful-shutdown."""
_KILL_AFTER = 1.5
"""Seconds after which a worker that has not ended is killed."""
_MAX_NAMED = 3
"""Most changed files that a log line names."""


class Reloader:
    """Serves `config` with one worker that is replaced when a file changes, on sockets that stay open meanwhile.

    SIGINT and SIGTERM stop it, a second one at once; SIGHUP restarts the worker.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._worker_config = dataclasses.replace(
            config,
            timeout_drain=0.0,
            timeout_graceful_shutdown=min(_GRACEFUL_TIMEOUT, config.timeout_graceful_shutdown),
        )
        self._worker: WorkerProcess | None = None
        self._workers: set[WorkerProcess] = set()
        self._counts = Counts(config, self._workers)
        self._owed_gaps = OwedGaps(self._workers)
        self._changed: set[str] = set()
        self._stopping = False

    async def run(self) -> None:
        """Serve until a signal ends it. Raises ConfigError."""
        self._woken = asyncio.Event()
        changes = Changes(self._config)
        self._listeners = Listeners(self._config)
        handlers = {signal.SIGINT: self._on_stop, signal.SIGTERM: self._on_stop, signal.SIGHUP: self._on_hangup}
        watching = asyncio.ensure_future(self._watch(changes))
        try:
            with handling(handlers):
                await self._counts.open()
                logger.info("Watching %s", ", ".join(map(str, changes.folders)))
                await self._serve(watching)
        finally:
            self._listeners.close()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await self._counts.close()
            self._owed_gaps.close()

    async def _serve(self, watching: asyncio.Future[None]) -> None:
        while not self._stopping:
            self._woken.clear()
            worker = self._worker = await WorkerProcess.start(self._worker_config, self._listeners.slot(0), self)
            worker.slot = 1
            self._workers.add(worker)
            worker.ready.add_done_callback(self._on_ready)
            waking = asyncio.ensure_future(self._woken.wait())
            waited: set[asyncio.Future[Any]] = {waking, watching}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            waking.cancel()
            worker.drain(_KILL_AFTER)
            await worker.ended.wait()
            self._forget_bytecode()
            if watching.done():
                watching.result()

    async def _watch(self, changes: Changes) -> None:
        async for paths in changes:
            more = f" and {len(paths) - _MAX_NAMED} more" if len(paths) > _MAX_NAMED else ""
            logger.info("Changed: %s%s; starting anew", ", ".join(map(changes.name, paths[:_MAX_NAMED])), more)
            self._changed.update(paths)
            self._woken.set()

    def _forget_bytecode(self) -> None:
        """Delete cached bytecode of changed files: Python takes it for current if size and second of modification are
        the same."""
        while self._changed:
            with suppress(OSError, ValueError, NotImplementedError):
                os.unlink(cache_from_source(self._changed.pop()))

    # As a WorkerListener

    def _on_ready(self, ready: asyncio.Future[None]) -> None:
        if ready.cancelled() or self._worker is None or self._worker.retired:
            return
        if (error := ready.exception()) is not None:
            logger.error("%s; waiting for a change", error)
        else:
            where = ", ".join(self._listeners.describe())
            logger.info("Worker %d serves on %s%s", self._worker.pid, where, about(self._config.loop))
            self._owed_gaps.hand_over()

    def worn(self, worker: WorkerProcess, reason: str) -> None:
        """Restart the worker, as after a change."""
        logger.info("Worker %d is replaced: %s", worker.pid, reason)
        self._woken.set()

    def leaving(self, worker: WorkerProcess, reason: str) -> None:
        """Do nothing: the next change starts a worker."""

    def ended(self, worker: WorkerProcess) -> None:
        """Note that a process has ended, by itself or because a file has changed."""
        self._workers.discard(worker)
        self._counts.ended(worker)
        self._owed_gaps.ended(worker)
        if worker.is_ready and not worker.retired:
            logger.error("Worker %d %s; waiting for a change", worker.pid, worker.how_it_ended())

    # Signals

    def _on_hangup(self, number: signal.Signals) -> None:
        logger.info("%s: starting anew", number.name)
        self._woken.set()

    def _on_stop(self, number: signal.Signals) -> None:
        if self._stopping:
            logger.info("%s again: stopping at once", number.name)
            if self._worker is not None:
                self._worker.kill()
            return
        logger.info("%s: shutting down", number.name)
        self._stopping = True
        self._woken.set()
