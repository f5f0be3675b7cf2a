"""WebSocket clients for programs without asyncio: `connect()`, `unix_connect()`, `reconnect()` and `WebSocket`."""

from flowserve.sync.client import connect, reconnect, unix_connect
from flowserve.sync.websocket import WebSocket

__all__ = ["WebSocket", "connect", "reconnect", "unix_connect"]
