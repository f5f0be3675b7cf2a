# cython: language_level=3, annotation_typing=False, binding=False
"""The interfaces between the layers that speak a protocol and those that carry bytes: base classes, as compiled code
calls their methods directly."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING

from flowserve.transport.flush_queue import Flushable

if TYPE_CHECKING:
    from flowserve.transport.interfaces import BufferTarget, Peer


class Stream:
    """A bidirectional byte stream with flow control, which carries a session. `stream.TransportStream` implements it
    over an asyncio transport.

    No method raises if the connection is closed, half-closed or reset: data written then is dropped.
    """

    __slots__ = ("half_open", "write_paused")

    write_paused: bool
    """Whether the stream is over its high-water mark; senders should then await `drain()`."""
    half_open: bool
    """Whether this end can still write after the peer has half-closed."""

    def write(self, data: bytes | memoryview) -> None:
        """Send `data`, soon and in order."""
        raise NotImplementedError

    def writelines(self, data: list[bytes | memoryview]) -> None:
        """Send the pieces in order, like one `write()`."""
        raise NotImplementedError

    def drain(self) -> Awaitable[None]:
        """Wait while the stream is over its high-water mark; otherwise yield to the event loop once."""
        raise NotImplementedError

    def buffered(self) -> int:
        """Return the bytes that were written and are still in this process."""
        raise NotImplementedError

    def unsent(self) -> int:
        """Return the bytes that were written and the peer has not acknowledged, as far as that is known."""
        raise NotImplementedError

    def limit_buffer(self, size: int, low: int | None = None) -> None:
        """Set the high-water mark to `size` bytes and the low-water mark to `low`, by default a quarter of that."""
        raise NotImplementedError

    def progressed(self) -> bool:
        """Whether some, but not all, of the bytes written have left since the last call."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """Called when the transport is over its high-water mark."""
        raise NotImplementedError

    def resume_writing(self) -> None:
        """Called when the transport is below its low-water mark."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Stop receiving. Idempotent."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Continue receiving. Idempotent."""
        raise NotImplementedError

    def read_into(self, target: BufferTarget) -> None:
        """While `target.wants_buffer()`, read directly into its buffer, if possible. The receiver of the stream's data
        then gets b"" for each such read. Idempotent."""
        raise NotImplementedError

    def end_writing(self) -> None:
        """Half-close after sending everything written; close if the stream can't be half-closed."""
        raise NotImplementedError

    def close(self) -> None:
        """Close after sending everything written."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close immediately."""
        raise NotImplementedError

    def lost(self) -> None:
        """Called when the connection is lost: wake all waiters in `drain()`."""
        raise NotImplementedError


class DataProtocol(Flushable):
    """Base class of an `asyncio.Protocol` that a transport calls for what it receives."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol.data_received()`."""
        raise NotImplementedError


class ResponseStream(DataProtocol):
    """Carries one request and its response, in any version of HTTP. It is a DataProtocol as in HTTP/1.1 the connection
    is the stream, and a compiled class has one base."""

    __slots__ = ("peer",)

    peer: Peer
    """Both ends of the connection; behind a trusted proxy, the client that the proxy names for the request."""

    def send_continue(self) -> None:
        """Send 100 (Continue) if the client waits for it with the body (RFC 9110 section 10.1.1)."""
        raise NotImplementedError

    def start_response(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Set status and header fields, which are sent with the first part of the body. Raises ASGIMisuse."""
        raise NotImplementedError

    def send_head(self) -> None:
        """Send status and header fields now, without waiting for the body any longer."""
        raise NotImplementedError

    def send_body(self, body: bytes, more: bool) -> bool:
        """Send a part of the body; `more` is false for the last. Return whether to await `drain()`. Raises
        ASGIMisuse."""
        raise NotImplementedError

    def send_error(self, status: int, detail: str) -> None:
        """Send a complete plain-text response, the last one on its connection."""
        raise NotImplementedError

    def finished(self) -> None:
        """Called when the response is complete and the application is done with it."""
        raise NotImplementedError

    def drain(self) -> Awaitable[None]:
        """Wait while the stream is over its high-water mark; otherwise yield to the event loop once."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Stop receiving the body. Idempotent."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Continue receiving the body. Idempotent."""
        raise NotImplementedError

    def is_reset(self) -> bool:
        """Whether a client that has half-closed has also reset the connection, as far as that is known."""
        raise NotImplementedError

    def progressed(self) -> bool:
        """Whether some, but not all, of the bytes written have left since the last call."""
        raise NotImplementedError

    def abort(self) -> None:
        """End the response early, so that the client sees that it is incomplete."""
        raise NotImplementedError
