"""What messages are received from and sent to, whatever stands for a WebSocket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from flowserve.errors import ConnectionClosed

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class PeerLeft(Exception):
    """The client is gone."""


class Duplex(Protocol):
    """Both raise PeerLeft when the client is gone."""

    async def receive(self) -> str | bytes:
        """Wait for a message."""

    async def send(self, text: str) -> None:
        """Send a text message."""


class _ASGIDuplex:
    """A WebSocket as ASGI events."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send

    async def receive(self) -> str | bytes:
        event = await self._receive()
        if event["type"] != "websocket.receive":
            raise PeerLeft
        text = event.get("text")
        message: str | bytes = event.get("bytes") or b"" if text is None else text
        return message

    async def send(self, text: str) -> None:
        try:
            await self._send({"type": "websocket.send", "text": text})
        except OSError:
            raise PeerLeft from None
        except Exception as error:
            if type(error).__name__ in _ENDED:
                raise PeerLeft from None
            raise


_ENDED = ("WebSocketDisconnect", "WebSocketDisconnected")
"""What frameworks make of the OSError of a server."""


class _LibraryDuplex:
    """A `flowserve.WebSocket`."""

    def __init__(self, websocket: Any) -> None:
        self._websocket = websocket

    async def receive(self) -> str | bytes:
        try:
            message: str | bytes = await self._websocket.receive()
        except ConnectionClosed:
            raise PeerLeft from None
        return message

    async def send(self, text: str) -> None:
        try:
            await self._websocket.send(text)
        except ConnectionClosed:
            raise PeerLeft from None


def duplex_of(websocket: Any, receive: Receive | None, send: Send | None) -> Duplex:
    """Return what the messages of a WebSocket go through. Raises TypeError if an ASGI scope comes without its
    `receive` and `send`, or another object with them."""
    scope = getattr(websocket, "scope", websocket)  # WebSockets of Starlette are mappings, too
    if scope is websocket and isinstance(scope, Mapping):
        if receive is None or send is None:
            raise TypeError("with an ASGI scope, give serve() its receive=... and send=...")
        return _ASGIDuplex(receive, send)
    if receive is not None or send is not None:
        raise TypeError("receive=... and send=... belong to an ASGI scope")
    if scope is websocket:
        return _LibraryDuplex(websocket)
    if hasattr(websocket, "base_send"):
        raise TypeError("a consumer of Channels dispatches its messages itself: route to an ASGI application instead")
    return _ASGIDuplex(websocket.receive, websocket.send)
