"""The limits of requests, lifetime and memory after which a worker is replaced."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Callable

from flowserve.asgi.context import Context
from flowserve.errors import ConfigError
from flowserve.logs.access import show_bytes

_CHECK_INTERVAL = 2.0
"""Seconds between checks of the memory."""


class Recycling:
    """Watches the limits of a worker: --limit-max-requests, --workers-max-lifetime and --workers-max-rss."""

    def __init__(self, context: Context, on_limit: Callable[[str], None]) -> None:
        """`on_limit` is called once, with the first limit that is reached, such as "1000 requests". It may be called
        from within the request that reaches the limit, so it must not block. Raises ConfigError if memory is limited
        but can't be measured."""
        self._context = context
        self._on_limit: Callable[[str], None] | None = on_limit
        self._timers: dict[str, asyncio.TimerHandle] = {}
        if context.config.workers_max_rss is not None:
            memory()

    def start(self) -> None:
        """Start counting requests, time and memory."""
        context, config = self._context, self._context.config
        if config.limit_max_requests is not None:
            jitter = secrets.randbelow(config.limit_max_requests_jitter + 1)
            context.max_served = context.served + config.limit_max_requests + jitter
            context.on_max_served = self._on_max_requests
        if config.workers_max_lifetime is not None:
            self._timers["life"] = context.loop.call_later(config.workers_max_lifetime, self._on_max_lifetime)
        if config.workers_max_rss is not None:
            self._timers["memory"] = context.loop.call_later(_CHECK_INTERVAL, self._check_memory)

    def stop(self) -> None:
        """Stop watching the limits."""
        self._on_limit = None
        self._context.on_max_served = None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _on_max_requests(self) -> None:
        self._report(f"{self._context.served} requests")

    def _on_max_lifetime(self) -> None:
        self._report(f"{self._context.config.workers_max_lifetime:g}s of life")

    def _check_memory(self) -> None:
        limit = self._context.config.workers_max_rss
        used = memory()
        if limit is not None and used > limit:
            self._report(f"{show_bytes(used)} of memory")
        else:
            self._timers["memory"] = self._context.loop.call_later(_CHECK_INTERVAL, self._check_memory)

    def _report(self, reason: str) -> None:
        on_limit = self._on_limit
        self.stop()
        if on_limit is not None:
            on_limit(reason)


def memory() -> int:
    """Return the resident set size of this process in bytes; where the system does not tell, its maximum so far. Raises
    ConfigError where neither is available."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        raise ConfigError("--workers-max-rss: this system does not tell how much memory a process takes") from None
    maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maximum if sys.platform == "darwin" else maximum * 1024  # macOS counts bytes, the others kilobytes
