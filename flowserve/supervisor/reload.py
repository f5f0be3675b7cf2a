"""--reload: one worker, restarted whenever a file changes."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from fnmatch import fnmatch
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from flowserve.config import Config
from flowserve.errors import ConfigError
from flowserve.logs.loggers import logger
from flowserve.runtime.signals import handling
from flowserve.server.listen import Listeners
from flowserve.supervisor.counts import Counts
from flowserve.supervisor.process import WorkerProcess

_GRACEFUL_TIMEOUT = 0.5
"""Most seconds for requests in progress when a file changes: the worker's --timeout-graceful-shutdown."""
_KILL_AFTER = 1.5
"""Seconds after which a worker that has not ended is killed."""
_DEBOUNCE = 400
"""Most milliseconds for which consecutive changes are collected."""
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
            logger.info("Worker %d serves on %s", self._worker.pid, ", ".join(self._listeners.describe()))

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


class Changes:
    """An asynchronous iterator over lists of changed paths. It can be iterated over once."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigError without watchfiles, or for a folder that does not exist."""
        try:
            import watchfiles
        except ImportError:
            raise ConfigError("--reload: watchfiles is missing; pip install 'flowserve[reload]'") from None
        self._awatch: Any = watchfiles.awatch
        self._includes = config.reload_includes
        self._excludes = config.reload_excludes
        self.folders = list(_folders(config))

    async def __aiter__(self) -> AsyncIterator[list[str]]:
        try:
            options = {"watch_filter": self.is_watched, "debounce": _DEBOUNCE, "ignore_permission_denied": True}
            async for changes in self._awatch(*self.folders, **options):
                yield sorted({path for _, path in changes})
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"--reload: can't watch for changes ({error}); name others by --reload-dir") from None

    def is_watched(self, _change: Any, path: str) -> bool:
        """Return whether the file's name, or its path relative to a watched folder, matches an included pattern, and
        neither the file nor a folder on that path matches an excluded one."""
        parts = Path(self.name(path)).parts
        paths = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        if any(_matches(part, path, self._excludes) for part, path in zip(parts, paths, strict=True)):
            return False
        return _matches(parts[-1], paths[-1], self._includes)

    def name(self, path: str) -> str:
        """Return the path relative to its watched folder."""
        for folder in self.folders:
            if path.startswith(f"{folder}{os.sep}"):
                return os.path.relpath(path, folder)
        return os.path.basename(path)


def _folders(config: Config) -> Iterator[str]:
    named = config.reload_dirs or (".", config.app_dir)
    paths: list[str] = []
    for name in named:
        path = os.path.realpath(name)
        if not os.path.exists(path):
            flag = "--reload-dir" if config.reload_dirs else "--app-dir"
            raise ConfigError(f"{flag}: {name!r} is not there")
        paths.append(path)
    for path in dict.fromkeys(paths):
        if not any(path.startswith(f"{other}{os.sep}") for other in paths):
            yield path


def _matches(name: str, path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) or fnmatch(path, pattern) for pattern in patterns)
