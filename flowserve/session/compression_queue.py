"""Compressing long messages in threads, so that they don't block the event loop, while keeping their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from flowserve.errors import ClientDisconnected

if TYPE_CHECKING:
    from flowserve.websocket.connection import Connection

THREAD_MARK = 65536
"""Characters or bytes of a message from which on it is compressed in a thread. At level 6 zlib takes about 1.3 ms for
that much, the detour through a thread 0.15 ms."""


class MessageSender(Protocol):
    """The part of a Sender that is used here."""

    connection: Connection

    def send(self, message: str | bytes, compress: bool | None) -> bool:
        """See `Sender.send()`."""

    def overflows(self) -> bool:
        """See `Sender.overflows()`."""

    def send_compressed(self, text: bool, payload: bytes, size: int) -> bool:
        """See `Sender.send_compressed()`."""


class CompressionQueue:
    """The long messages that one session is sending, and the messages queued behind them."""

    def __init__(self, session: MessageSender, loop: asyncio.AbstractEventLoop) -> None:
        self._session = session
        self._loop = loop
        self._lock = asyncio.Lock()
        self._waiting = 0  # messages in the queue, with the one that is being compressed
        self._finish: Callable[[], None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a further message has to be queued."""
        return self._waiting > 0

    def then(self, finish: Callable[[], None]) -> None:
        """Call `finish()`, which ends the session, once all queued messages are sent. From now on `send()` raises
        ClientDisconnected. Only the first call has an effect."""
        self._finish = self._finish or finish

    async def send(self, message: str | bytes, compress: bool | None) -> bool:
        """Queue a message, compress it in a thread if it is long, and send it.

        Messages are sent in the order of the calls. Returns and raises like `Sender.send()`. A cancelled call either
        sends its message or has no effect.
        """
        if self._finish is not None:
            raise ClientDisconnected("the WebSocket is closing")
        self._waiting += 1
        try:
            await self._lock.acquire()
        except BaseException:
            self._message_done()
            raise
        # From here on cancellation must not stop it: with context takeover the compressor's window will contain the
        # message, so it has to be sent.
        sending = self._loop.create_task(self._send(message, compress))
        sending.add_done_callback(_retrieve_exception)
        return await asyncio.shield(sending)

    async def join(self) -> None:
        """Wait until the messages that are queued now are sent."""
        async with self._lock:
            pass

    async def _send(self, message: str | bytes, compress: bool | None) -> bool:
        try:
            if len(message) < THREAD_MARK or compress is False:
                return self._session.send(message, compress)
            if self._session.overflows():
                return True
            payload = message.encode("utf-8") if isinstance(message, str) else message
            codec = self._session.connection.deflate
            assert codec is not None
            compressed = await self._loop.run_in_executor(None, codec.compress, payload)
            return self._session.send_compressed(isinstance(message, str), compressed, len(payload))
        finally:
            self._lock.release()
            self._message_done()

    def _message_done(self) -> None:
        self._waiting -= 1
        if not self._waiting and self._finish is not None:
            self._finish()


def _retrieve_exception(task: asyncio.Task[bool]) -> None:
    """Retrieve the task's exception, so that asyncio does not log it if the caller of `send()` was cancelled."""
    if not task.cancelled():
        task.exception()
