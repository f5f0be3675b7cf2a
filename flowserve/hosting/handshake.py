"""The opening handshake that a server's callbacks look at, before there is a WebSocket."""

from __future__ import annotations

import uuid
from typing import Any

from flowserve.library.data import plain_str
from flowserve.library.messages import Request, Response, unpack_request
from flowserve.library.websocket import WebSocket
from flowserve.logs.redaction import shown_target

_TEXT = (b"content-type", b"text/plain; charset=utf-8")


class Handshake:
    """An opening handshake that waits for its answer.

    `process_request` and the other callbacks may set attributes on it, `handshake.user = ...`: the handler finds them
    on the WebSocket, `ws.user`. Its own, and the names of what a WebSocket has, can't be set.
    """

    __slots__ = ("__dict__", "_id", "_local", "_remote", "_request")

    logger = WebSocket.logger

    def __init__(self, request: Request | bytes, remote_address: Any, local_address: Any) -> None:
        """`request` may be bytes, as of `heads.pack()`."""
        self._request: Request | bytes
        self._id: uuid.UUID | None
        self._remote: Any
        self._local: Any
        own = object.__setattr__
        own(self, "_request", request)
        own(self, "_remote", remote_address)
        own(self, "_local", local_address)
        own(self, "_id", None)

    @property
    def request(self) -> Request:
        """What the client asks for."""
        request = self._request
        if isinstance(request, bytes):
            request = unpack_request(request)
            object.__setattr__(self, "_request", request)
        return request

    @property
    def id(self) -> uuid.UUID:
        """The `id` that the WebSocket will have."""
        found = self._id
        if found is None:
            found = uuid.uuid4()
            object.__setattr__(self, "_id", found)
        return found

    @property
    def remote_address(self) -> Any:
        """The client's address as a socket's getpeername() gives it, or as a trusted proxy does."""
        return self._remote

    @property
    def local_address(self) -> Any:
        """This end's address, likewise."""
        return self._local

    def respond(self, status: int, text: str) -> Response:
        """Return a plain-text response, to be returned by `process_request` or `process_response`."""
        return Response.made_of(int(status), [_TEXT], plain_str(text).encode())

    def hand_over(self, ws: WebSocket) -> WebSocket:
        """Give `ws` what the callbacks have set here; return it."""
        if self._id is not None:
            ws._id = self._id
        if self.__dict__:
            vars(ws).update(self.__dict__)
        return ws

    def __repr__(self) -> str:
        return f"<Handshake of {self._remote!r} for {shown_target(self.request.path)!r}>"

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "logger" and (hasattr(Handshake, name) or hasattr(WebSocket, name)):
            raise AttributeError(f"{name!r} can't be set on a Handshake: it is one of its own, or of the WebSocket's")
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and hasattr(WebSocket, name):
            raise AttributeError(f"a Handshake has no {name!r}: there is no WebSocket before it is answered")
        raise AttributeError(f"this Handshake has no attribute {name!r}; nobody has set it")
