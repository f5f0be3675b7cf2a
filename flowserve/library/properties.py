# cython: language_level=3, annotation_typing=False, binding=False
"""What a WebSocket says about itself."""

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
    """Return the session of a WebSocket. A subclass may have forgotten it, and whoever calls a method by its class may
    have given another object for `self`: compiled code would ask for neither.

    Raises RuntimeError and TypeError.
    """
    if not isinstance(websocket, WebSocketProperties):
        raise TypeError(f"expected a WebSocket, not an object of type {type(websocket).__name__}")
    about = websocket
    try:
        session: Session | None = about._session
    except AttributeError:
        session = None
    if session is None:
        raise RuntimeError(f"{type(websocket).__name__}.__init__() did not call WebSocket.__init__()")
    return session


class WebSocketProperties:
    """The facts about one WebSocket; WebSocket adds what it does. One object in two layers: an idle one stays small.

    `subprotocol` is the one agreed on, or None. `logger` is what this library writes to, or the one that was given.
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
        """The client's request, in either role; None where `accept()` was given none."""
        if isinstance(self._request, bytes):
            self._request = unpack_request(self._request)
        return self._request

    @property
    def response(self) -> Response | None:
        """The server's answer to it, in either role."""
        if isinstance(self._response, bytes):
            self._response = unpack_response(self._response)
        return self._response

    @property
    def id(self) -> uuid.UUID:
        """A name of its own, for logs."""
        if self._id is None:
            self._id = uuid.uuid4()
        return self._id

    @property
    def session(self) -> Session:
        """What lies beneath."""
        return session_of(self)

    @property
    def latency(self) -> float:
        """Seconds that the last ping took to be answered, the keepalive's or one of `ping()`; 0.0 before that."""
        return session_of(self).latency

    @property
    def closed(self) -> bool:
        """Whether the WebSocket has ended, or is ending; messages may still wait to be received."""
        session = session_of(self)
        return session.lost or session.connection.state != _OPEN

    @property
    def state(self) -> State:
        """OPEN; CLOSING from this end's close frame on; CLOSED when the connection beneath is gone too."""
        if session_of(self).lost:
            return State.CLOSED
        return State.CLOSING if self.closed else State.OPEN

    @property
    def close_code(self) -> int | None:
        """The peer's close code, 1005 if it gave none, 1006 if it sent no close frame; None before the end."""
        end = end_of(session_of(self))
        return None if end is None else end.code

    @property
    def close_reason(self) -> str | None:
        """The reason that went with the code."""
        end = end_of(session_of(self))
        return None if end is None else end.reason

    @property
    def local_address(self) -> Any:
        """This end's address, as a socket's getsockname() gives it."""
        return extra_info(self.transport, "sockname")

    @property
    def remote_address(self) -> Any:
        """The peer's address, as a socket's getpeername() gives it."""
        return extra_info(self.transport, "peername")

    @property
    def transport(self) -> asyncio.Transport:
        """What carries it, for `get_extra_info()`; anything else is at your own risk."""
        return cast("TransportStream", session_of(self).stream).transport
