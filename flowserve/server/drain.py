"""Closing all connections gracefully; WebSockets one after the other, so that their clients don't all reconnect at
once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from flowserve.asgi.context import Context
from flowserve.grammar import plural
from flowserve.logs.loggers import logger
from flowserve.server.h1_connection import SHUTDOWN_GRACE, H1Connection
from flowserve.session.session import Session
from flowserve.transport.interfaces import LiveConnection
from flowserve.websocket.constants import State

_OPEN = int(State.OPEN)

_ROUND = 1.0
"""Seconds of a round: how often it is checked which WebSockets are open."""
_CLOSE_INTERVAL = 0.01
"""Seconds; closes that are due within one such interval are sent together."""
_POLL_INTERVAL = 0.05
"""Seconds between checks of whether to continue."""
_CLOSE_REPLY_TIMEOUT = 3.0
"""Most seconds that clients get to answer the Close frame; --ws-close-timeout if that is less. A client that still
takes data that was sent before gets longer."""
_NOTICE_ITERATIONS = 5
"""Iterations of the event loop between setting the draining event and the first close: an application that waits for
the event can still send something."""


async def drain(context: Context, seconds: float, cut_short: Callable[[], bool]) -> None:
    """Set the draining event and close the connections of `context`, which no longer accepts.

    HTTP connections close after the response in progress, idle ones at once. WebSockets are closed evenly over
    `seconds`, in random order; one whose handshake is in progress may still open, and is closed like the others. All
    that are left are closed when the time is over, at once with 0 seconds, and as soon as `cut_short()` is true.
    Handshakes on connections that were accepted shortly before may complete even then, so that no client is refused
    while a successor serves already; these WebSockets are closed at once, handshakes that are still in progress after
    that are refused. Returns without waiting for the clients' Close frames.
    """
    context.shutting_down = True
    context.late_websockets = True
    context.draining.set()
    for connection in list(context.live):
        if not isinstance(connection, Session) and not _is_websocket(connection):
            connection.shutdown()
    context.timeout_keep_alive = min(context.timeout_keep_alive, SHUTDOWN_GRACE)
    for _ in range(_NOTICE_ITERATIONS):
        await asyncio.sleep(0)
    if seconds:
        if count := sum(map(_is_websocket, context.live)):
            logger.info("Closing %s over %gs (--timeout-drain)", plural(count, "open WebSocket"), seconds)
        await _Spread(context, seconds, cut_short).run()
    await _close_late_websockets(context, cut_short)
    context.late_websockets = False
    for connection in filter(_is_websocket, list(context.live)):
        connection.shutdown()
    _limit_close_timeouts(context)


def _limit_close_timeouts(context: Context) -> None:
    """Limit the closing handshake to _CLOSE_REPLY_TIMEOUT seconds for clients that have received everything and only
    owe a Close frame."""
    end = context.loop.time() + _CLOSE_REPLY_TIMEOUT
    for connection in list(context.live):
        if isinstance(connection, Session) and not _is_open(connection) and connection.deadline > end:
            context.timers.set(connection, end)


async def _close_late_websockets(context: Context, cut_short: Callable[[], bool]) -> None:
    """Close the WebSockets that are open, and those that open while the first request of a connection may still
    arrive."""
    end = context.loop.time() + SHUTDOWN_GRACE
    while True:
        live = list(context.live)
        for connection in live:
            if isinstance(connection, Session) and _is_open(connection):
                connection.shutdown()
        waiting = any(isinstance(connection, H1Connection) for connection in live)
        if not waiting or context.loop.time() >= end or cut_short():
            return
        await asyncio.sleep(_CLOSE_INTERVAL)


class _Spread:
    """Closes the WebSockets of a context over some seconds.

    It proceeds in rounds, each of which closes its share of the WebSockets that are open when it begins: those that end
    by themselves make the closes rarer, not earlier, and those that open late are included.
    """

    def __init__(self, context: Context, seconds: float, cut_short: Callable[[], bool]) -> None:
        self._context = context
        self._time = context.loop.time
        self._end = self._time() + seconds
        self._cut_short = cut_short
        self._due = 0.0  # fraction of a close that is due; negative if the phase has made a close early
        self._phase = random.random()  # random, so that workers with few connections don't close in step

    async def run(self) -> None:
        """Close WebSockets until the time is over or none is open or opening."""
        while (remaining := self._end - self._time()) > 0 and not self._cut_short():
            live = list(self._context.live)
            sessions = [each for each in live if isinstance(each, Session) and _is_open(each)]
            if not any(map(_is_websocket, live)):
                return
            begin, span = self._time(), min(remaining, _ROUND if sessions else _POLL_INTERVAL)
            self._due += (len(sessions) - self._due) * span / remaining
            count = max(0, min(int(self._due + self._phase), len(sessions)))
            self._due -= count
            await self._close_sessions(random.sample(sessions, count), begin, span)
            if count < len(sessions) or not sessions:
                await self._wait_until(begin + span)

    async def _close_sessions(self, sessions: Sequence[Session], begin: float, span: float) -> None:
        """Close each session at a random moment of its part of the `span` seconds after `begin`."""
        for index, session in enumerate(sessions):
            due = begin + span * (index + random.random()) / len(sessions)
            if due > self._time():
                await self._wait_until(max(due, self._time() + _CLOSE_INTERVAL))
            if _is_open(session):
                session.shutdown()

    async def _wait_until(self, moment: float) -> None:
        """Sleep until `moment`, or until no connection is left or the drain is cut short."""
        while (  # noqa: ASYNC110  (several things end it)
            (remaining := moment - self._time()) > 0 and self._context.live and not self._cut_short()
        ):
            await asyncio.sleep(min(remaining, _POLL_INTERVAL))


def _is_websocket(connection: LiveConnection) -> bool:
    """Whether it is an open WebSocket, or a connection whose opening handshake is in progress."""
    if isinstance(connection, Session):
        return _is_open(connection)
    return isinstance(connection, H1Connection) and connection.opening


def _is_open(session: Session) -> bool:
    """Whether neither side has begun the closing handshake."""
    return session.connection.state == _OPEN
