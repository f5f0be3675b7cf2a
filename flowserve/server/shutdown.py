"""The shutdown of a worker in bounded time: drain, wait for what is in progress, cut the rest, end the lifespan.

Requests and WebSockets get all of --timeout-graceful-shutdown. The lifespan shutdown gets what they leave of it, but at
least `lifespan_seconds()`, so that it takes place even if they use up everything.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

from flowserve.asgi.context import Context
from flowserve.asgi.lifespan import Lifespan
from flowserve.asgi.websocket import WebSocketCycle
from flowserve.config import Config
from flowserve.grammar import plural
from flowserve.logs.loggers import logger
from flowserve.runtime.signals import again_hint
from flowserve.server.drain import drain
from flowserve.server.h1_connection import H1Connection
from flowserve.session.session import Session

_POLL_INTERVAL = 0.02
"""Seconds between checks of what is still open."""
_UNNOTICED_TIME = 3.0
"""Seconds after which calls of the application are cancelled that have not noticed the loss of their WebSocket: they
wait for something else, perhaps forever."""
_NOTICE_TIME = 1.0
"""Seconds of waiting after which a log line says what for."""
_CUT_TIME = 0.5
"""Seconds for tasks that are cancelled to end, and then for connections that are aborted."""
_LIFESPAN_SHARE, _MIN_LIFESPAN_TIME, _MAX_LIFESPAN_TIME = 0.25, 1.0, 5.0
"""What the lifespan shutdown gets in any case: this share of --timeout-graceful-shutdown, within these seconds."""
_MARGIN = 1.0
"""Seconds for the parts of a shutdown that don't wait."""


def lifespan_seconds(config: Config) -> float:
    """Return the seconds that the lifespan shutdown gets even if requests have used up all the time."""
    return min(_MAX_LIFESPAN_TIME, max(_MIN_LIFESPAN_TIME, config.timeout_graceful_shutdown * _LIFESPAN_SHARE))


def max_shutdown_time(config: Config) -> float:
    """Return the seconds within which a shutdown ends, whatever the application does."""
    options = config.timeout_drain + config.timeout_graceful_shutdown
    return options + 2 * _CUT_TIME + lifespan_seconds(config) + _MARGIN


def delay_of(config: Config, number: int) -> float:
    """Return the seconds from a signal to the shutdown: --shutdown-delay for SIGTERM, which service managers send;
    nothing for a user's Ctrl-C."""
    return config.shutdown_delay if number == signal.SIGTERM else 0.0


def log_delay(config: Config, number: int) -> None:
    """Log that the signal has begun --shutdown-delay."""
    what = "shutting down in %gs (--shutdown-delay)"
    logger.info(f"%s: {what}%s", signal.Signals(number).name, config.shutdown_delay, again_hint(number, "begin now"))


def graceful_timeout(seconds: float) -> float:
    """Return the --timeout-graceful-shutdown with which everything after the drain takes at most `seconds`."""
    rest = seconds - 2 * _CUT_TIME
    return max(0.0, min(rest - _MIN_LIFESPAN_TIME, max(rest / (1 + _LIFESPAN_SHARE), rest - _MAX_LIFESPAN_TIME)))


class Shutdown:
    """Ends everything in `context`, after the server has stopped accepting. `cut()` ends all waiting.

    `where` is appended to log lines, to name the process if there are several; `hint` is appended instead to those
    about waiting, to say how to end it.
    """

    def __init__(self, context: Context, where: str = "", hint: str = "") -> None:
        self._context = context
        self._where = where
        self._hint = hint
        self._forced = False

    def cut(self) -> None:
        """Stop waiting, and end everything now."""
        self._forced = True

    async def run(self, lifespan: Lifespan) -> None:
        """Drain, wait for what is in progress, cut the rest, and run the lifespan shutdown."""
        context, seconds = self._context, self._context.config.timeout_graceful_shutdown
        await drain(context, context.config.timeout_drain, lambda: self._forced)
        end = context.loop.time() + seconds
        cancelling = context.loop.call_later(_UNNOTICED_TIME, self._cancel_unnoticed)
        await self._wait(self._nothing_open, end, self._open_work)
        cancelling.cancel()
        await self._cut()
        await self._end_lifespan(lifespan, max(end, context.loop.time() + lifespan_seconds(context.config)))

    def _log_waiting_for(self, what: str) -> None:
        """Log what the shutdown is waiting for."""
        logger.info("Waiting for %s%s", what, self._hint or self._where)

    async def _wait(self, done: Callable[[], bool], end: float, what: Callable[[], str] | None = None) -> None:
        """Wait until `done()` is true, at most until `end` (the event loop's time). If that takes _NOTICE_TIME seconds,
        log `what()` it waits for."""
        loop, notice_at = self._context.loop, self._context.loop.time() + _NOTICE_TIME
        while not done() and not self._forced and loop.time() < end:
            if what is not None and loop.time() >= notice_at:
                self._log_waiting_for(what())
                what = None
            await asyncio.sleep(_POLL_INTERVAL)

    def _cancel_unnoticed(self) -> None:
        for call in list(self._context.tasks):
            if isinstance(call, WebSocketCycle) and call.ignores_disconnect():
                self._context.cancel_call(call)

    def _nothing_open(self) -> bool:
        return not self._context.live and not self._context.tasks

    def _open_work(self) -> str:
        return open_work(self._context)

    async def _cut(self) -> None:
        """End what has not ended by itself: first the calls of the application, whose responses can still be sent, then
        the connections."""
        context = self._context
        if self._nothing_open():
            return
        logger.warning("Cutting %s%s", open_work(context), self._where)
        context.cutting = True
        context.cancel_calls()
        await self._wait_briefly(lambda: not context.tasks)
        for connection in list(context.live):
            connection.abort()
        await self._wait_briefly(self._nothing_open)
        if context.tasks:
            logger.warning("%s to end although cancelled%s", _uncancelled_calls(len(context.tasks)), self._where)

    async def _wait_briefly(self, done: Callable[[], bool]) -> None:
        """Wait until `done()` is true, at most _CUT_TIME seconds, even after `cut()`."""
        loop, end = self._context.loop, self._context.loop.time() + _CUT_TIME
        while not done() and loop.time() < end:  # noqa: ASYNC110  (many things to wait for)
            await asyncio.sleep(_POLL_INTERVAL)

    async def _end_lifespan(self, lifespan: Lifespan, end: float) -> None:
        if not self._forced:
            ending = asyncio.ensure_future(lifespan.shutdown())
            await self._wait(ending.done, end, lambda: "the application's lifespan shutdown")
            if not ending.done():
                level = logging.INFO if self._forced else logging.WARNING
                logger.log(level, "The application's lifespan shutdown took too long; it is cut short%s", self._where)
                ending.cancel()
        await lifespan.close()


def open_work(context: Context) -> str:
    """Return what is still in progress: '1 request and 2 WebSockets'."""
    sessions = sum(isinstance(each, Session) for each in context.live)
    calls = sum(isinstance(call, WebSocketCycle) for call in context.tasks)
    requests = len(context.tasks) - calls
    opening = sum(isinstance(each, H1Connection) and each.opening for each in context.live)
    # of the others the responses are complete, but may not be sent yet
    closing = len(context.live) - sessions - opening - requests
    counts = ((requests, "request"), (max(sessions, calls), "WebSocket"), (closing, "connection"))
    parts = [plural(count, noun) for count, noun in counts if count > 0]
    return ", ".join([*parts[:-2], " and ".join(parts[-2:])])


def _uncancelled_calls(count: int) -> str:
    return f"{plural(count, 'call')} of the application {'refuses' if count == 1 else 'refuse'}"
