# cython: language_level=3, annotation_typing=False, binding=False
"""The properties of a WebSocket."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

from flowserve.library.close_errors import end_of
from flowserve.library.messages import Request, Response, unpack_request, unpack_response
from flowserve.logs.loggers import logger
from flowserve.session.session import Session
from flowserve.transport.stream import extra_info
from flowserve.websocket.constants import State

if TYPE_CHECKING:
    import asyncio

    from flowserve.transport.stream import TransportStream

_OPEN = int(State.OPEN)


def session_of(websocket: Any) -> Session:
    """Return the session of a WebSocket. Raises RuntimeError if a subclass did not call `__init__()`, TypeError for
    another object, e.g. passed as `self` to a method called by its class. Compiled code checks neither by itself."""
    if not isinstance(websocket, WebSocketProperties):
        raise TypeError(f"expected a WebSocket, not an object of type {type(websocket).__name__}")
    properties = websocket  # typed in the .pxd: compiled code sees `_session` only so
    try:
        session: Session | None = properties._session
    except AttributeError:
        session = None
    if session is None:
        raise RuntimeError(f"{type(websocket).__name__}.__init__() did not call WebSocket.__init__()")
    return session


class WebSocketProperties:
    """The properties of a WebSocket. The subclass WebSocket has the methods; both are one object, as that takes less
    memory for an idle connection.

    `subprotocol` is the negotiated subprotocol (RFC 6455 section 1.9), or None. `logger` is the logger that was passed
    to `connect()`, `serve()` or `accept()`, by default "flowserve".
    """

    __slots__ = ("__dict__", "__weakref__", "_id", "_request", "_response", "_session", "subprotocol")

    logger = logger

    def __init__(
        self,
        session: Session,
        subprotocol: str | None,
        request: Request | bytes | None,
        response: Response | bytes | None,
    ) -> None:
        self._session = session
        self.subprotocol = subprotocol
        self._request = request
        self._response = response
        self._id: uuid.UUID | None = None

    def __repr__(self) -> str:
        try:
            session = session_of(self)
        except RuntimeError as error:
            return f"<{error}>"
        role = "client" if session.connection.is_client else "server"
        code = "" if self.close_code is None else f" {self.close_code}"
        return f"<{type(self).__name__} {role}, peer {self.remote_address!r}, {self.state.name}{code}>"

    @property
    def request(self) -> Request | None:
        """The request of the opening handshake, in either role."""
        if isinstance(self._request, bytes):
            self._request = unpack_request(self._request)
        return self._request

    @property
    def response(self) -> Response | None:
        """The response of the opening handshake, in either role."""
        if isinstance(self._response, bytes):
            self._response = unpack_response(self._response)
        return self._response

    @property
    def id(self) -> uuid.UUID:
        """A random UUID of this WebSocket, e.g. for logs."""
        if self._id is None:
            self._id = uuid.uuid4()
        return self._id

    @property
    def session(self) -> Session:
        """The session beneath, for what this object does not have; its methods may change with any release."""
        return session_of(self)

    @property
    def latency(self) -> float:
        """Seconds between the last answered ping, one of the keepalive or of `ping()`, and its pong; 0.0 before the
        first."""
        return session_of(self).latency

    @property
    def closed(self) -> bool:
        """Whether it is closed or closing, so that nothing can be sent; received messages may still be queued."""
        session = session_of(self)
        return session.lost or session.connection.state != _OPEN

    @property
    def state(self) -> State:
        """OPEN; CLOSING once this end has sent a close frame; CLOSED once the transport is closed."""
        if session_of(self).lost:
            return State.CLOSED
        return State.CLOSING if self.closed else State.OPEN

    @property
    def close_code(self) -> int | None:
        """The peer's close code (RFC 6455 section 7.1.5): 1005 if its close frame had none, 1006 if it sent no close
        frame; None until the WebSocket has ended."""
        end = end_of(session_of(self))
        return None if end is None else end.code

    @property
    def close_reason(self) -> str | None:
        """The reason in the peer's close frame, "" if there is none; None until the WebSocket has ended."""
        end = end_of(session_of(self))
        return None if end is None else end.reason

    @property
    def local_address(self) -> Any:
        """The address of this end, as a socket's getsockname() returns it; None if the transport does not know it."""
        return extra_info(self.transport, "sockname")

    @property
    def remote_address(self) -> Any:
        """The address of the peer, as a socket's getpeername() returns it; None if the transport does not know it."""
        return extra_info(self.transport, "peername")

    @property
    def transport(self) -> asyncio.Transport:
        """The asyncio transport, for its `get_extra_info()`; other methods would interfere with the WebSocket."""
        return cast("TransportStream", session_of(self).stream).transport
