"""Large payloads that are read straight to where they will stay, not through an object for each read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowserve.transport.interfaces import BufferTarget

_ASIDE = 65536  # bytes that are read at once when there is nowhere for them to stay
_MOST = 262144  # bytes that are read at once: others want their turn, and reading may have to pause


class DirectReadProtocol(asyncio.BufferedProtocol):
    """Stands in for `protocol`, the transport's, while a large payload comes into `target`; then goes.

    `protocol` has the calls for all else, and `data_received(b"")` for what has come into the target.
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
        """Return where to read to. Nobody else writes there, even where the read ends later (Windows)."""
        target = self._target
        room = target.get_buffer()[:_MOST] if target.wants_buffer() else None
        self._view = room or memoryview(bytearray(_ASIDE))  # there may be no memory for it to stay
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come into it."""
        target = self._target
        view, self._view = self._view, memoryview(b"")
        data = b""
        if target.wants_buffer():
            target.buffer_updated(nbytes)
        else:  # what has come was taken away, in part, and the rest is to go on without a store
            data = bytes(view[:nbytes])
        self._protocol.data_received(data)
        if not target.wants_buffer() and self._transport.get_protocol() is self:
            self._transport.set_protocol(self._protocol)
