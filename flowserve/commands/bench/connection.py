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
_HIGHEST_TAG = 16**_TAG


@dataclass
class Totals:
    """Counters of all connections together. Times are those of `perf_counter_ns()`."""

    latencies: Histogram = field(default_factory=Histogram)
    """The times from sending a message to its answer, right or wrong."""
    received: int = 0
    """Messages that were received, whatever they are."""
    received_bytes: int = 0
    """Their size."""
    echoed: int = 0
    """Echoes that were received."""
    wrong: int = 0
    """Answers that differ from the message sent."""
    unasked: int = 0
    """Messages that answer nothing: received while no echo was expected, or sent by another connection."""
    ends: Counter[str] = field(default_factory=Counter)
    """How often connections ended early, by close code and reason."""
    example: tuple[str | bytes, str | bytes] | None = None
    """The first wrong echo: the message sent, and the one received."""
    last: int = 0
    """The time of the last message received."""

    @property
    def answered(self) -> int:
        """How many messages were answered, right or wrong."""
        return self.echoed + self.wrong


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


def _encoded(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message


class TappedConnection:
    """One WebSocket, whose messages are taken as their bytes come.

    After `start()` it is the protocol of the transport in place of the session, which it calls. This takes three
    quarters of the CPU time of a task that awaits `ws.send()` and `ws.receive()`, and the time of a message is when its
    bytes are received, not when a task resumes.
    """

    __slots__ = ("_closing", "_ends", "_session", "ws")

    def __init__(self, ws: WebSocket, ends: Counter[str]) -> None:
        """`ends` counts how connections end early."""
        self.ws = ws
        self._ends = ends
        self._session = session_of(ws)
        self._closing = False

    def start(self) -> None:
        """Become the protocol of the transport, and take what has come before: the session reads no more while too much
        of it waits."""
        self.ws.transport.set_protocol(self)  # type: ignore[arg-type]
        self.data_received(b"")

    async def close(self) -> None:
        """Close the WebSocket; this is not an early end, unless the server has closed it already."""
        self._closing = not self.ws.closed
        await self.ws.close()

    def take(self, message: str | bytes, now: int) -> None:
        """Take a message, whose bytes came at `now`, a time of `perf_counter_ns()`."""
        raise NotImplementedError

    def taken(self) -> None:
        """Do what is due after some messages."""

    # As the protocol of the transport

    def data_received(self, data: bytes) -> None:
        session = self._session
        session.data_received(data)
        now = perf_counter_ns()
        while session.ready() and session.waiting:
            self.take(session.take(), now)
        self.taken()
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
            self._ends[how] += 1

    def pause_writing(self) -> None:
        self._session.pause_writing()

    def resume_writing(self) -> None:
        self._session.resume_writing()


class LoadConnection(TappedConnection):
    """Sends messages over one WebSocket and checks their echoes."""

    __slots__ = (
        "_first_due",
        "_first_tag",
        "_in_flight",
        "_interval",
        "_limit",
        "_make_message",
        "_skipped",
        "_totals",
        "due",
        "sent",
    )

    def __init__(
        self, ws: WebSocket, number: int, limit: int, make_message: Callable[[int], str | bytes], totals: Totals
    ) -> None:
        """`number` is that of the connection, from 0; `limit` is how many messages may be in flight;
        `make_message(number)` makes one."""
        super().__init__(ws, totals.ends)
        self.due = 0
        """How many messages to send in all, until now."""
        self.sent = 0
        """How many messages were sent."""
        self._first_tag = number * _TAGS_PER_CONNECTION
        self._limit = limit
        self._make_message = make_message
        self._totals = totals
        self._in_flight: deque[tuple[str | bytes, int]] = deque()
        self._first_due = 0
        self._interval = 0.0
        self._skipped = 0

    def set_schedule(self, first: int, interval: float) -> None:
        """Measure latencies from when messages are scheduled: the first one at `first`, a time of `perf_counter_ns()`,
        the others `interval` nanoseconds apart."""
        self._first_due = first
        self._interval = interval

    @property
    def missing(self) -> int:
        """How many echoes have not been received."""
        return len(self._in_flight) + self._skipped

    @property
    def waiting(self) -> bool:
        """Whether an echo may still come."""
        return bool(self._in_flight) and not self.ws.closed

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

    def take(self, message: str | bytes, now: int) -> None:
        in_flight, totals = self._in_flight, self._totals
        totals.received += 1
        totals.received_bytes += len(message) if message.isascii() else len(_encoded(message))
        totals.last = now
        if in_flight and message == in_flight[0][0]:
            totals.latencies.add(now - in_flight.popleft()[1])
            totals.echoed += 1
        else:
            self._judge(message, now)

    def taken(self) -> None:
        if self.sent < self.due:
            self.send_due()

    def _judge(self, message: str | bytes, now: int) -> None:
        """Count a message that is not the next echo: a later one, if the server has left some out, a message that was
        not asked for, or a wrong answer."""
        in_flight, totals = self._in_flight, self._totals
        place = next((index for index, (sent, _) in enumerate(in_flight) if sent == message), None)
        if place is not None:
            for _ in range(place):
                in_flight.popleft()
            self._skipped += place
            totals.latencies.add(now - in_flight.popleft()[1])
            totals.echoed += 1
        elif not in_flight or self._is_of_another(message):
            totals.unasked += 1
        else:
            sent, sent_at = in_flight.popleft()
            totals.latencies.add(now - sent_at)
            totals.wrong += 1
            totals.example = totals.example or (sent, message)

    def _is_of_another(self, message: str | bytes) -> bool:
        """Whether another connection has sent this, as its tag says, and the server passes on what one sends to all."""
        try:
            number = int(message[:_TAG], 16)
        except ValueError:
            return False
        own = self._first_tag <= number < self._first_tag + _TAGS_PER_CONNECTION
        return not own and 0 <= number < _HIGHEST_TAG and message == self._make_message(number)
