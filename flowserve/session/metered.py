# cython: language_level=3, annotation_typing=False, binding=False
"""Sessions that count for the metrics. They are separate classes, so that sessions without metrics pay nothing."""

from __future__ import annotations

from bisect import bisect_left
from time import monotonic
from typing import TYPE_CHECKING, Any

from flowserve import metrics
from flowserve.session.host import SessionContext
from flowserve.session.session import Session
from flowserve.transport.bases import Stream
from flowserve.websocket.connection import Connection

if TYPE_CHECKING:
    from flowserve.metrics import Metrics
    from flowserve.websocket.assembly import UndecodedText
    from flowserve.websocket.deflate import PerMessageDeflate

_TEXT = 1  # the opcode
_SIZES = metrics.SIZES
_SUM_INDEX = len(_SIZES) + 1  # of the sum in a histogram's cells


class MeteredConnection(Connection):
    """A Connection that counts its messages and their sizes."""

    __slots__ = ("_binary_in", "_binary_out", "_text_in", "_text_out")

    def __init__(
        self, role: int, max_size: int, max_frames: int, deflate: PerMessageDeflate | None, counts: Metrics
    ) -> None:
        """Parameters as for Connection; counts in `counts`."""
        super().__init__(role, max_size, max_frames, deflate)
        self._text_in = counts.text_in
        self._text_out = counts.text_out
        self._binary_in = counts.binary_in
        self._binary_out = counts.binary_out

    def _deliver(self, message: str | bytes | UndecodedText, size: int) -> None:
        _count(self._binary_in if isinstance(message, bytes) else self._text_in, size)
        Connection._deliver(self, message, size)

    def _send(self, opcode: int, payload: bytes, compress: bool | None) -> None:
        _count(self._text_out if opcode == _TEXT else self._binary_out, len(payload))
        Connection._send(self, opcode, payload, compress)

    def _send_ascii(self, text: str) -> None:
        _count(self._text_out, len(text))
        Connection._send_ascii(self, text)

    def send_frame(self, frame: bytes, text: bool, size: int) -> None:
        """See `Output.send_frame()`."""
        _count(self._text_out if text else self._binary_out, size)
        Connection.send_frame(self, frame, text, size)

    def send_fragment(self, text: bool, payload: bytes, first: bool, last: bool, compress: bool = False) -> None:
        """See `Output.send_fragment()`."""
        Connection.send_fragment(self, text, payload, first, last, compress)
        if last:
            _count(self._text_out if text else self._binary_out, self._fragmented)

    def send_compressed(self, text: bool, payload: bytes, size: int) -> None:
        """See `Output.send_compressed()`."""
        _count(self._text_out if text else self._binary_out, size)
        Connection.send_compressed(self, text, payload, size)


class MeteredSession(Session):
    """A Session that counts itself, the round trips of its pings and its end."""

    __slots__ = ("_counts", "_pinged_at")

    def __init__(self, connection: Connection, stream: Stream, context: SessionContext) -> None:
        """Parameters as for Session; `context` has metrics."""
        super().__init__(connection, stream, context)
        assert context.metrics is not None
        self._counts = context.metrics
        self._counts.websockets += 1
        self._pinged_at = 0.0  # by a finer clock than some event loops have; 0 if no ping is unanswered

    @property
    def reading_paused(self) -> bool:
        """Whether reading is paused, because the application does not take its messages."""
        return not self._reading

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol.connection_lost()`."""
        super().connection_lost(exc)
        self._counts.closed(self.close_code, self.dropped)

    def _ping(self, now: float) -> None:
        self._pinged_at = monotonic()
        Session._ping(self, now)  # not super(), here and below, through which Cython finds no C method

    def _handle_pong(self) -> None:
        if self._pinged_at and self.connection.pong_received == self._pings.to_bytes(4, "big"):
            metrics.observe(self._counts.round_trips, metrics.SECONDS, monotonic() - self._pinged_at)
            self._pinged_at = 0.0
        Session._handle_pong(self)


def _count(histogram: list[Any], size: int) -> None:
    histogram[bisect_left(_SIZES, size)] += 1
    histogram[_SUM_INDEX] += size
