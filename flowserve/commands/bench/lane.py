"""One connection under load."""

from __future__ import annotations

import random
import string
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter_ns

from flowserve.commands.bench.histogram import Histogram
from flowserve.commands.endpoint import one_line
from flowserve.library.websocket import WebSocket

_TAG = 12  # characters that tell a message from every other
_SHIFTS = 251  # ways in which the rest of a message differs from others'
_LANE = 1 << 28  # messages of one connection, before its tags would be those of the next


@dataclass
class Tally:
    """What all connections together have seen. Times are those of `perf_counter_ns()`."""

    latencies: Histogram = field(default_factory=Histogram)
    echoed: int = 0
    wrong: int = 0
    """Echoes that were not what was sent."""
    unasked: int = 0
    """Messages that came when no echo was due."""
    ends: Counter[str] = field(default_factory=Counter)
    """How connections ended before their time, and how often: codes and reasons."""
    example: tuple[str | bytes, str | bytes] | None = None
    """The first wrong echo: what was sent, and what came."""
    last: int = 0
    """When the last echo came."""


def message_maker(size: int, binary: bool) -> Callable[[int], str | bytes]:
    """Return what makes message number so and so, of `size` bytes: no two alike, as far as there is room for that."""
    chance = random.Random(size)
    filler = "".join(chance.choices(string.ascii_letters + string.digits, k=max(size - _TAG, 0) + _SHIFTS))
    rest = size - _TAG

    def text(number: int) -> str:
        at = number % _SHIFTS
        return "%012x" % number + filler[at : at + rest]  # noqa: UP031  (half the time of an f-string's)

    if rest < 0:
        short = slice(_TAG - size, None)
        return (lambda number: f"{number:012x}"[short].encode()) if binary else (lambda number: f"{number:012x}"[short])
    return (lambda number: text(number).encode()) if binary else text


class Lane:
    """Keeps messages on their way to and fro.

    Once started it is the protocol of its transport, in front of the session, and works through what has come where it
    comes. That takes three quarters of the CPU time that a task takes which awaits `ws.send()` and `ws.receive()`, and
    an echo's time is that of its bytes, not of the task's turn.

    `due` messages may be sent in all, `limit` be on their way at a time.
    """

    __slots__ = (
        "_first",
        "_interval",
        "_leaving",
        "_limit",
        "_make",
        "_number",
        "_on_way",
        "_session",
        "_tally",
        "due",
        "sent",
        "ws",
    )

    def __init__(
        self, ws: WebSocket, number: int, limit: int, make: Callable[[int], str | bytes], tally: Tally
    ) -> None:
        self.ws = ws
        self.due = 0
        self.sent = 0
        self._session = ws.session
        self._number = number * _LANE
        self._limit = limit
        self._make = make
        self._tally = tally
        self._on_way: deque[tuple[str | bytes, int]] = deque()
        self._first = 0
        self._interval = 0.0
        self._leaving = False

    def start(self) -> None:
        self.ws.transport.set_protocol(self)  # type: ignore[arg-type]

    def pace(self, first: int, interval: float) -> None:
        """Measure from when a message was to be sent: the first one at `first`, the others `interval` nanoseconds
        apart."""
        self._first = first
        self._interval = interval

    @property
    def missing(self) -> int:
        """Echoes that have not come."""
        return len(self._on_way)

    @property
    def idle(self) -> bool:
        """Whether nothing more is to be done."""
        return self.ws.closed or (not self._on_way and self.sent >= self.due)

    def pump(self) -> None:
        """Send what is due and has room."""
        if self.ws.closed:
            return
        on_way, make, send, now = self._on_way, self._make, self._session.send, perf_counter_ns()
        while len(on_way) < self._limit and self.sent < self.due:
            if self._interval:
                now = self._first + int(self.sent * self._interval)
            message = make(self._number + self.sent)
            self.sent += 1
            on_way.append((message, now))
            send(message)

    async def close(self) -> None:
        self._leaving = True
        await self.ws.close()

    # As the protocol of the transport

    def data_received(self, data: bytes) -> None:
        session, on_way, tally = self._session, self._on_way, self._tally
        session.data_received(data)
        now = perf_counter_ns()
        while session.ready() and session.waiting:
            message = session.take()
            if not on_way:
                tally.unasked += 1
                continue
            sent, at = on_way.popleft()
            if message != sent:
                tally.wrong += 1
                tally.example = tally.example or (sent, message)
            tally.latencies.add(now - at)
            tally.echoed += 1
            tally.last = now
        if self.sent < self.due:
            self.pump()
        if session.connection.held:  # much was compressed: the rest of it is decoded in the next iterations
            session.context.loop.call_soon(self.data_received, b"")

    def eof_received(self) -> bool:
        return self._session.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        connection = self._session.connection
        self._session.connection_lost(exc)
        if not self._leaving:
            code, reason = self.ws.close_code, self.ws.close_reason
            if connection.failed:
                code, reason = connection.close_code, connection.close_reason
            how = f"{code} ({one_line(reason)})" if reason else str(code)
            self._tally.ends[how] += 1

    def pause_writing(self) -> None:
        self._session.pause_writing()

    def resume_writing(self) -> None:
        self._session.resume_writing()
