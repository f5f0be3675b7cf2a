# cython: language_level=3, annotation_typing=False, binding=False
"""A WebSocket as ASGI events (ASGI specification, WebSocket, and the WebSocket Denial Response extension)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context as Variables
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import markcoroutinefunction

from flowserve.asgi.completed import COMPLETED, raise_when_awaited
from flowserve.asgi.scope import TOPICS, websocket_scope
from flowserve.asgi.websocket_messages import check_close, header_fields, send_payload
from flowserve.errors import LATE_ANSWER, ASGIMisuse, ClientDisconnected
from flowserve.http.messages import as_bytes
from flowserve.logs.loggers import access_websocket_close, access_websocket_open, logger
from flowserve.session.session import Session
from flowserve.transport.bases import ResponseStream
from flowserve.transport.interfaces import Peer
from flowserve.transport.waiters import add_waiter, wake
from flowserve.websocket.constants import State

if TYPE_CHECKING:
    from flowserve.asgi.context import Context
    from flowserve.http.messages import RequestHead

TAKE_SESSION = "flowserve.take_session"
"""A key of websocket.accept; its value is called with the Session, which the application then uses itself, and the head
of the 101."""

_OPEN = int(State.OPEN)
_CONNECTING = 0  # the application has neither accepted nor denied the WebSocket
_ACCEPTED = 1  # there is a session
_DENYING = 2  # the application sends a denial response
_REFUSED = 3  # the opening handshake has ended without a WebSocket
_REFUSAL_REASONS = {499: "client_left", 500: "application_error", 503: "shutting_down", 504: "application_timeout"}
_TEXT: dict[str, Any] = {"type": "websocket.receive", "text": ""}
_BYTES: dict[str, Any] = {"type": "websocket.receive", "bytes": b""}


def own(it: Any) -> WebSocketCycle:
    """Return `it` with the type WebSocketCycle. Compiled, raises TypeError for anything else."""
    cycle: WebSocketCycle = it
    return cycle


class UpgradeStream(ResponseStream):
    """Carries the opening handshake of a WebSocket, which it can also answer like any other request."""

    __slots__ = ("switching",)

    switching: bytes
    """The head of the 101, after `accept()`."""

    def agree(self, subprotocol: str) -> str | None:
        """Return `subprotocol`, which the application has chosen, or None if the client does not offer it. Raises
        ASGIMisuse if it can't be a subprotocol."""
        raise NotImplementedError

    def accept(self, subprotocol: str | None, headers: Sequence[tuple[bytes, bytes]]) -> Session:
        """Send the 101 with a result of `agree()` and the application's header fields, and return the session, which
        takes the connection over. Raises ASGIMisuse for header fields that can't be sent."""
        raise NotImplementedError


class _Callables:
    """The receive() and send() of a WebSocketCycle; see `asgi.http`."""

    async def receive(self: Any) -> dict[str, Any]:
        """Return websocket.connect, then websocket.receive for each message, then always websocket.disconnect."""
        cycle = own(self)
        while (event := cycle._next_event()) is None:
            if cycle._is_disconnected():
                if cycle._disconnect_known:  # an application that calls this in a loop must not block the event loop
                    await asyncio.sleep(0)
                cycle._disconnect_known = True
                return cycle._disconnect()
            await cycle._wait_for_event()
        return event

    def send(self: Any, message: dict[str, Any]) -> Awaitable[None]:
        """Take websocket.accept, .send, .close or .http.response.*.

        Without permessage-deflate the event is sent before this returns, and awaiting the result only waits while the
        stream is over its high-water mark. Awaiting raises ASGIMisuse for an event that is wrong or that the state does
        not allow, and ClientDisconnected if the WebSocket has ended.
        """
        cycle = own(self)
        session = cycle.session
        if session is not None and session.connection.deflate is not None:
            return cycle._send_when_awaited(message)
        if threading.get_ident() != cycle._context.thread:  # called for asyncio.run_coroutine_threadsafe()
            return cycle._send_when_awaited(message)
        try:
            drain = cycle._send(message)
        except Exception as error:
            cycle._disconnect_known = cycle._disconnect_known or isinstance(error, ClientDisconnected)
            return raise_when_awaited(error)
        return COMPLETED if drain is None else drain


class WebSocketCycle:
    """One WebSocket, from its opening handshake to its end.

    Until the application accepts, the stream calls `disconnected()` if the client leaves and `timed_out()` after
    --timeout-handshake, and can send an HTTP response; then the session takes over, whose Monitor this is.
    """

    __slots__ = (
        "_bytes_sent",
        "_client",
        "_connect_received",
        "_context",
        "_denial_started",
        "_deny_status",
        "_disconnect_known",
        "_raw_target",
        "_request",
        "_started_at",
        "_state",
        "_stream",
        "_user_agent",
        "_variables",
        "_waiters",
        "session",
    )

    def __init__(self, request: RequestHead, stream: UpgradeStream, context: Context) -> None:
        self._request = request  # until the application accepts, and so the stream
        self._raw_target = request.target
        self._stream = stream
        self._client = stream.peer.client
        self._context = context
        self.session: Session | None = None
        self._state = _CONNECTING
        self._connect_received = False  # receive() has returned websocket.connect
        self._disconnect_known = False  # receive() has returned websocket.disconnect, or send() raised
        self._deny_status = self._bytes_sent = 0  # status and size of the response, if it is not accepted
        self._denial_started = False  # a part of its body was sent, and so its head
        self._user_agent: bytes | None = None  # for the access log; an object that scopes share
        self._started_at = perf_counter()
        self._waiters: list[asyncio.Future[None]] | None = None
        # those of the application's call, until its last access line is written
        self._variables: Variables = self._context.variables

    def run(self, subprotocols: list[str]) -> None:
        """Call the application. `subprotocols` are those that the client offers, in its order."""
        context = self._context
        scope = websocket_scope(self._request, subprotocols, self._stream.peer, context)
        for name, value in scope["headers"] if context.access_log else ():
            if name == b"user-agent" and self._user_agent is None:
                self._user_agent = value
        context.websockets += 1
        scope["extensions"][TOPICS] = self  # whose session `flowserve.topics` subscribes
        self._variables = context.call_app(self, scope)

    # Called by the application

    receive = _Callables.receive
    send = _Callables.send

    def _next_event(self) -> dict[str, Any] | None:
        session = self.session
        if session is None:
            if not self._connect_received:
                self._connect_received = True
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

    def _is_disconnected(self) -> bool:
        """Whether websocket.disconnect is next, if `_next_event()` is None."""
        return self._state == _REFUSED if self.session is None else self.session.ready()

    def _disconnect(self) -> dict[str, Any]:
        session = self.session
        code, reason = (1006, "") if session is None else (session.close_code, session.close_reason)
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    def _wait_for_event(self) -> Awaitable[None]:
        """Return an awaitable that is done when there may be another event."""
        return self._wait() if self.session is None else self.session.wait()

    async def _send_when_awaited(self, message: dict[str, Any]) -> None:
        """Send when this is awaited, not before: with compression in threads, messages are sent in the order in which
        they are awaited, and a call from another thread must send in that of the event loop."""
        try:
            drain = self._send(message)
            if drain is not None:
                await drain
        except ClientDisconnected:
            self._disconnect_known = True
            raise

    def _send(self, message: dict[str, Any]) -> Awaitable[None] | None:
        """Handle an event. Return an awaitable, or None if there is nothing to wait for."""
        kind = message["type"]
        session = self.session
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
        if self._state == _REFUSED:
            raise ClientDisconnected("the client has left, or was turned away")
        return self._stream.drain() if self._handle_handshake_event(kind, message) else None

    def _close(self, message: dict[str, Any], session: Session) -> None:
        code, reason = message.get("code"), message.get("reason") or ""
        if code is None:
            code = 1000
        check_close(code, reason)
        session.close(code, str.__str__(reason))

    def _handle_handshake_event(self, kind: str, message: dict[str, Any]) -> bool:
        """Handle an event before the WebSocket is open. Return whether to await `drain()` of the stream."""
        if self._state == _CONNECTING:
            if kind == "websocket.accept":
                self._accept(message if type(message) is dict else dict(message))
            elif kind == "websocket.close":
                self._refuse(403, "Forbidden")  # code and reason are for close frames
            elif kind == "websocket.http.response.start":
                status = message.get("status")
                self._stream.start_response(status, message.get("headers") or ())  # type: ignore[arg-type]
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
        self._stream = self._request = None  # type: ignore[assignment]  # the session has taken over
        self._state = _ACCEPTED
        self.session = session
        self._wake()
        if (take := message.get(TAKE_SESSION)) is not None:
            self._disconnect_known = True  # by the session
            take(session, stream.switching)
        if self._context.writes_access():
            access_websocket_open(self._client_name(), self._target_for_log(), subprotocol, self._user_agent)

    def _deny(self, message: dict[str, Any]) -> bool:
        body = as_bytes(message.get("body", b""), "'body'")
        more = bool(message.get("more_body", False))
        drain = self._stream.send_body(body, more)
        self._denial_started = True
        self._bytes_sent += len(body)
        if not more:
            self._end_handshake(self._deny_status)
            self._stream.finished()
        return drain

    def _refuse(self, status: int, detail: str) -> None:
        self._bytes_sent = len(detail)
        self._end_handshake(status)
        self._stream.send_error(status, detail)

    def _end_handshake(self, status: int) -> None:
        """End the opening handshake without a WebSocket. `status` is that of the response."""
        context = self._context
        context.count_refusal("denied" if self._state == _DENYING else _REFUSAL_REASONS.get(status, "denied"))
        self._state = _REFUSED
        context.websockets -= 1
        self._wake()
        context.response_ended(self._request, self._stream.peer, status, self._started_at, self._bytes_sent)
        self._variables = context.variables  # drop those of the call, which may refer back to this object

    # During the opening handshake

    def disconnected(self) -> None:
        """Note that the connection was lost before the WebSocket was accepted."""
        if self._state in (_CONNECTING, _DENYING):
            self._run_in_context(self._end_handshake, self._deny_status or 499)

    def shutdown(self) -> None:
        """Refuse the WebSocket, as the server stops, if the application has neither accepted nor denied it."""
        if self._state == _CONNECTING:
            self._run_in_context(self._refuse, 503, "The server is shutting down")

    def timed_out(self) -> None:
        """Refuse the WebSocket, as --timeout-handshake is over, if the application has neither accepted nor denied
        it."""
        if self._state == _CONNECTING:
            self._run_in_context(self._time_out)

    def _time_out(self) -> None:
        logger.error("The application neither accepted nor denied a WebSocket in time (--timeout-handshake)")
        self._refuse(*LATE_ANSWER)

    def _run_in_context(self, function: Callable[..., None], *args: Any) -> None:
        """Call `function`, which logs, in a copy of the context of the application's call, which may be running."""
        self._variables.copy().run(function, *args)

    def _wait(self) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = self._context.loop.create_future()
        self._waiters = add_waiter(self._waiters, waiter)
        return waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        wake(waiters)

    # The end

    def ignores_disconnect(self) -> bool:
        """Whether the connection is lost and the application does not know, as it has not called receive() since."""
        return self.session is not None and self.session.lost and not self._disconnect_known

    def has_ended(self) -> bool:
        """Whether the client has left, or the closing handshake has begun; see `application.Call`."""
        session = self.session
        if session is None:
            return self._state == _REFUSED
        return session.lost or session.connection.state != _OPEN

    def app_done(self, failed: bool) -> None:
        """Close or refuse the WebSocket: the application has returned, or raised (`failed`)."""
        if self.session is not None:
            self.session.close(1011 if failed else 1000)
        elif self._state == _DENYING and self._denial_started:
            self._end_handshake(self._deny_status)
            self._stream.abort()
        elif self._state != _REFUSED:
            if not failed:
                logger.error("The application returned without accepting or denying the WebSocket")
            self._refuse(500, "Internal Server Error")

    # As the session's Monitor

    def _on_data(self) -> None:
        pass

    def _on_ping(self, payload: bytes) -> None:
        pass

    def _on_pong(self, payload: bytes) -> None:
        pass

    def _on_lost(self, exc: Exception | None) -> None:
        self._context.websockets -= 1
        if self._context.writes_access():
            self._run_in_context(self._log_close)
        self._variables = self._context.variables

    def _log_close(self) -> None:
        session = cast("Session", self.session)
        connection = session.connection
        access_websocket_close(
            self._client_name(),
            self._target_for_log(),
            session.close_code,
            perf_counter() - self._started_at,
            connection.messages_in,
            connection.bytes_in,
            connection.messages_out,
            connection.bytes_out,
            session.dropped,
            self._user_agent,
        )

    def _client_name(self) -> str:
        return str(Peer(self._client, None, False))

    def _target_for_log(self) -> str:
        return self._context.target_for_log(self._raw_target)


# Without the mark asgiref's async_to_sync() warns. It is on the function; on each bound method it would take memory.
with suppress(AttributeError):  # compiled functions can't be marked in Python 3.10
    markcoroutinefunction(WebSocketCycle.send)
