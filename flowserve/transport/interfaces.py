"""What a session or a request needs of whatever carries it. A leaf: only shapes, no code."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol


class Peer(NamedTuple):
    """Both ends of a connection, as the ASGI specification has them in a scope."""

    client: tuple[str, int] | None
    server: tuple[str, int | None] | None
    secure: bool
    tls: dict[str, Any] | None = None
    """The ASGI tls extension; None without TLS."""

    def __str__(self) -> str:
        if self.client is None:  # over TCP it had left before its address could be asked for
            return "unknown" if self.server is not None and self.server[1] is not None else "unix"
        host, port = self.client
        host = f"[{host}]" if ":" in host else host
        return f"{host}:{port}" if port else host  # of a proxy's client the port is seldom known


class Stream(Protocol):
    """Bytes both ways under flow control: what carries a session. `flow.TransportStream` is one, over a transport.

    Nothing here raises for a connection that is closed, ended or reset: what is written then is dropped.
    """

    write_paused: bool
    """Over the high-water mark: whoever sends should await `drain()`."""
    half_open: bool
    """Whether this end can still write after the peer has stopped writing."""

    def write(self, data: bytes | memoryview, /) -> None:
        """Send `data`, soon and in order."""

    def writelines(self, data: Sequence[bytes | memoryview], /) -> None:
        """Send the pieces, in order, without joining them."""

    def drain(self) -> Awaitable[None]:
        """Wait until writing is welcome; when it is, only let others have their turn."""

    def buffered(self) -> int:
        """Return how many bytes that were written wait in this process."""

    def unsent(self) -> int:
        """Return how many bytes that were written the peer has not taken, as far as that is known."""

    def limit_buffer(self, size: int, low: int | None = None, /) -> None:
        """Be over the high-water mark from `size` bytes on, and below it again from `low` on, by default a quarter."""

    def progressed(self) -> bool:
        """Whether some, but not yet all, of what was written has left since this was last asked."""

    def pause_writing(self) -> None:
        """The carrier is full."""

    def resume_writing(self) -> None:
        """The carrier has room again."""

    def pause_reading(self) -> None:
        """Stop the peer's bytes from coming in. Idempotent."""

    def resume_reading(self) -> None:
        """Let them come again. Idempotent."""

    def read_into(self, target: BufferTarget, /) -> None:
        """While `target.wants_buffer()`, read straight into its buffer, if the carrier can. Whoever else is given what
        comes is given b"" for that. Idempotent."""

    def end_writing(self) -> None:
        """Send what was written, then end this direction; the other one too where it can't live alone."""

    def close(self) -> None:
        """Close when all that was written is sent."""

    def abort(self) -> None:
        """Close now."""

    def lost(self) -> None:
        """The carrier is gone: wake whoever waits in `drain()`."""


class BufferTarget(Protocol):
    """Where a large payload may be read to: `websocket.connection.Connection` is one."""

    def wants_buffer(self) -> bool:
        """Whether what comes next belongs to a large payload."""

    def get_buffer(self) -> memoryview:
        """Return where to read it to, while `wants_buffer()`: never more than is missing of the payload. It is empty
        where there is no memory for it, and then `wants_buffer()` is False from now on."""

    def buffer_updated(self, size: int, /) -> None:
        """So many bytes are in `get_buffer()`."""


class ResponseStream(Protocol):
    """What carries one request and its response, whatever the HTTP version."""

    peer: Peer

    def send_continue(self) -> None:
        """The application wants the body that a client holds back (RFC 9110 section 10.1.1)."""

    def start_response(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take status and header fields, which leave with the first part of the body. Raises ASGIMisuse."""

    def send_head(self) -> None:
        """Send status and header fields, as the body keeps being waited for."""

    def send_body(self, body: bytes, more: bool) -> bool:
        """Send a part of the body. Returns whether to await `drain()`. Raises ASGIMisuse."""

    def send_error(self, status: int, detail: str) -> None:
        """Send a whole plain-text response; the last on its connection."""

    def finished(self) -> None:
        """The response is complete and the application is done with it."""

    def drain(self) -> Awaitable[None]:
        """Wait until writing is welcome; when it is, only let others have their turn."""

    def pause_reading(self) -> None:
        """Stop the body from coming in. Idempotent."""

    def resume_reading(self) -> None:
        """Let it come again. Idempotent."""

    def is_reset(self) -> bool:
        """Whether a client that has stopped writing has left altogether, as far as the carrier knows."""

    def progressed(self) -> bool:
        """Whether some, but not yet all, of what was written has left since this was last asked."""

    def abort(self) -> None:
        """Cut the response short, so that the client sees that it is not whole."""
