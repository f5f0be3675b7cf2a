"""The two ends of a WebSocket, for two tasks: one receives, the other sends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowserve.library.data import Data
    from flowserve.library.fragments import Fragments, Pieces
    from flowserve.library.pings import RoundTrip
    from flowserve.library.websocket import WebSocket


class _End:
    __slots__ = ("_ws",)

    def __init__(self, ws: WebSocket) -> None:
        self._ws = ws

    @property
    def websocket(self) -> WebSocket:
        """The whole of it."""
        return self._ws

    @property
    def closed(self) -> bool:
        """As the WebSocket's, as are all names here."""
        return self._ws.closed

    @property
    def close_code(self) -> int | None:
        return self._ws.close_code

    @property
    def close_reason(self) -> str | None:
        return self._ws.close_reason

    def wait_closed(self) -> Coroutine[Any, Any, None]:
        return self._ws.wait_closed()


class Reader(_End):
    """The end that receives; `async for message in reader`, as from the WebSocket itself."""

    __slots__ = ()

    def receive(self, decode: bool | None = None) -> Coroutine[Any, Any, str | bytes]:
        return self._ws.receive(decode)

    recv = receive

    def receive_fragments(self) -> Pieces:
        return self._ws.receive_fragments()

    recv_streaming = receive_fragments

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self._ws.__aiter__()


class Writer(_End):
    """The end that sends, and closes both."""

    __slots__ = ()

    def send(
        self, message: Data | Fragments, *, text: bool | None = None, compress: bool | None = None
    ) -> Coroutine[Any, Any, None]:
        return self._ws.send(message, text=text, compress=compress)

    def send_fragmented(
        self, fragments: Fragments, *, text: bool | None = None, compress: bool | None = None
    ) -> Coroutine[Any, Any, None]:
        return self._ws.send_fragmented(fragments, text=text, compress=compress)

    def ping(self, data: Data | None = None) -> Coroutine[Any, Any, RoundTrip]:
        return self._ws.ping(data)

    def pong(self, data: Data = b"") -> Coroutine[Any, Any, None]:
        return self._ws.pong(data)

    def close(self, code: int = 1000, reason: str = "") -> Coroutine[Any, Any, None]:
        return self._ws.close(code, reason)
