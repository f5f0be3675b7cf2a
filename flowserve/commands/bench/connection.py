"""One connection under load, and the counters that all connections share."""

from __future__ import annotations

import random
import string
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter_ns

from flowserve.commands.bench.histogram import Histogram
from flowserve.commands.endpoint import one_line
from flowserve.library.properties import session_of
from flowserve.library.websocket import WebSocket

_TAG = 12  # characters at the begin of a message that identify it
_SHIFTS = 251  # different contents for the rest of a message
_TAGS_PER_CONNECTION = 1 << 28  # so that no two connections send the same message


@dataclass
class Totals:
    """Counters of all connections together. Times are those of `perf_counter_ns()`."""

    latencies: Histogram = field(default_factory=Histogram)
    """The times from sending a message to its echo."""
    echoed: int = 0
    """Echoes that were received, wrong ones too."""
    wrong: int = 0
    """Echoes that differ from the message sent."""
    unasked: int = 0
    """Messages that were received while no echo was expected."""
    ends: Counter[str] = field(default_factory=Counter)
    """How often connections ended early, by close code and reason."""
    example: tuple[str | bytes, str | bytes] | None = None
    """The first wrong echo: the message sent, and the one received."""
    last: int = 0
    """The time of the last echo."""


def message_maker(size: int, binary: bool) -> Callable[[int], str | bytes]:
    """Return a function that makes the message with a given number, of `size` bytes. Messages differ as far as their
    size allows."""
    rng = random.Random(size)
    filler = "".join(rng.choices(string.ascii_letters + string.digits, k=max(size - _TAG, 0) + _SHIFTS))
    rest = size - _TAG

    def text(number: int) -> str:
        at = number % _SHIFTS
        return "%012x" % number + filler[at : at + rest]  # noqa: UP031  (takes half the time of an f-string)

    if rest < 0:
        short = slice(_TAG - size, None)
        return (lambda number: f"{number:012x}"[short].encode()) if binary else (lambda number: f"{number:012x}"[short])
    return (lambda number: text(number).encode()) if binary else text


class LoadConnection:
    """Sends messages over one WebSocket and checks their echoes.

    After `start()` it is the protocol of the transport in place of the session, which it calls, and handles echoes in
    `data_received()`. This takes three quarters of the CPU time of a task that awaits `ws.send()` and `ws.receive()`,
    and the time of an echo is when its bytes are received, not when a task resumes.
    """

    __slots__ = (
        "_closing",
        "_first_due",
        "_first_tag",
        "_in_flight",
        "_interval",
        "_limit",
        "_make_message",
        "_session",
        "_totals",
        "due",
        "sent",
        "ws",
    )

    def __init__(
        self, ws: WebSocket, number: int, limit: int, make_message: Callable[[int], str | bytes], totals: Totals
    ) -> None:
        """`number` is that of the connection, from 0; `limit` is how many messages may be in flight;
        `make_message(number)` makes one."""
        self.ws = ws
        self.due = 0
        """How many messages to send in all, until now."""
        self.sent = 0
        """How many messages were sent."""
        self._session = session_of(ws)
        self._first_tag = number * _TAGS_PER_CONNECTION
        self._limit = limit
        self._make_message = make_message
        self._totals = totals
        self._in_flight: deque[tuple[str | bytes, int]] = deque()
        self._first_due = 0
        self._interval = 0.0
        self._closing = False

    def start(self) -> None:
        """Become the protocol of the transport."""
        self.ws.transport.set_protocol(self)  # type: ignore[arg-type]

    def set_schedule(self, first: int, interval: float) -> None:
        """Measure latencies from when messages are scheduled: the first one at `first`, a time of `perf_counter_ns()`,
        the others `interval` nanoseconds apart."""
        self._first_due = first
        self._interval = interval

    @property
    def missing(self) -> int:
        """How many echoes have not been received."""
        return len(self._in_flight)

    @property
    def idle(self) -> bool:
        """Whether nothing is to be sent and no echo is expected."""
        return self.ws.closed or (not self._in_flight and self.sent >= self.due)

    def send_due(self) -> None:
        """Send the messages that are due, as long as fewer than `limit` are in flight."""
        if self.ws.closed:
            return
        in_flight, make_message, send, now = self._in_flight, self._make_message, self._session.send, perf_counter_ns()
        while len(in_flight) < self._limit and self.sent < self.due:
            if self._interval:
                now = self._first_due + int(self.sent * self._interval)
            message = make_message(self._first_tag + self.sent)
            self.sent += 1
            in_flight.append((message, now))
            send(message)

    async def close(self) -> None:
        """Close the WebSocket; this is not an early end, unless the server has closed it already."""
        self._closing = not self.ws.closed
        await self.ws.close()

    # As the protocol of the transport

    def data_received(self, data: bytes) -> None:
        session, in_flight, totals = self._session, self._in_flight, self._totals
        session.data_received(data)
        now = perf_counter_ns()
        while session.ready() and session.waiting:
            message = session.take()
            if not in_flight:
                totals.unasked += 1
                continue
            sent, sent_at = in_flight.popleft()
            if message != sent:
                totals.wrong += 1
                totals.example = totals.example or (sent, message)
            totals.latencies.add(now - sent_at)
            totals.echoed += 1
            totals.last = now
        if self.sent < self.due:
            self.send_due()
        if session.connection.held:  # decode the rest of a large compressed message in the next loop iteration
            session.context.loop.call_soon(self.data_received, b"")

    def eof_received(self) -> bool:
        return self._session.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        connection = self._session.connection
        self._session.connection_lost(exc)
        if not self._closing:
            code, reason = self.ws.close_code, self.ws.close_reason
            if connection.failed:
                code, reason = connection.close_code, connection.close_reason
            how = f"{code} ({one_line(reason)})" if reason else str(code)
            self._totals.ends[how] += 1

    def pause_writing(self) -> None:
        self._session.pause_writing()

    def resume_writing(self) -> None:
        self._session.resume_writing()
