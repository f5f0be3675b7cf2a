# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""How what a connection has to say gets into its stream: everything of one turn of the event loop as one write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowserve.transport.flush_queue import Flushable, FlushQueue
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import State

if TYPE_CHECKING:
    from flowserve.transport.interfaces import Stream

_CLOSED = int(State.CLOSED)

_POUR_MARK = 65536  # bytes of a backlog that are written at once
_JOIN_MARK = 65536  # bytes: below it one write of joined pieces is cheaper than several


class SessionWriter(Flushable):
    """Writes the output of `connection` to `stream`; `written` counts the bytes."""

    __slots__ = ("_flush_queue", "_lost", "connection", "stream", "written")

    def __init__(self, connection: Connection, stream: Stream, flush_queue: FlushQueue) -> None:
        self.connection = connection
        self.stream = stream
        self.written = 0
        self._flush_queue = flush_queue
        self._flush_pending = False
        self._lost = False  # there is no stream any more

    def begin(self, head: bytes) -> None:
        """Send the head that answers the opening handshake."""
        self.written += len(head)
        self.stream.write(head)

    def flush(self) -> None:
        """Write what there is to write, unless the stream is full; a server closes it behind the last, a client waits
        for that (RFC 6455 section 7.1.1)."""
        connection = self.connection
        stream = self.stream
        if connection.output_size and not stream.write_paused and not self._lost:
            size = connection.output_size
            self.written += size
            pieces = connection.take_output()
            if len(pieces) == 1:
                stream.write(pieces[0])
            elif size < _JOIN_MARK:
                stream.write(b"".join(pieces))
            else:
                stream.writelines(pieces)
        if connection.state == _CLOSED and not connection.output_size and not self._lost and not connection.is_client:
            stream.close()

    def _pour(self) -> None:
        """Write as much of a backlog as the stream takes without being full again: the rest can still be disowned, and
        it is seen sooner that the peer goes on taking it."""
        connection = self.connection
        while connection.output_size > 2 * _POUR_MARK and not self.stream.write_paused and not self._lost:
            self.written += connection.output_size
            pieces = connection.take_some(_POUR_MARK)
            self.written -= connection.output_size
            self.stream.writelines(pieces)
        self.flush()
