"""The polite end of everything that is alive: WebSockets one after the other, so that they don't all come back at
once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from flowserve.asgi.context import Context, LiveConnection
from flowserve.logs.loggers import logger
from flowserve.server.h1_connection import LAST_CALL, H1Connection
from flowserve.session.session import Session
from flowserve.websocket.constants import State

_OPEN = int(State.OPEN)

_ROUND = 1.0
"""Seconds between looks at which WebSockets are open."""
_TICK = 0.01
"""Seconds; closes that are due within one go out together."""
_LOOK = 0.05
"""Seconds between looks at whether to go on."""
_ANSWER = 3.0
"""Most seconds in which clients may answer their close; --ws-close-timeout, where that is less. One that still takes
what was sent before gets longer."""
_TURNS = 5
"""Turns of the event loop between the notice and the first close: time for a word from an application that waits."""


async def drain(context: Context, seconds: float, cut_short: Callable[[], bool]) -> None:
    """Tell the application and end the connections of `context`, which listens no more.

    HTTP connections close after the response in progress, idle ones now. WebSockets are closed evenly over `seconds`,
    in random order; one whose handshake is under way may still open, and is closed like the others. At the end, at once
    with 0 seconds, and as soon as `cut_short()` is true, all WebSockets are told. Handshakes on connections that came
    shortly before may open even then, so that nobody is refused while a successor serves already, and are told at
    once; those that are still under way after that are refused. Returns then; the answers are not waited for.
    """
    context.shutting_down = True
    context.late_websockets = True
    context.draining.set()
    for connection in list(context.live):
        if not isinstance(connection, Session) and not _is_websocket(connection):
            connection.shutdown()
    context.timeout_keep_alive = min(context.timeout_keep_alive, LAST_CALL)
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    if seconds:
        if count := sum(map(_is_websocket, context.live)):
            logger.info("Closing the open WebSockets (%d) over %gs (--timeout-drain)", count, seconds)
        await _Spread(context, seconds, cut_short).run()
    await _last_call(context, cut_short)
    context.late_websockets = False
    for connection in filter(_is_websocket, list(context.live)):
        connection.shutdown()
    _hasten(context)


def _hasten(context: Context) -> None:
    """Wait no longer than _ANSWER for clients that have everything and only owe the answer to their close."""
    end = context.loop.time() + _ANSWER
    for connection in list(context.live):
        if isinstance(connection, Session) and not _is_open(connection) and connection.deadline > end:
            context.timers.set(connection, end)


async def _last_call(context: Context, cut_short: Callable[[], bool]) -> None:
    """Close what is open, and what opens within the time that a first request may be on its way for."""
    end = context.loop.time() + LAST_CALL
    while True:
        live = list(context.live)
        for connection in live:
            if isinstance(connection, Session) and _is_open(connection):
                connection.shutdown()
        waiting = any(isinstance(connection, H1Connection) for connection in live)
        if not waiting or context.loop.time() >= end or cut_short():
            return
        await asyncio.sleep(_TICK)


class _Spread:
    """Closes the WebSockets of a context over some seconds.

    It goes in rounds, each of which closes its share of those that are open at its begin: the ones that end by
    themselves make the closes rarer, not earlier, and late ones are not forgotten.
    """

    def __init__(self, context: Context, seconds: float, cut_short: Callable[[], bool]) -> None:
        self._context = context
        self._time = context.loop.time
        self._end = self._time() + seconds
        self._cut_short = cut_short
        self._owed = 0.0  # closes that are due but for a fraction; negative where the phase has made one early
        self._phase = random.random()  # so that workers with few connections don't keep step

    async def run(self) -> None:
        """Return when the time is over, or nothing is open or opening."""
        while (left := self._end - self._time()) > 0 and not self._cut_short():
            live = list(self._context.live)
            sessions = [each for each in live if isinstance(each, Session) and _is_open(each)]
            if not any(map(_is_websocket, live)):
                return
            begin, span = self._time(), min(left, _ROUND if sessions else _LOOK)
            self._owed += (len(sessions) - self._owed) * span / left
            count = max(0, min(int(self._owed + self._phase), len(sessions)))
            self._owed -= count
            await self._close(random.sample(sessions, count), begin, span)
            if count < len(sessions) or not sessions:
                await self._until(begin + span)

    async def _close(self, sessions: Sequence[Session], begin: float, span: float) -> None:
        """Close each at a random moment of a stretch of its own; together they make up `span` seconds."""
        for index, session in enumerate(sessions):
            due = begin + span * (index + random.random()) / len(sessions)
            if due > self._time():
                await self._until(max(due, self._time() + _TICK))
            if _is_open(session):
                session.shutdown()

    async def _until(self, moment: float) -> None:
        """Return then, or when there is nothing to wait for any more."""
        while (  # noqa: ASYNC110  (several things end it)
            (left := moment - self._time()) > 0 and self._context.live and not self._cut_short()
        ):
            await asyncio.sleep(min(left, _LOOK))


def _is_websocket(connection: LiveConnection) -> bool:
    """Whether it is a WebSocket that nobody has begun to close, or is to become one."""
    if isinstance(connection, Session):
        return _is_open(connection)
    return isinstance(connection, H1Connection) and connection.opening


def _is_open(session: Session) -> bool:
    """Whether neither side has begun to close it."""
    return session.connection.state == _OPEN
