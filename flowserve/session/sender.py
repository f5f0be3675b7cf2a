# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""A session's sending side: messages that are whole, fragmented or compressed already, and the policy for slow peers.

One layer of the Session object, see receiver.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from flowserve.errors import ClientDisconnected
from flowserve.session.compression_queue import THREAD_MARK, CompressionQueue
from flowserve.session.host import SessionContext
from flowserve.session.keepalive import Keepalive
from flowserve.session.receiver import Receiver
from flowserve.session.slow_consumer import SlowConsumerLimit
from flowserve.transport.bases import Stream
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import State

_OPEN = int(State.OPEN)

_WRITE_MARK = 65536  # bytes that are batched, or written without yielding to the event loop, at most
_WRITE_COST = 1024  # bytes that cost about as much as the fixed part of a write
_BATCH_TIME = 0.05  # seconds between writes while further input waits: many times what echoing 32 small messages takes


class Sender(Receiver):
    """`send_*()` return whether the caller should now `await drain()`, and raise ClientDisconnected once the session is
    closing. --ws-slow-consumer says what they do while much output is unsent: nothing of their own (wait), end the
    session (close) or drop the message (drop).

    A message is passed to the stream before `send_*()` returns, so that code that blocks the event loop afterwards does
    not delay it. The exception: while further messages wait to be received, and one was written just before, it may be
    batched with the answers to those, until `wait()` is called, _BATCH_TIME has passed, or the event loop iteration
    ends.
    """

    __slots__ = ("_compression", "_idle_timeout", "_keepalive", "_limit", "_unyielded", "_written_at")

    def _begin_sender(self, connection: Connection, stream: Stream, context: SessionContext, now: float) -> None:
        self._begin_receiver(connection, stream, context)
        config = context.config
        self._compression: CompressionQueue | None = None
        self._unyielded = 0  # bytes written since the caller was last asked to drain(), which yields
        self._written_at = 0.0  # when a message was last written at once although further ones waited
        self._idle_timeout = config.ws_idle_timeout or 0.0
        self._keepalive = Keepalive(config, now)
        self._limit = None if config.ws_slow_consumer == "wait" else SlowConsumerLimit(config, stream)

    @property
    def dropped(self) -> int:
        """Messages that were dropped for a slow peer (--ws-slow-consumer drop)."""
        return 0 if self._limit is None else self._limit.dropped

    def send_text(self, text: str, compress: bool | None = None) -> bool:
        """Send a text message. `compress` as for Connection. Raises UnicodeEncodeError for a lone surrogate."""
        if self._must_drop():
            return True
        self.connection.send_text(text, compress)
        return self._write_or_batch()

    def send_binary(self, data: bytes, compress: bool | None = None) -> bool:
        """Send a binary message. `compress` as for Connection."""
        if self._must_drop():
            return True
        self.connection.send_binary(data, compress)
        return self._write_or_batch()

    def send(self, message: str | bytes, compress: bool | None = None) -> bool:
        """Send a message, text for str and binary for bytes."""
        if isinstance(message, str):
            return self.send_text(message, compress)
        return self.send_binary(message, compress)

    @property
    def busy(self) -> bool:
        """Whether messages are being compressed in a thread, so that others have to queue behind them."""
        return self._compression is not None and self._compression.busy

    def takes_long(self, message: str | bytes, compress: bool | None) -> bool:
        """Whether to use `send_slowly()` instead of `send()`: the message takes long to compress, or has to queue
        behind one that does. Only valid if permessage-deflate was agreed on."""
        return (self._compression is not None and self._compression.busy) or (
            len(message) >= THREAD_MARK and compress is not False
        )

    def send_slowly(self, message: str | bytes, compress: bool | None = None) -> Awaitable[bool]:
        """Send a message that takes long to compress, or queues behind one; see `CompressionQueue.send()`."""
        if self._compression is None:
            self._compression = CompressionQueue(self, self._loop)
        return self._compression.send(message, compress)

    def send_compressed(self, text: bool, payload: bytes, size: int) -> bool:
        """Send a message of `size` bytes whose `payload` the connection's codec has compressed already.

        It is never dropped: with context takeover, later messages refer to it. Call `overflows()` before compressing.
        """
        if self._lost or self.connection.state != _OPEN:
            raise ClientDisconnected("the WebSocket is closed")
        self.connection.send_compressed(text, payload, size)
        return self._write_or_batch()

    def send_frame(self, frame: bytes, text: bool, size: int) -> bool:
        """Send a message as an encoded frame, which many sessions can share; see `Output.send_frame()`.

        It is written at the end of the event loop iteration, together with others that are published in it.
        """
        if self._must_drop():
            return True
        self.connection.send_frame(frame, text, size)
        return self._schedule_write(False)

    def takes_frames(self) -> bool:
        """Whether `send_frame()` is possible, with an unmasked frame, and no slow peer or message in progress has to be
        considered."""
        connection = self.connection
        return (
            not self._lost
            and connection.state == _OPEN
            and not connection.is_client
            and not connection.fragmenting
            and connection.output_size < _WRITE_MARK
            and not self.stream.write_paused
            and self._limit is None
            and (self._compression is None or not self._compression.busy)
        )

    def overflows(self) -> bool:
        """Whether so much output is unsent that a message must be dropped, which is counted.

        With --ws-slow-consumer close, closes the session and raises ClientDisconnected instead.
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
        """Wait while the stream is over its high-water mark; with --ws-slow-consumer close or drop, only yield to the
        event loop once. Raises ClientDisconnected if the connection is lost."""
        if self._limit is None:
            await self.stream.drain()
        else:
            await asyncio.sleep(0)
        if self._lost:
            raise ClientDisconnected("the client has left")

    def transmit(self, message: str | bytes, compress: bool | None = None) -> Awaitable[None] | None:
        """Send a message, with compression in a thread if that takes long. Return an awaitable, or None if there is
        nothing to wait for."""
        if self.connection.deflate is not None and self.takes_long(message, compress):
            return self._transmit_slowly(message, compress)
        return self.drain() if self.send(message, compress) else None

    async def _transmit_slowly(self, message: str | bytes, compress: bool | None) -> None:
        if await self.send_slowly(message, compress):
            await self.drain()

    async def join(self) -> None:
        """Wait until the messages in the compression queue are sent."""
        if self._compression is not None:
            await self._compression.join()

    def ping(self, payload: bytes) -> None:
        """Send a ping of at most 125 bytes, at once. The monitor gets its pong."""
        if self._lost or self.connection.state != _OPEN:
            raise ClientDisconnected("the WebSocket is closed")
        self.connection.ping(payload)
        self.flush()

    def send_fragment(self, text: bool, payload: bytes, first: bool, last: bool, compress: bool = False) -> bool:
        """Send one frame of a fragmented message, see `Output.send_fragment()`. Like `send()`, but it is never
        dropped."""
        if self._lost or self.connection.state != _OPEN:
            raise ClientDisconnected("the WebSocket is closed")
        self.connection.send_fragment(text, payload, first, last, compress)
        return self._write_or_batch()

    def _must_drop(self) -> bool:
        """Whether a message must be dropped. Raises ClientDisconnected if nothing can be sent."""
        if self._lost or self.connection.state != _OPEN:
            raise ClientDisconnected("the WebSocket is closed")
        if self._limit is not None:
            return self.overflows()
        return False

    def _write_or_batch(self) -> bool:
        return self._schedule_write(not self.connection.waiting or self._may_write_now())

    def _may_write_now(self) -> bool:
        """Whether a message that is sent while further ones wait to be received is written now: _BATCH_TIME has
        passed."""
        now = time.monotonic()
        if now - self._written_at < _BATCH_TIME:
            return False
        self._written_at = now
        return True

    def _schedule_write(self, at_once: bool) -> bool:
        """Write the output now if `at_once` or if there is much, otherwise at the end of the event loop iteration.
        Return whether the caller should drain()."""
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
        """The peer is too slow: drop the output that the stream does not have yet, so that a close frame gets
        through."""
        self._limit.expired = True  # type: ignore[union-attr]
        self.connection.discard_output()
