# cython: language_level=3, annotation_typing=False, binding=False
"""A WebSocket as ASGI events (ASGI specification, WebSocket, and the Denial Response extension)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context as Variables
from threading import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import markcoroutinefunction

from flowserve.asgi.completed import COMPLETED
from flowserve.asgi.scope import websocket_scope
from flowserve.asgi.websocket_messages import check_close, header_fields, send_payload
from flowserve.errors import LATE_ANSWER, ASGIMisuse, ClientDisconnected
from flowserve.http.messages import as_bytes
from flowserve.logs.loggers import access_http, access_websocket_close, access_websocket_open, logger
from flowserve.session.session import Session
from flowserve.transport.interfaces import Peer
from flowserve.transport.waiters import add_waiter, wake
from flowserve.websocket.constants import State

if TYPE_CHECKING:
    from flowserve.asgi.context import Context
    from flowserve.http.messages import RequestHead

TAKE_SESSION = "flowserve.take_session"
"""A key of websocket.accept: called with the Session, which the application then uses itself, and with the head that
has answered."""

_OPEN = int(State.OPEN)
_CONNECTING = 0  # the application has not said yet what it wants
_ACCEPTED = 1
_DENYING = 2  # its own HTTP response is on the way
_DONE = 3  # denied, refused or given up: no WebSocket came of it
_WHY_REFUSED = {499: "client_left", 500: "application_error", 503: "shutting_down", 504: "application_timeout"}
_TEXT: dict[str, Any] = {"type": "websocket.receive", "text": ""}
_BYTES: dict[str, Any] = {"type": "websocket.receive", "bytes": b""}


def own(it: Any) -> WebSocketCycle:
    """Return `it`, a WebSocketCycle. Compiled, raises TypeError for anything else."""
    cycle: WebSocketCycle = it
    return cycle


class _Given:
    """What an application is given of a WebSocketCycle, as in `asgi.http`."""

    async def receive(self: Any) -> dict[str, Any]:
        """websocket.connect, then websocket.receive for each message, then websocket.disconnect as often as it is
        asked for."""
        cycle = own(self)
        while (event := cycle._next_event()) is None:
            if cycle._is_over():
                if cycle._told:  # whoever asks again and again must not hold up all others
                    await asyncio.sleep(0)
                cycle._told = True
                return cycle._disconnect()
            await cycle._something()
        return event

    def send(self: Any, message: dict[str, Any]) -> Awaitable[None]:
        """websocket.accept, .send, .close and .http.response.*.

        Where permessage-deflate was not agreed on, it is sent at once, and awaited until more is welcome. Awaiting
        raises ASGIMisuse for what the state does not allow, and ClientDisconnected once the WebSocket has ended.
        """
        cycle = own(self)
        session = cycle._session
        if session is not None and session.connection.deflate is not None:
            return cycle._send_in_line(message)
        if get_ident() != cycle._context.thread:  # made for asyncio.run_coroutine_threadsafe()
            return cycle._send_in_line(message)
        try:
            drain = cycle._send(message)
        except Exception as error:
            cycle._told = cycle._told or isinstance(error, ClientDisconnected)
            return _failed(error)
        return COMPLETED if drain is None else drain


class WebSocketCycle:
    """One WebSocket, from the request that asks for it to its end.

    Until the application accepts, the stream tells `disconnected()`, and can be asked for an HTTP response; then the
    session takes over.
    """

    __slots__ = (
        "_client",
        "_context",
        "_denied",
        "_deny_status",
        "_greeted",
        "_raw_target",
        "_request",
        "_session",
        "_started_at",
        "_state",
        "_stream",
        "_told",
        "_variables",
        "_waiters",
        "deadline",
        "tick",
    )

    def __init__(self, request: RequestHead, stream: Any, context: Context) -> None:
        """`stream` is a ResponseStream that also has `agree(subprotocol) -> str | None`, asked for one that the
        application names, `accept(subprotocol, headers) -> Session`, and then `switching`, the head that it sent."""
        self._request: RequestHead | None = request
        self._raw_target = request.target
        self._stream = stream
        self._client = stream.peer.client
        self._context = context
        self._session: Session | None = None
        self._state = _CONNECTING
        self._greeted = False
        self._told = False  # the application knows of the end, by websocket.disconnect or an exception
        self._deny_status = 0
        self._denied = False  # the head of its own response is on its way
        self._started_at = perf_counter()
        self._waiters: list[asyncio.Future[None]] | None = None
        self._variables: Variables = context.variables  # the application's, until its last access line is written
        self.deadline = 0.0
        self.tick = 0

    def run(self, subprotocols: list[str]) -> None:
        """Call the application."""
        context = self._context
        request: Any = self._request
        scope = websocket_scope(request, subprotocols, self._stream.peer, context)
        context.timers.set(self, context.loop.time() + context.config.timeout_handshake)
        context.websockets += 1
        self._variables = context.call_app(self, scope)

    # What the application calls

    receive = _Given.receive
    send = _Given.send

    def _next_event(self) -> dict[str, Any] | None:
        session = self._session
        if session is None:
            if not self._greeted:
                self._greeted = True
                return {"type": "websocket.connect"}
            return None
        if not session.ready() or not session.connection.waiting:
            return None
        message = session.take()
        if isinstance(message, str):
            event = _TEXT.copy()
            event["text"] = message
        else:
            event = _BYTES.copy()
            event["bytes"] = message
        return event

    def _is_over(self) -> bool:
        """Whether no event but websocket.disconnect will come."""
        return self._state == _DONE if self._session is None else self._session.ready()

    def _disconnect(self) -> dict[str, Any]:
        session = self._session
        code, reason = (1006, "") if session is None else (session.close_code, session.close_reason)
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    def _something(self) -> Awaitable[None]:
        """Return an awaitable that is done when there may be an event."""
        return self._wait() if self._session is None else self._session.wait()

    async def _send_in_line(self, message: dict[str, Any]) -> None:
        """Send when it is awaited, not before: where one message may take long to compress the next has its place in
        line then, and from another thread it must be the event loop's that sends."""
        try:
            drain = self._send(message)
            if drain is not None:
                await drain
        except ClientDisconnected:
            self._told = True
            raise

    def _send(self, message: dict[str, Any]) -> Awaitable[None] | None:
        """Send. Returns what to wait for before more is welcome."""
        kind = message["type"]
        session = self._session
        if session is not None:
            if kind == "websocket.send":
                payload = send_payload(message if type(message) is dict else dict(message))
                if session.connection.deflate is not None:
                    return session.transmit(payload, message.get("compress"))
                return session.drain() if session.send(payload) else None
            if kind != "websocket.close":
                raise ASGIMisuse(f"unexpected {kind!r}: the WebSocket has been accepted")
            self._close(message, session)
            return None
        if self._state == _DONE:
            raise ClientDisconnected("the client has left, or was turned away")
        return self._stream.drain() if self._handshake(kind, message) else None

    def _close(self, message: dict[str, Any], session: Session) -> None:
        code, reason = message.get("code"), message.get("reason") or ""
        if code is None:
            code = 1000
        check_close(code, reason)
        session.close(code, str.__str__(reason))

    def _handshake(self, kind: str, message: dict[str, Any]) -> bool:
        """What may come before the WebSocket is open. Returns whether to wait for the stream to drain."""
        if self._state == _CONNECTING:
            if kind == "websocket.accept":
                self._accept(message)
            elif kind == "websocket.close":
                self._refuse(403, "Forbidden")  # whatever code and reason are: neither reaches the client
            elif kind == "websocket.http.response.start":
                status = message.get("status")
                self._stream.start_response(status, message.get("headers") or ())
                self._deny_status = int(status)  # type: ignore[arg-type]
                self._state = _DENYING
            else:
                raise ASGIMisuse(f"unexpected {kind!r}: accept, close or deny the WebSocket first")
            return False
        if kind != "websocket.http.response.body":
            raise ASGIMisuse(f"unexpected {kind!r} in a denial response")
        return self._deny(message)

    def _accept(self, message: dict[str, Any]) -> None:
        subprotocol = message.get("subprotocol")
        stream = self._stream
        if subprotocol is not None:
            if not isinstance(subprotocol, str):
                raise ASGIMisuse(f"'subprotocol' must be str, not {type(subprotocol).__name__}")
            subprotocol = stream.agree(str.__str__(subprotocol))
        session = stream.accept(subprotocol, header_fields(message.get("headers") or ()))
        session.monitor = self
        self._stream = self._request = None  # the session has taken over
        self._context.timers.cancel(self)
        self._state = _ACCEPTED
        self._session = session
        self._wake()
        take = message.get(TAKE_SESSION)
        if take is not None:
            self._told = True  # of the end the session will tell
            take(session, stream.switching)
        if self._context.config.access_log:
            access_websocket_open(self._name(), self._target(), subprotocol)

    def _deny(self, message: dict[str, Any]) -> bool:
        body = as_bytes(message.get("body", b""), "'body'")
        more = bool(message.get("more_body", False))
        drain: bool = self._stream.send_body(body, more)
        self._denied = True
        if not more:
            self._end(self._deny_status)
            self._stream.finished()
        return drain

    def _refuse(self, status: int, detail: str) -> None:
        self._end(status)
        self._stream.send_error(status, detail)

    def _end(self, status: int) -> None:
        """No WebSocket came of it."""
        context = self._context
        context.refused("denied" if self._state == _DENYING else _WHY_REFUSED.get(status, "denied"))
        self._state = _DONE
        context.websockets -= 1
        context.timers.cancel(self)
        self._wake()
        request = cast(Any, self._request)
        seconds = perf_counter() - self._started_at
        if context.metrics is not None:
            context.metrics.request(request.method, status, seconds)
        if context.config.access_log:
            access_http(self._name(), request.method, self._target(), request.http_version, status, seconds)
        self._variables = context.variables  # the application's may hold whatever refers to this

    # While the application decides

    def disconnected(self) -> None:
        """The client has left before the WebSocket was accepted."""
        if self._state in (_CONNECTING, _DENYING):
            self._in_context(self._end, self._deny_status or 499)

    def shutdown(self) -> None:
        """The server stops before the application has decided."""
        if self._state == _CONNECTING:
            self._in_context(self._refuse, 503, "The server is shutting down")

    def on_deadline(self, now: float) -> None:
        """The application took too long to accept or deny."""
        if self._state == _CONNECTING:
            self._in_context(self._time_out)

    def _time_out(self) -> None:
        logger.error("The application neither accepted nor denied a WebSocket in time (--timeout-handshake)")
        self._refuse(*LATE_ANSWER)

    def _in_context(self, function: Callable[..., None], *args: Any) -> None:
        """Call `function` in the context of the application's call, for the sake of what it logs; a copy, as the
        application may be running in it."""
        self._variables.copy().run(function, *args)

    def _wait(self) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = self._context.loop.create_future()
        self._waiters = add_waiter(self._waiters, waiter)
        return waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        wake(waiters)

    # The end

    def is_unheard(self) -> bool:
        """Whether the connection is gone, and the application, which could know it from receive(), has not asked."""
        return self._session is not None and self._session.lost and not self._told

    def has_ended(self) -> bool:
        """Whether receive() gives the disconnect, when all messages are taken."""
        session = self._session
        if session is None:
            return self._state == _DONE
        return session.lost or session.connection.state != _OPEN

    def app_done(self, failed: bool) -> None:
        """The application has returned, or raised (`failed`)."""
        if self._session is not None:
            self._session.close(1011 if failed else 1000)
        elif self._state == _DENYING and self._denied:
            self._end(self._deny_status)
            self._stream.abort()
        elif self._state != _DONE:
            if not failed:
                logger.error("The application returned without accepting or denying the WebSocket")
            self._refuse(500, "Internal Server Error")

    # As the Monitor of its session

    def _on_data(self) -> None:
        pass

    def _on_ping(self, payload: bytes) -> None:
        pass

    def _on_pong(self, payload: bytes) -> None:
        pass

    def _on_lost(self, exc: Exception | None) -> None:
        self._context.websockets -= 1
        if self._context.config.access_log:
            self._in_context(self._log_close)
        self._variables = self._context.variables

    def _log_close(self) -> None:
        session = cast("Session", self._session)
        connection = session.connection
        access_websocket_close(
            self._name(),
            self._target(),
            session.close_code,
            perf_counter() - self._started_at,
            connection.messages_in,
            connection.bytes_in,
            connection.messages_out,
            connection.bytes_out,
            session.dropped,
        )

    def _name(self) -> str:
        return str(Peer(self._client, None, False))

    def _target(self) -> str:
        return self._context.target_for_log(self._raw_target)


# Of all connections' methods at once: a mark on each would take memory. asgiref's async_to_sync() warns without it.
with suppress(AttributeError):  # compiled functions can't be marked in Python 3.10
    markcoroutinefunction(WebSocketCycle.send)


async def _failed(error: Exception) -> None:
    raise error
