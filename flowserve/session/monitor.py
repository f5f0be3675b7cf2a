"""What a session tells of beside its messages."""

from __future__ import annotations

from typing import Protocol


class Monitor(Protocol):
    """Whoever wants to know more of a `session.Session` than its messages."""

    def fed(self) -> None:
        """Bytes have come from the peer, and no message or end with them."""

    def pinged(self, payload: bytes) -> None:
        """The keepalive has sent a ping."""

    def ponged(self, payload: bytes) -> None:
        """A pong has come."""

    def lost(self, exc: Exception | None) -> None:
        """The transport is gone, because of `exc` if there is one; nothing more is told."""
