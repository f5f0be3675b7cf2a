"""The opening handshake as the callbacks of a server get it, before the WebSocket is opened."""

from __future__ import annotations

import uuid
from typing import Any

from flowserve.library.data import plain_str
from flowserve.library.messages import Request, Response, make_response, unpack_request
from flowserve.library.websocket import WebSocket
from flowserve.logs.redaction import redact_target

_PLAIN_TEXT = (b"content-type", b"text/plain; charset=utf-8")


class Handshake:
    """An opening handshake that has not been answered yet; `process_request` and the other callbacks get it.

    They may set attributes on it, `handshake.user = ...`, which the handler finds on the WebSocket, `ws.user`. Setting
    one of its own attributes or one that a WebSocket has raises AttributeError; only `logger` can be replaced.
    """

    __slots__ = ("__dict__", "_id", "_local_address", "_remote_address", "_request")

    logger = WebSocket.logger
    """The logger that the WebSocket will have."""

    def __init__(self, request: Request | bytes, remote_address: Any, local_address: Any) -> None:
        """`request` may be bytes as `messages.pack()` returns them; they are decoded when first read."""
        self._request: Request | bytes
        self._id: uuid.UUID | None
        self._remote_address: Any
        self._local_address: Any
        set_slot = object.__setattr__
        set_slot(self, "_request", request)
        set_slot(self, "_remote_address", remote_address)
        set_slot(self, "_local_address", local_address)
        set_slot(self, "_id", None)

    @property
    def request(self) -> Request:
        """The client's request."""
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
        """The client's address as a socket's getpeername() returns it, or as a trusted proxy reported it."""
        return self._remote_address

    @property
    def local_address(self) -> Any:
        """The address of this end of the connection, in the same form."""
        return self._local_address

    def respond(self, status: int, text: str) -> Response:
        """Return a plain-text response with a status code and a body, for `process_request` or `process_response` to
        return."""
        return make_response(int(status), [_PLAIN_TEXT], plain_str(text).encode())

    def _copy_attributes_to(self, ws: WebSocket) -> None:
        """Copy the attributes that callbacks have set here to `ws`, and the `id`."""
        if self._id is not None:
            ws._id = self._id
        if self.__dict__:
            vars(ws).update(self.__dict__)

    def __repr__(self) -> str:
        return f"<Handshake of {self._remote_address!r} for {redact_target(self.request.path)!r}>"

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "logger" and (hasattr(Handshake, name) or hasattr(WebSocket, name)):
            raise AttributeError(f"{name!r} can't be set on a Handshake: it is one of its own, or of the WebSocket's")
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and hasattr(WebSocket, name):
            raise AttributeError(f"a Handshake has no {name!r}: there is no WebSocket before it is answered")
        raise AttributeError(f"this Handshake has no attribute {name!r}; nobody has set it")
