"""The ASGI application that `serve()` runs: it answers opening handshakes and calls the handler."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from flowserve.asgi.application_errors import holds_only
from flowserve.asgi.websocket import TAKE_SESSION
from flowserve.errors import LATE_ANSWER, HandshakeError
from flowserve.hosting.handshake import Handshake
from flowserve.hosting.policy import Fields, HandshakePolicy, answer_of
from flowserve.library.close_errors import is_closed_error_of
from flowserve.library.messages import pack
from flowserve.library.properties import session_of
from flowserve.library.timeout import Deadline
from flowserve.library.websocket import WebSocket
from flowserve.library.websockets_arguments import WebSocketsArguments
from flowserve.logs.loggers import logger
from flowserve.websocket.constants import CloseCode

Handler = Callable[[WebSocket], Awaitable[None]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class HandlerApp:
    """The ASGI application that accepts or refuses handshakes and calls the handler for each WebSocket."""

    def __init__(
        self, handler: Handler, policy: HandshakePolicy, websocket_arguments: WebSocketsArguments, timeout: float | None
    ) -> None:
        self.connections: set[WebSocket] = set()  # those whose handler is running
        self.idle = asyncio.Event()  # set while no handler is running
        self.idle.set()
        self.closing = False  # refuse new handshakes
        self._handler = handler
        self._policy = policy
        self._websocket_arguments = websocket_arguments
        self._timeout = timeout

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Any], send: Send) -> None:
        handshake = Handshake(_request(scope), scope["client"], scope["server"])
        if self._websocket_arguments.logger is not None:
            handshake.logger = self._websocket_arguments.logger
        try:
            subprotocol, headers = await self._check_handshake(handshake, scope)
        except HandshakeError as error:
            kind = "http.response" if scope["type"] == "http" else "websocket.http.response"
            await _respond(send, kind, await self._policy.process_refusal(handshake, error))
            return
        handed_over: list[Any] = []
        accept = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers}
        await send({**accept, TAKE_SESSION: lambda *given: handed_over.extend(given)})
        session, head = handed_over
        ws = self._websocket_arguments.apply_to(WebSocket(session, subprotocol, handshake._request, head))
        handshake._copy_attributes_to(ws)
        await self._handle(ws)

    async def _check_handshake(self, handshake: Handshake, scope: dict[str, Any]) -> tuple[str | None, Fields]:
        """Return the subprotocol and further header fields for a WebSocket to accept. Raises HandshakeError if it is
        refused, also with 504 when the callbacks, which are cancelled then, take longer than open_timeout."""
        deadline = Deadline(self._timeout if self._policy.may_wait else None)
        try:
            async with deadline:
                if scope["type"] == "http":
                    raise await self._policy.refuse_plain_request(handshake, scope["method"])
                subprotocol = await self._policy.choose_subprotocol(handshake, scope["subprotocols"])
                headers = await self._policy.process_acceptance(handshake, subprotocol, ())
        except TimeoutError:
            if not deadline.expired:
                raise
            (self._websocket_arguments.logger or logger).error(
                "The callbacks of a handshake were not done in time (open_timeout)"
            )
            raise HandshakeError(*LATE_ANSWER) from None
        if self.closing:
            raise HandshakeError(503, "The server is shutting down")
        return subprotocol, headers

    async def _handle(self, ws: WebSocket) -> None:
        self.connections.add(ws)
        self.idle.clear()
        try:
            await self._handler(ws)
        except BaseException as error:
            if holds_only(error, partial(is_closed_error_of, session_of(ws).connection)):
                logger.debug("The handler ended with %r, as its WebSocket had", error)
                return
            if self._websocket_arguments.logger is None or not isinstance(error, Exception):
                raise
            self._websocket_arguments.logger.error("The handler of a WebSocket raised an exception", exc_info=error)
            session_of(ws).close(CloseCode.INTERNAL_ERROR, "")
        finally:
            self.connections.discard(ws)
            if not self.connections:
                self.idle.set()


def _request(scope: Mapping[str, Any]) -> bytes:
    """Return the head of the request as bytes, which Handshake and WebSocket decode when it is first read."""
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    return pack(b"%b %b HTTP/1.1" % (scope.get("method", "GET").encode(), target), scope["headers"])


async def _respond(send: Send, kind: str, error: HandshakeError) -> None:
    status, headers, body = answer_of(error)
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
