# cython: language_level=3, annotation_typing=False, binding=False
"""How much may wait for a peer that takes it slowly (--ws-slow-consumer)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowserve.config import Config
    from flowserve.session.writer import SessionWriter
    from flowserve.transport.interfaces import Stream

_BUFFER_MARK = 65536  # bytes: what event loops let a transport hold before it pauses whoever writes


class SlowConsumerLimit:
    """How much may wait for a peer that takes it slowly, where that is bounded (--ws-slow-consumer close or drop)."""

    __slots__ = ("closes", "dropped", "expired", "full", "mark")

    def __init__(self, config: Config, stream: Stream) -> None:
        """`stream` is told to hold no more than the mark by itself."""
        self.mark = config.ws_slow_consumer_mark  # bytes
        self.closes = config.ws_slow_consumer == "close"
        self.dropped = 0  # messages
        self.full = False
        self.expired = False  # the peer is being closed for it
        stream.limit_buffer(min(_BUFFER_MARK, self.mark))

    def overflows(self, writer: SessionWriter) -> bool:
        """Return whether more than the mark waits; from then on, whether at least half of it does."""
        connection, stream = writer.connection, writer.stream
        if not stream.write_paused:
            if not self.full and connection.output_size <= self.mark:
                return False
            writer.flush()
        waiting = connection.output_size + stream.buffered()
        self.full = waiting > self.mark or (self.full and waiting >= self.mark // 2)
        return self.full
