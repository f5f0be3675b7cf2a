"""The events of a session besides its messages."""

from __future__ import annotations

from typing import Protocol


class Monitor(Protocol):
    """The owner of a `Session`, whose methods the session calls; a class that derives from this one need not have all.

    A session has one monitor; a later one passes `_on_lost()` on to the one before. The names are private because an
    object that users see, such as `WebSocket`, can be a monitor.
    """

    def _on_data(self) -> None:
        """Bytes have come from the peer, and no message or end with them."""
        return

    def _on_ping(self, payload: bytes) -> None:
        """The keepalive is about to send a ping."""
        return

    def _on_pong(self, payload: bytes) -> None:
        """A pong has come."""
        return

    def _on_lost(self, exc: Exception | None) -> None:
        """The transport is gone, because of `exc` if that is not None. Called once; nothing is called afterwards."""
        return
