"""What comes of published messages on one connection, and the counters that all connections share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from flowserve.commands.bench.connection import TappedConnection
from flowserve.commands.bench.histogram import Histogram
from flowserve.library.websocket import WebSocket

_BEGIN, _END = "flowserve-bench:", ";"


class Marker:
    """Marks the messages of one benchmark, so that they are found in whatever an application makes of them."""

    def __init__(self, run: str, size: int) -> None:
        """`run` is another word for each benchmark, `size` is that of a message in bytes, if it is not less than the
        mark itself."""
        self._begin = f"{_BEGIN}{run}:"
        self._size = size

    def text(self, number: int) -> str:
        """Return the message with a number, which is -1 for one that is only to find out who is subscribed."""
        return f"{self._begin}{number}{_END}".ljust(self._size, "x")

    def number_in(self, message: str) -> int | None:
        """Return the number of the message in another one, None if there is none."""
        at = message.find(self._begin)
        if at < 0:
            return None
        at += len(self._begin)
        try:
            return int(message[at : message.index(_END, at, at + 20)])
        except ValueError:
            return None


@dataclass
class Deliveries:
    """Counters of all connections together. Times are those of `perf_counter_ns()`."""

    late_after: int
    """Nanoseconds."""
    published_at: list[int] = field(default_factory=list)
    """When each message was to be published, by its number."""
    latencies: Histogram = field(default_factory=Histogram)
    """The times until a message came, once each connection."""
    delivered: int = 0
    """Messages that came, each once a connection."""
    late: int = 0
    """Those among them that took longer than `late_after`."""
    swapped: int = 0
    """Those among them that came behind a later one."""
    doubled: int = 0
    """Messages that came again."""
    gaps: int = 0
    """How often a client was told that messages are missing."""
    others: int = 0
    """Messages that were not published here, as welcomes, and answers of the server."""
    received: int = 0
    """All messages."""
    received_bytes: int = 0
    """Their size."""
    ends: Counter[str] = field(default_factory=Counter)
    """How often connections ended early, by close code and reason."""
    example: str = ""
    """The last of the other messages before anybody was subscribed."""
    last: int = 0
    """The time of the last message that was published here."""
    over: bool = False
    """Whether nothing counts any more."""


class DeliveryConnection(TappedConnection):
    """Checks what comes on one WebSocket."""

    __slots__ = ("_marker", "_missing", "_next", "_totals", "subscribed")

    def __init__(self, ws: WebSocket, marker: Marker, totals: Deliveries) -> None:
        super().__init__(ws, totals.ends)
        self.subscribed = False
        """Whether anything that was published has come."""
        self._marker = marker
        self._totals = totals
        self._next = 0  # above the highest number that has come
        self._missing: set[int] = set()  # numbers below that have not

    def lost(self, left_out: Collection[int]) -> int:
        """Return how many messages have not come, but for those left out."""
        expected = len(self._totals.published_at)
        behind = expected - self._next - sum(number >= self._next for number in left_out)
        return behind + len(self._missing.difference(left_out))

    def take(self, message: str | bytes, now: int) -> None:
        totals = self._totals
        if totals.over:
            return
        totals.received += 1
        totals.received_bytes += len(message) if message.isascii() else len(_encoded(message))
        text = message if isinstance(message, str) else message.decode("latin-1")
        number = self._marker.number_in(text)
        if number is None:
            self._take_other(text)
        elif 0 <= number < len(totals.published_at):
            totals.last = now
            self._take_number(number, now)
        else:
            self.subscribed = True

    def _take_number(self, number: int, now: int) -> None:
        totals = self._totals
        if number == self._next:
            self._next = number + 1
        elif number > self._next:
            self._missing.update(range(self._next, number))
            self._next = number + 1
        elif number in self._missing:
            self._missing.discard(number)
            totals.swapped += 1
        else:
            totals.doubled += 1
            return
        latency = max(now - totals.published_at[number], 0)
        totals.latencies.add(latency)
        totals.delivered += 1
        totals.late += latency > totals.late_after

    def _take_other(self, text: str) -> None:
        if _is_gap(text):
            self._totals.gaps += 1
            return
        self._totals.others += 1
        if not self._totals.published_at:
            self._totals.example = text


def _encoded(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message


def _is_gap(text: str) -> bool:
    """Whether it is a gap, as the envelope "json" has it."""
    if '"gap"' not in text:
        return False
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("gap") is True
