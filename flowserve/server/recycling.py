"""When a worker has served, lived or grown enough to be replaced."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Callable

from flowserve.asgi.context import Context
from flowserve.errors import ConfigError
from flowserve.logs.access import show_bytes

_EVERY = 2.0
"""Seconds between looks at the memory."""


class Recycling:
    """Watches the limits of a worker: --limit-max-requests, --workers-max-lifetime and --workers-max-rss."""

    def __init__(self, context: Context, worn: Callable[[str], None]) -> None:
        """`worn` is called once, with the first limit that is reached, as "1000 requests"; from within the request
        that reaches it, so it must not block. Raises ConfigError where memory can't be measured."""
        self._context = context
        self._worn: Callable[[str], None] | None = worn
        self._timers: dict[str, asyncio.TimerHandle] = {}
        if context.config.workers_max_rss is not None:
            memory()

    def start(self) -> None:
        """Count from now on."""
        context, config = self._context, self._context.config
        if config.limit_max_requests is not None:
            jitter = secrets.randbelow(config.limit_max_requests_jitter + 1)
            context.enough = context.served + config.limit_max_requests + jitter
            context.on_enough = self._served_enough
        if config.workers_max_lifetime is not None:
            self._timers["life"] = context.loop.call_later(config.workers_max_lifetime, self._lived_enough)
        if config.workers_max_rss is not None:
            self._timers["memory"] = context.loop.call_later(_EVERY, self._look_at_memory)

    def stop(self) -> None:
        """Look no more."""
        self._worn = None
        self._context.on_enough = None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _served_enough(self) -> None:
        self._end(f"{self._context.served} requests")

    def _lived_enough(self) -> None:
        self._end(f"{self._context.config.workers_max_lifetime:g}s of life")

    def _look_at_memory(self) -> None:
        limit = self._context.config.workers_max_rss
        taken = memory()
        if limit is not None and taken > limit:
            self._end(f"{show_bytes(taken)} of memory")
        else:
            self._timers["memory"] = self._context.loop.call_later(_EVERY, self._look_at_memory)

    def _end(self, reason: str) -> None:
        worn = self._worn
        self.stop()
        if worn is not None:
            worn(reason)


def memory() -> int:
    """Return the bytes of memory that this process has in use (its resident set); where the system does not tell, the
    most that it ever had. Raises ConfigError where it tells neither."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        raise ConfigError("--workers-max-rss: this system does not tell how much memory a process takes") from None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes, the others kilobytes
