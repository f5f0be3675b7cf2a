# cython: language_level=3, annotation_typing=False, binding=False
"""The bound on unsent output for slow peers (--ws-slow-consumer close or drop)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowserve.config import Config
    from flowserve.session.writer import SessionWriter
    from flowserve.transport.bases import Stream

_BUFFER_MARK = 65536  # bytes: the default high-water mark of event loops


class SlowConsumerLimit:
    """The bound on unsent output of one session, and what happens beyond it: close or drop."""

    __slots__ = ("closes", "dropped", "expired", "full", "mark")

    def __init__(self, config: Config, stream: Stream) -> None:
        """The high-water mark of `stream` is lowered to the bound."""
        self.mark = config.ws_slow_consumer_mark  # the bound, in bytes
        self.closes = config.ws_slow_consumer == "close"
        self.dropped = 0  # messages
        self.full = False  # the bound was exceeded, and the output has not fallen below half of it since
        self.expired = False  # the session is being closed for it
        stream.limit_buffer(min(_BUFFER_MARK, self.mark))

    def overflows(self, writer: SessionWriter) -> bool:
        """Whether more than `mark` bytes are unsent; after that, whether at least half of it is (hysteresis)."""
        connection, stream = writer.connection, writer.stream
        if not stream.write_paused:
            if not self.full and connection.output_size <= self.mark:
                return False
            writer.flush()
        waiting = connection.output_size + stream.buffered()
        self.full = waiting > self.mark or (self.full and waiting >= self.mark // 2)
        return self.full
