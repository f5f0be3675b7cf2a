"""Messages that take long to compress: they don't hold up the event loop, and keep their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from flowserve.errors import ClientDisconnected

THREAD_MARK = 65536
"""Characters or bytes: from here on a message is compressed in a thread. At level 6 zlib takes about 1.3 ms for that
much, the way through a thread 0.15 ms."""


class Outlet(Protocol):
    """What a session lets one do here."""

    connection: Any

    def send(self, message: str | bytes, compress: bool | None) -> bool:
        """Send at once."""

    def overflows(self) -> bool:
        """Whether a message is to be dropped."""

    def send_compressed(self, text: bool, payload: bytes, size: int) -> bool:
        """Send what is compressed already."""


class CompressionQueue:
    """The long messages of one session, and those that stand behind them."""

    def __init__(self, session: Outlet, loop: asyncio.AbstractEventLoop) -> None:
        self._session = session
        self._loop = loop
        self._turns = asyncio.Lock()
        self._waiting = 0
        self._finish: Callable[[], None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a further message has to stand in line."""
        return self._waiting > 0

    def then(self, finish: Callable[[], None]) -> None:
        """Call `finish()`, which ends the session, when all that stand in line have been sent; nothing more may be
        sent now. Only the first call counts."""
        self._finish = self._finish or finish

    async def send(self, message: str | bytes, compress: bool | None) -> bool:
        """Send a message behind those that came before, and compress it in a thread if it is long.

        Messages leave in the order of the calls. Returns and raises as `Session.send` does. A cancelled call sends its
        message whole or not at all.
        """
        if self._finish is not None:
            raise ClientDisconnected("the WebSocket is closing")
        self._waiting += 1
        try:
            await self._turns.acquire()
        except BaseException:
            self._left()
            raise
        # From here on it runs to its end, whoever is cancelled: with context takeover the compressor's window will
        # hold the message, so it has to go out.
        sending = self._loop.create_task(self._send(message, compress))
        sending.add_done_callback(_retrieved)
        return await asyncio.shield(sending)

    async def join(self) -> None:
        """Wait until those that stand in line now are sent."""
        async with self._turns:
            pass

    async def _send(self, message: str | bytes, compress: bool | None) -> bool:
        try:
            if len(message) < THREAD_MARK or compress is False:
                return self._session.send(message, compress)
            if self._session.overflows():
                return True
            payload = message.encode("utf-8") if isinstance(message, str) else message
            codec = self._session.connection.deflate
            compressed = await self._loop.run_in_executor(None, codec.compress, payload)
            return self._session.send_compressed(isinstance(message, str), compressed, len(payload))
        finally:
            self._turns.release()
            self._left()

    def _left(self) -> None:
        self._waiting -= 1
        if not self._waiting and self._finish is not None:
            self._finish()


def _retrieved(task: asyncio.Task[bool]) -> None:
    """Who cancelled a send does not want to hear how it ended."""
    if not task.cancelled():
        task.exception()
