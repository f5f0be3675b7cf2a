"""The interfaces between the layers that speak a protocol and those that carry bytes. Types only."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any, NamedTuple, Protocol


class Peer(NamedTuple):
    """Both ends of a connection, as in an ASGI scope."""

    client: tuple[str, int] | None
    """Host and port; None over a UNIX domain socket, or if the client left before its address was read."""
    server: tuple[str, int | None] | None
    """Host and port, or the path of a UNIX domain socket and None."""
    secure: bool
    """Whether the client uses TLS."""
    tls: dict[str, Any] | None = None
    """The ASGI tls extension; None without TLS."""

    def __str__(self) -> str:
        if self.client is None:  # over TCP, it left before its address was read
            return "unknown" if self.server is not None and self.server[1] is not None else "unix"
        host, port = self.client
        host = f"[{host}]" if ":" in host else host
        return f"{host}:{port}" if port else host  # 0 for the client of most proxies


class Stream(Protocol):
    """A bidirectional byte stream with flow control, which carries a session. `stream.TransportStream` implements it
    over an asyncio transport.

    No method raises if the connection is closed, half-closed or reset: data written then is dropped.
    """

    write_paused: bool
    """Whether the stream is over its high-water mark; senders should then await `drain()`."""
    half_open: bool
    """Whether this end can still write after the peer has half-closed."""

    def write(self, data: bytes | memoryview, /) -> None:
        """Send `data`, soon and in order."""

    def writelines(self, data: list[bytes | memoryview], /) -> None:
        """Send the pieces in order, like one `write()`."""

    def drain(self) -> Awaitable[None]:
        """Wait while the stream is over its high-water mark; otherwise yield to the event loop once."""

    def buffered(self) -> int:
        """Return the bytes that were written and are still in this process."""

    def unsent(self) -> int:
        """Return the bytes that were written and the peer has not acknowledged, as far as that is known."""

    def limit_buffer(self, size: int, low: int | None = None, /) -> None:
        """Set the high-water mark to `size` bytes and the low-water mark to `low`, by default a quarter of that."""

    def progressed(self) -> bool:
        """Whether some, but not all, of the bytes written have left since the last call."""

    def pause_writing(self) -> None:
        """Called when the transport is over its high-water mark."""

    def resume_writing(self) -> None:
        """Called when the transport is below its low-water mark."""

    def pause_reading(self) -> None:
        """Stop receiving. Idempotent."""

    def resume_reading(self) -> None:
        """Continue receiving. Idempotent."""

    def read_into(self, target: BufferTarget, /) -> None:
        """While `target.wants_buffer()`, read directly into its buffer, if possible. The receiver of the stream's data
        then gets b"" for each such read. Idempotent."""

    def end_writing(self) -> None:
        """Half-close after sending everything written; close if the stream can't be half-closed."""

    def close(self) -> None:
        """Close after sending everything written."""

    def abort(self) -> None:
        """Close immediately."""

    def lost(self) -> None:
        """Called when the connection is lost: wake all waiters in `drain()`."""


class BufferTarget(Protocol):
    """An object that large payloads can be read into: `websocket.connection.Connection` is one."""

    def wants_buffer(self) -> bool:
        """Whether the next bytes belong to a large payload."""

    def get_buffer(self) -> memoryview:
        """Return a buffer for them, while `wants_buffer()`; it is never longer than the missing rest of the payload. It
        is empty if memory runs out; `wants_buffer()` is False from then on."""

    def buffer_updated(self, size: int, /) -> None:
        """Note that the next `size` bytes are in `get_buffer()`."""


class ResponseStream(Protocol):
    """Carries one request and its response, in any version of HTTP."""

    peer: Peer
    """Both ends of the connection."""

    def send_continue(self) -> None:
        """Send 100 (Continue) if the client waits for it with the body (RFC 9110 section 10.1.1)."""

    def start_response(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Set status and header fields, which are sent with the first part of the body. Raises ASGIMisuse."""

    def send_head(self) -> None:
        """Send status and header fields now, without waiting for the body any longer."""

    def send_body(self, body: bytes, more: bool) -> bool:
        """Send a part of the body; `more` is false for the last. Return whether to await `drain()`. Raises
        ASGIMisuse."""

    def send_error(self, status: int, detail: str) -> None:
        """Send a complete plain-text response, the last one on its connection."""

    def finished(self) -> None:
        """Called when the response is complete and the application is done with it."""

    def drain(self) -> Awaitable[None]:
        """Wait while the stream is over its high-water mark; otherwise yield to the event loop once."""

    def pause_reading(self) -> None:
        """Stop receiving the body. Idempotent."""

    def resume_reading(self) -> None:
        """Continue receiving the body. Idempotent."""

    def is_reset(self) -> bool:
        """Whether a client that has half-closed has also reset the connection, as far as that is known."""

    def progressed(self) -> bool:
        """Whether some, but not all, of the bytes written have left since the last call."""

    def abort(self) -> None:
        """End the response early, so that the client sees that it is incomplete."""
