"""The end of a worker, in bounded time: what is still open gets its time and is cut, then the application's lifespan
ends.

Requests and WebSockets get the whole of --timeout-graceful-shutdown. The lifespan's shutdown gets what they leave of
it, but no less than `lifespan_seconds()`, so that it takes place though they use up all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from flowserve.asgi.context import Context
from flowserve.asgi.lifespan import Lifespan
from flowserve.asgi.websocket import WebSocketCycle
from flowserve.config import Config
from flowserve.logs.loggers import logger, plural
from flowserve.server.drain import drain
from flowserve.session.session import Session

_POLL = 0.02
"""Seconds between looks at what is still open."""
_UNHEARD = 3.0
"""Seconds for applications whose WebSocket is gone, and that do not ask: they wait for something else, for ever."""
_SAY = 1.0
"""Seconds of waiting after which it is said what for."""
_CUT = 0.5
"""Seconds for tasks that are cancelled, and again for connections that are cut then."""
_LIFESPAN_SHARE, _LIFESPAN_LEAST, _LIFESPAN_MOST = 0.25, 1.0, 5.0
"""What the lifespan's shutdown gets in any case: this part of --timeout-graceful-shutdown, within these seconds."""
_MARGIN = 1.0
"""Seconds for all that does not wait for anybody."""


def lifespan_seconds(config: Config) -> float:
    """Return how long the application's lifespan shutdown may take, though requests have used up all the time."""
    return min(_LIFESPAN_MOST, max(_LIFESPAN_LEAST, config.timeout_graceful_shutdown * _LIFESPAN_SHARE))


def longest(config: Config) -> float:
    """Return the seconds within which a shutdown has come to its end, whatever the application does."""
    options = config.timeout_drain + config.timeout_graceful_shutdown
    return options + 2 * _CUT + lifespan_seconds(config) + _MARGIN


def graceful_part(seconds: float) -> float:
    """Return a --timeout-graceful-shutdown with which all that comes after a drain takes place within `seconds`."""
    rest = seconds - 2 * _CUT
    return max(0.0, min(rest - _LIFESPAN_LEAST, max(rest / (1 + _LIFESPAN_SHARE), rest - _LIFESPAN_MOST)))


class Shutdown:
    """The end of what `context` holds, once nothing new is accepted. `cut()` ends all waiting.

    `where` names this process in the log where there are several, `hint` is what to do to end the waiting.
    """

    def __init__(self, context: Context, where: str = "", hint: str = "") -> None:
        self._context = context
        self._where = where
        self._hint = hint
        self._forced = False

    def cut(self) -> None:
        """Wait for nothing any more."""
        self._forced = True

    async def run(self, lifespan: Lifespan) -> None:
        """Drain, wait for what is in progress, cut the rest, and end the lifespan."""
        context, seconds = self._context, self._context.config.timeout_graceful_shutdown
        await drain(context, context.config.timeout_drain, lambda: self._forced)
        end = context.loop.time() + seconds
        give_up = context.loop.call_later(_UNHEARD, self._cancel_unheard)
        await self._wait(self._nothing_open, end, self._waiting_for)
        give_up.cancel()
        await self._cut()
        await self._end_lifespan(lifespan, max(end, context.loop.time() + lifespan_seconds(context.config)))

    def say(self, what: str) -> None:
        """Log what is waited for."""
        logger.info("Waiting for %s%s", what, self._hint or self._where)

    async def _wait(self, done: Callable[[], bool], end: float, what: Callable[[], str] | None = None) -> None:
        """Wait until `done()` or `end`, if it may take long with a word on `what` for."""
        loop, say_at = self._context.loop, self._context.loop.time() + _SAY
        while not done() and not self._forced and loop.time() < end:
            if what is not None and loop.time() >= say_at:
                self.say(what())
                what = None
            await asyncio.sleep(_POLL)

    def _cancel_unheard(self) -> None:
        for call in list(self._context.tasks):
            if isinstance(call, WebSocketCycle) and call.ignores_disconnect():
                self._context.cancel_call(call)

    def _nothing_open(self) -> bool:
        return not self._context.live and not self._context.tasks

    def _waiting_for(self) -> str:
        return open_work(self._context)

    async def _cut(self) -> None:
        """End what did not end by itself: the application first, whose answer may then still leave."""
        context = self._context
        if self._nothing_open():
            return
        logger.warning("Cutting %s%s", open_work(context), self._where)
        context.cutting = True
        context.cancel_calls()
        await self._for_a_moment(lambda: not context.tasks)
        for connection in list(context.live):
            connection.abort()
        await self._for_a_moment(self._nothing_open)
        if context.tasks:
            logger.warning("%s to end although cancelled%s", _refusing(len(context.tasks)), self._where)

    async def _for_a_moment(self, done: Callable[[], bool]) -> None:
        """Wait a little, also when nothing else is waited for any more."""
        loop, end = self._context.loop, self._context.loop.time() + _CUT
        while not done() and loop.time() < end:  # noqa: ASYNC110  (many things to wait for)
            await asyncio.sleep(_POLL)

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
    closing = len(context.live) - sessions - requests  # their responses are complete, but not all sent
    counts = ((requests, "request"), (max(sessions, calls), "WebSocket"), (closing, "connection"))
    parts = [plural(count, noun) for count, noun in counts if count > 0]
    return ", ".join([*parts[:-2], " and ".join(parts[-2:])])


def _refusing(count: int) -> str:
    return f"{plural(count, 'call')} of the application {'refuses' if count == 1 else 'refuse'}"
