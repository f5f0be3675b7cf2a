# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""Writing the output of a connection to its stream, once per event loop iteration.

One layer of the Session object, see receiver.py.
"""

from __future__ import annotations

from flowserve.transport.bases import DataProtocol, Stream
from flowserve.transport.flush_queue import FlushQueue
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import State

_CLOSED = int(State.CLOSED)

_BACKLOG_MARK = 65536  # bytes per write while a backlog is written


class SessionWriter(DataProtocol):
    """Writes the output of `connection` to `stream`. `written` counts the bytes."""

    __slots__ = ("_flush_queue", "_lost", "connection", "stream", "written")

    def _begin_writer(self, connection: Connection, stream: Stream, flush_queue: FlushQueue) -> None:
        self.connection = connection
        self.stream = stream
        self.written = 0
        self._flush_queue = flush_queue
        self._flush_pending = False
        self._lost = False  # the connection of the stream is lost

    def begin(self, head: bytes) -> None:
        """Write `head`, the response to the opening handshake."""
        self.written += len(head)
        self.stream.write(head)

    def flush(self) -> None:
        """Write all output unless the stream is paused. After the last of a closed connection a server closes the
        stream, while a client waits for the server to do so (RFC 6455 section 7.1.1)."""
        self._write_output()
        connection = self.connection
        if connection.state == _CLOSED and not connection.output_size and not self._lost and not connection.is_client:
            self.stream.close()

    def _write_output(self) -> None:
        connection = self.connection
        stream = self.stream
        if connection.output_size and not stream.write_paused and not self._lost:
            self.written += connection.output_size
            pieces = connection.take_output()
            if len(pieces) == 1:
                stream.write(pieces[0])
            else:
                stream.writelines(pieces)

    def _write_backlog(self) -> None:
        """Write as much of the output as the stream takes until it is paused again. The rest can still be dropped, and
        progress of the peer shows sooner."""
        connection = self.connection
        while connection.output_size > 2 * _BACKLOG_MARK and not self.stream.write_paused and not self._lost:
            self.written += connection.output_size
            pieces = connection.take_some(_BACKLOG_MARK)
            self.written -= connection.output_size
            self.stream.writelines(pieces)
        self._write_output()
        if connection.state == _CLOSED:  # asyncio tells of the end twice if it is closed while it resumes writing
            self._flush_queue.add(self)
