"""What the layers that speak a protocol and those that carry bytes pass each other. Types only."""

from __future__ import annotations

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


class BufferTarget(Protocol):
    """An object that large payloads can be read into: `websocket.connection.Connection` is one."""

    def wants_buffer(self) -> bool:
        """Whether the next bytes belong to a large payload."""

    def get_buffer(self) -> memoryview:
        """Return a buffer for them, while `wants_buffer()`; it is never longer than the missing rest of the payload. It
        is empty if memory runs out; `wants_buffer()` is False from then on."""

    def buffer_updated(self, size: int, /) -> None:
        """Note that the next `size` bytes are in `get_buffer()`."""


class LiveConnection(Protocol):
    """A connection that is not lost: a session, or a connection of a server before it becomes one."""

    def shutdown(self) -> None:
        """Close gracefully: what is in progress may complete, nothing new begins."""

    def abort(self) -> None:
        """Close now."""
