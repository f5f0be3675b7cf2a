"""Serves a WSGI application (PEP 3333) as an ASGI application.

Each request occupies one thread of a pool, which calls the application, iterates over the response and closes it. The
event loop sends the parts that the thread produces while the thread continues; the thread waits only while _WRITE_MARK
bytes are unsent. The request body is received when the application reads it (see `environ`).

While a response is sent in parts, the server watches for the client's disconnect. After it, the next part raises in the
thread, so that the response is closed and the thread is free for other requests.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any, TypeAlias

from flowserve.errors import ClientDisconnected
from flowserve.http.messages import as_bytes
from flowserve.http.response_encoder import checked_fields
from flowserve.logs.loggers import logger
from flowserve.wsgi.environ import build_environ
from flowserve.wsgi.request_body import RequestMessages
from flowserve.wsgi.threads import ThreadPool

_WRITE_MARK = 65536
"""The thread of a response waits while this many bytes of it are unsent."""
_STATUS = re.compile(r"([2-9]\d\d)(?: .*)?", re.ASCII)

Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
WSGIApplication: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]


class WSGIAdapter:
    """An ASGI 3 application that serves the WSGI application `app`.

    At most `threads` requests run at a time, further ones are queued. `multiprocess` becomes wsgi.multiprocess: whether
    other processes may run the application too. A WebSocket handshake is answered as the GET request that it is: a
    server may ignore Upgrade (RFC 9110 section 7.8).
    """

    def __init__(self, app: WSGIApplication, threads: int, multiprocess: bool) -> None:
        self._app = app
        self._pool = ThreadPool(threads)
        self._constant_environ = {"wsgi.multithread": threads > 1, "wsgi.multiprocess": multiprocess}

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan. Raises what `app` raises."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
            return
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
            receive, send = _receive_without_body(receive), partial(_send_denial, send)
        messages = RequestMessages(receive)
        environ = build_environ(scope, messages) | self._constant_environ
        response = _Response(environ["REQUEST_METHOD"], messages, send)
        self._pool.submit(partial(copy_context().run, response.run, self._app, environ))
        await response.send()

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        """WSGI has no lifespan: shutdown only ends the threads."""
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._pool.close()
        await send({"type": "lifespan.shutdown.complete"})


def _receive_without_body(receive: Receive) -> Receive:
    """Return a receive() with the events of a GET without a body, for a WebSocket that is not accepted."""
    events = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def next_event() -> Message:
        event = next(events, None)
        if event is None:
            await receive()  # websocket.disconnect
        return event or {"type": "http.disconnect"}

    return next_event


async def _send_denial(send: Send, message: Message) -> None:
    """Send an HTTP event as the corresponding event of the WebSocket Denial Response extension."""
    await send({**message, "type": f"websocket.{message['type']}"})


class _Response:
    """One response: a thread produces it in `run()`, and the event loop sends it in `send()`.

    `_condition` guards the state that both use. The thread waits on it while too much is unsent; the event loop waits
    for the future `_wakeup` while there is nothing to send.
    """

    def __init__(self, method: str, messages: RequestMessages, send: Send) -> None:
        self._messages = messages
        self._send = send
        self._loop = asyncio.get_running_loop()
        # used by the thread only
        self._head: Message | None = None
        self._method = method
        self._bodiless = False
        self._head_final = False  # the head is queued and can't be replaced any more
        self._complete = False
        self._length_left: int | None = None  # bytes of body that Content-Length still allows; None without it
        # used by the event loop only
        self._wakeup: asyncio.Future[None] | None = None
        self._head_sent = False
        # shared
        self._condition = threading.Condition(threading.Lock())
        self._parts: list[bytes] = []  # queued parts of the body
        self._more_body = True  # further parts follow the queued ones
        self._unsent = 0  # bytes that are queued and not sent yet
        self._loop_awake = False  # the event loop is sending, or its wakeup is scheduled
        self._finished = False  # the thread has finished
        self._error: BaseException | None = None  # what the application raised
        self._send_error: Exception | None = None  # why no more parts can be sent
        self._abandoned = False  # the event loop no longer waits for the thread

    # In the event loop

    async def send(self) -> None:
        """Send the parts that the thread queues until it has finished. Raises what the application raised."""
        try:
            while await self._send_next():
                pass
            self._raise_error()
        finally:
            self._messages.close()
            self._abandoned = True
            self._set_send_error(ClientDisconnected("the request was cut short"))

    async def _send_next(self) -> bool:
        """Send the queued parts, or wait for some. Returns whether more may follow."""
        with self._condition:
            parts, self._parts = self._parts, []
            more, made = self._more_body, self._finished
            self._loop_awake = bool(parts) or made
        if parts:
            await self._send_body(parts[0] if len(parts) == 1 else b"".join(parts), more)
        elif not made:
            self._wakeup = self._loop.create_future()
            await self._wakeup
        return not made

    async def _send_body(self, body: bytes, more: bool) -> None:
        if self._send_error is None:
            try:
                if self._head is not None and not self._head_sent:
                    self._head_sent = True
                    await self._send(self._head)
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
            except Exception as error:
                self._set_send_error(error)
        if more:
            self._messages.watch(self._client_left)
        with self._condition:
            self._unsent -= len(body)
            self._condition.notify()

    def _client_left(self) -> None:
        self._set_send_error(ClientDisconnected("the client has left"))

    def _set_send_error(self, error: Exception) -> None:
        with self._condition:
            self._send_error = self._send_error or error
            self._condition.notify()

    def _raise_error(self) -> None:
        error, self._error = self._error or self._send_error, None
        try:
            if isinstance(self._send_error, ClientDisconnected) and error is self._send_error:
                return  # the client is gone: the rest is not missed
            if isinstance(error, Exception):
                raise error
            if error is not None:  # SystemExit and the like would end more than this request
                raise RuntimeError(f"the application raised {type(error).__name__}") from error
        finally:
            del error  # its traceback refers to this frame: a reference cycle

    def _resolve_wakeup(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    # In the thread

    def run(self, app: WSGIApplication, environ: dict[str, Any]) -> None:
        """Call the application and queue its response. What the application raises, `send()` raises."""
        try:
            if not self._abandoned:  # while the request waited for a thread
                self._respond(app, environ)
        except BaseException as error:
            self._error = error
        with self._condition:
            self._finished, cut = True, self._abandoned
            self._wake_loop()
        if cut and self._error is not None:
            self._log_late_error()

    def _log_late_error(self) -> None:
        error, self._error = self._error, None
        if not isinstance(error, ClientDisconnected):
            logger.error("Exception in the application, whose request had been cut short", exc_info=error)

    def _respond(self, app: WSGIApplication, environ: dict[str, Any]) -> None:
        response = app(environ, self.start_response)
        try:
            single_part = isinstance(response, (list, tuple)) and len(response) == 1
            for part in response:
                if part:  # the head waits for the first non-empty part (PEP 3333), and may leave with it
                    self._queue_body(part, not single_part)
                if self._head_final and self._bodiless:
                    break
            if not self._complete:
                self._queue_body(b"", False)
        finally:
            if hasattr(response, "close"):
                response.close()

    def start_response(
        self, status: str, headers: Sequence[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """The start_response() of PEP 3333: set the head; with `exc_info`, replace a head that has not been sent.
        Returns write().

        Raises the error in `exc_info` if the head has been sent. Raises RuntimeError for a second call without it, and
        ValueError, TypeError or ASGIMisuse for a head that can't be sent.
        """
        if exc_info is not None and self._head_final:
            try:
                raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # its traceback refers to this frame: a reference cycle
        if exc_info is None and self._head is not None:
            raise RuntimeError("start_response() was called before; the second call needs exc_info (PEP 3333)")
        code, fields = _parse_status(status), _encode_headers(headers)
        self._head = {"type": "http.response.start", "status": code, "headers": fields}
        self._bodiless = self._method == "HEAD" or code in (204, 304)
        declared = [int(value) for name, value in fields if name == b"content-length" and value.isdigit()]
        self._length_left = declared[0] if declared and not self._bodiless else None
        return self._write

    def _write(self, data: bytes) -> None:
        self._queue_body(data, True)

    def _queue_body(self, data: bytes, more: bool) -> None:
        """Queue a part of the body, behind the head if it is the first. `more` says that others follow."""
        if self._head is None:
            raise RuntimeError("the response has no head: start_response() was not called (PEP 3333)")
        data, allowed = as_bytes(data, "a part of the body"), self._length_left
        if self._bodiless and (more or self._head_final):
            data = b""  # the server would take its length for the Content-Length of the whole body
        self._head_final = True
        if allowed is not None:
            self._length_left = max(0, allowed - len(data))
            more = more and self._length_left > 0
        if not self._complete:
            self._complete = not more
            self._queue_part(data[:allowed], more)
        if allowed is not None and len(data) > allowed:
            raise RuntimeError("the response body is longer than its Content-Length")

    def _queue_part(self, data: bytes, more: bool) -> None:
        with self._condition:
            while self._unsent >= _WRITE_MARK and self._send_error is None:
                self._condition.wait()
            if self._send_error is not None:
                raise self._send_error
            self._parts.append(data)
            self._more_body = more
            self._unsent += len(data)
            self._wake_loop()

    def _wake_loop(self) -> None:
        if not self._loop_awake and not self._abandoned:
            self._loop_awake = True
            self._loop.call_soon_threadsafe(self._resolve_wakeup)


def _parse_status(status: str) -> int:
    match = _STATUS.fullmatch(status)
    if match is None:
        raise ValueError(f"the status must be like '200 OK', not {status!r}")
    return int(match[1])


def _encode_headers(headers: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return the header fields as ASGI has them. Raises what `checked_fields()` raises, and UnicodeEncodeError, a
    ValueError, for characters beyond Latin-1."""
    for name, value in headers:
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"a header must be two str: (name, value), not {(name, value)!r}")
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return [(name, value) for name, value, _ in checked_fields(encoded)]
