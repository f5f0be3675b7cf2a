# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""A session's sending side: messages whole, in fragments or compressed already, and what slow peers mean to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from flowserve.errors import ClientDisconnected
from flowserve.session.compression_queue import THREAD_MARK, CompressionQueue
from flowserve.session.keepalive import Keepalive
from flowserve.session.receiver import Receiver
from flowserve.session.slow_consumer import SlowConsumerLimit
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import State

if TYPE_CHECKING:
    from flowserve.session.host import SessionContext
    from flowserve.transport.interfaces import Stream

_OPEN = int(State.OPEN)

_WRITE_MARK = 65536  # bytes that wait to be written together, or are written without letting others run, at the most
_WRITE_COST = 1024  # bytes that take about as long as a write takes in any case
_HOLD = 0.05  # seconds between writes while more input waits: many times what an echo of 32 small messages takes


class Sender(Receiver):
    """`send_*` return whether the caller should now `await drain()`. They raise ClientDisconnected once nothing can be
    sent any more. What they do while much waits for a slow peer says --ws-slow-consumer: nothing of their own (wait),
    or end the session (close), or drop the message (drop).

    A message is handed to the stream before `send_*` return, so that code that blocks the event loop afterwards can't
    hold it up. Only while further messages of the peer wait to be received, and one was written just now, it may wait
    for the answers to these: until `wait()` is called, _HOLD has passed, or the event loop's turn ends.
    """

    __slots__ = ("_compression", "_idle_timeout", "_keepalive", "_limit", "_unyielded", "_written_at")

    def __init__(self, connection: Connection, stream: Stream, context: SessionContext) -> None:
        super().__init__(connection, stream, context)
        config = context.config
        self._compression: CompressionQueue | None = None
        self._unyielded = 0  # bytes since others could last run
        self._written_at = 0.0  # when a message was last written at once though further ones waited
        self._idle_timeout = config.ws_idle_timeout or 0.0
        self._keepalive = Keepalive(config, self._loop.time())
        self._limit = None if config.ws_slow_consumer == "wait" else SlowConsumerLimit(config, stream)

    @property
    def dropped(self) -> int:
        """Messages that were not sent, as too much waited for a slow peer (--ws-slow-consumer drop)."""
        return 0 if self._limit is None else self._limit.dropped

    def send_text(self, text: str, compress: bool | None = None) -> bool:
        """Send a text message; `compress` as for Connection. UnicodeEncodeError for a lone surrogate."""
        if self._refuses():
            return True
        self.connection.send_text(text, compress)
        return self._sent()

    def send_binary(self, data: bytes, compress: bool | None = None) -> bool:
        """Send a binary message; `compress` as for Connection."""
        if self._refuses():
            return True
        self.connection.send_binary(data, compress)
        return self._sent()

    def send(self, message: str | bytes, compress: bool | None = None) -> bool:
        """Send a message, text for str and binary for bytes."""
        if isinstance(message, str):
            return self.send_text(message, compress)
        return self.send_binary(message, compress)

    @property
    def busy(self) -> bool:
        """Whether messages are under way that take long to compress, so that others have to stand behind them."""
        return self._compression is not None and self._compression.busy

    def takes_long(self, message: str | bytes, compress: bool | None) -> bool:
        """Whether to `await send_slowly()` instead: it takes long to compress, or stands behind one that does.

        Only to be asked where permessage-deflate was agreed on.
        """
        return (self._compression is not None and self._compression.busy) or (
            len(message) >= THREAD_MARK and compress is not False
        )

    def send_slowly(self, message: str | bytes, compress: bool | None = None) -> Awaitable[bool]:
        """Send a message that takes long to compress, or stands behind one; see `CompressionQueue.send`."""
        if self._compression is None:
            self._compression = CompressionQueue(self, self._loop)
        return self._compression.send(message, compress)

    def send_compressed(self, text: bool, payload: bytes, size: int) -> bool:
        """Send a message that the connection's codec has compressed already; it had `size` bytes before.

        It is not dropped: with context takeover those that follow refer to it. Ask `overflows()` before compressing.
        """
        if self._lost or self.connection.state != _OPEN:
            raise ClientDisconnected("the WebSocket is closed")
        self.connection.send_compressed(text, payload, size)
        return self._sent()

    def send_frame(self, frame: bytes, text: bool, size: int) -> bool:
        """Send a message that is a frame already, as many sessions can share it; see `Connection.send_frame`.

        It leaves at the end of the event loop's turn, with others that are published in it.
        """
        if self._refuses():
            return True
        self.connection.send_frame(frame, text, size)
        return self._deliver(False)

    def overflows(self) -> bool:
        """Whether so much waits for a slow peer that a message is to be dropped; that is counted.

        Where slow peers are to be closed instead, it is closed, and ClientDisconnected raised.
        """
        limit = self._limit
        if limit is None or not limit.overflows(self):
            return False
        if limit.closes:
            self._expire()
            raise ClientDisconnected("the client was too slow")
        limit.dropped += 1
        return True

    async def drain(self) -> None:
        """Wait until sending is welcome; where slow peers are not waited for, only let others have their turn.

        ClientDisconnected when the session ends meanwhile.
        """
        if self._limit is None:
            await self.stream.drain()
        else:
            await asyncio.sleep(0)
        if self._lost:
            raise ClientDisconnected("the client has left")

    def transmit(self, message: str | bytes, compress: bool | None = None) -> Awaitable[None] | None:
        """Send a message, in a thread where it takes long to compress. Return what to await, None for nothing."""
        if self.connection.deflate is not None and self.takes_long(message, compress):
            return self._transmit_slowly(message, compress)
        return self.drain() if self.send(message, compress) else None

    async def _transmit_slowly(self, message: str | bytes, compress: bool | None) -> None:
        if await self.send_slowly(message, compress):
            await self.drain()

    async def join(self) -> None:
        """Wait until the messages that take long to compress are sent."""
        if self._compression is not None:
            await self._compression.join()

    def ping(self, payload: bytes) -> None:
        """Send a ping of at most 125 bytes, at once; the monitor is told of its pong."""
        if self._lost or self.connection.state != _OPEN:
            raise ClientDisconnected("the WebSocket is closed")
        self.connection.ping(payload)
        self.flush()

    def send_fragment(self, text: bool, payload: bytes, first: bool, last: bool, compress: bool = False) -> bool:
        """Send a frame of a message that goes out in fragments; it is not dropped. Else as `send()`."""
        if self._lost or self.connection.state != _OPEN:
            raise ClientDisconnected("the WebSocket is closed")
        self.connection.send_fragment(text, payload, first, last, compress)
        return self._sent()

    def _refuses(self) -> bool:
        """Whether a message is to be dropped. ClientDisconnected when nothing can be sent."""
        if self._lost or self.connection.state != _OPEN:
            raise ClientDisconnected("the WebSocket is closed")
        if self._limit is not None:
            return self.overflows()
        return False

    def _sent(self) -> bool:
        return self._deliver(not self.connection.waiting or self._is_due())

    def _is_due(self) -> bool:
        """Whether what is sent while further messages wait has to leave now."""
        now = time.monotonic()
        if now - self._written_at < _HOLD:
            return False
        self._written_at = now
        return True

    def _deliver(self, at_once: bool) -> bool:
        """Write what was sent at once, or else at the end of the event loop's turn, unless much has come together."""
        if self._idle_timeout:
            self._keepalive.active_at = self._loop.time()
        size = self.connection.output_size
        if at_once or size >= _WRITE_MARK:
            self._unyielded += size + _WRITE_COST
            self.flush()
        else:
            self._flush_queue.add(self)
        if self._unyielded < _WRITE_MARK and not self.stream.write_paused:
            return False
        self._unyielded = 0
        return True

    def _expire(self) -> None:
        """The peer is too slow: disown what the stream has not been given, so that a close frame gets through."""
        self._limit.expired = True  # type: ignore[union-attr]
        self.connection.discard_output()
