"""Reading large payloads directly into their final memory, without a bytes object per read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowserve.transport.interfaces import BufferTarget

_SCRATCH_SIZE = 65536  # bytes per read while the target wants no buffer
_MAX_READ = 262144  # bytes per read: other connections have to run, and reading may have to pause


class DirectReadProtocol(asyncio.BufferedProtocol):
    """Replaces `protocol` as the protocol of `transport` while a large payload is read into `target`.

    All other calls are passed on to `protocol`. After each read into the target, it gets a `data_received(b"")`. When
    the target wants no buffer any more, `protocol` becomes the transport's protocol again.
    """

    def __init__(self, transport: asyncio.Transport, protocol: Any, target: BufferTarget) -> None:
        self._transport = transport
        self._protocol = protocol
        self._target = target
        self._view = memoryview(b"")

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()  # type: ignore[no-any-return]

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the memory to read into. Nothing else is written there, even if the read ends later (Windows)."""
        target = self._target
        buffer = target.get_buffer()[:_MAX_READ] if target.wants_buffer() else None
        self._view = buffer or memoryview(bytearray(_SCRATCH_SIZE))  # the target's is empty if memory ran out
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on `nbytes` bytes that were read."""
        target = self._target
        view, self._view = self._view, memoryview(b"")
        data = b""
        if target.wants_buffer():
            target.buffer_updated(nbytes)
        else:  # it gave up its buffer since, as a part of the message was taken
            data = bytes(view[:nbytes])
        self._protocol.data_received(data)
        if not target.wants_buffer() and self._transport.get_protocol() is self:
            self._transport.set_protocol(self._protocol)
