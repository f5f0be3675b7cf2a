"""A WSGI application (PEP 3333) served as an ASGI one.

Each request has a thread of a pool, which calls the application, iterates over the response and closes it. The event
loop sends what the thread hands over while the thread goes on; only when _WRITE_MARK bytes wait to be sent, it waits
too. The request's body is received when the application reads it (see `environ`).

Once the client has left, which is looked for while a response is sent in parts, the next part raises in the thread: so
that response is closed, and the thread is free for others.
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
from flowserve.wsgi.environ import environ_of
from flowserve.wsgi.request_body import Incoming
from flowserve.wsgi.threads import ThreadPool

_WRITE_MARK = 65536
"""Bytes of a response that may wait to be sent before its thread waits."""
_STATUS = re.compile(r"([2-9]\d\d)(?: .*)?", re.ASCII)

Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
WSGIApplication: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]


class WSGIAdapter:
    """The ASGI 3 application that serves `app`.

    At most `threads` requests run at a time, further ones wait in line. `multiprocess` is what the application is told
    of other processes that may run it too. A request for a WebSocket is answered as the GET that it is: a server may
    ignore Upgrade (RFC 9110 section 7.8).
    """

    def __init__(self, app: WSGIApplication, threads: int, multiprocess: bool) -> None:
        self._app = app
        self._pool = ThreadPool(threads)
        self._same = {"wsgi.multithread": threads > 1, "wsgi.multiprocess": multiprocess}

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan. Raises what `app` raises."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
            receive, send = _without_body(receive), partial(_deny, send)
        incoming = Incoming(receive)
        environ = environ_of(scope, incoming) | self._same
        response = _Response(environ["REQUEST_METHOD"], incoming, send)
        self._pool.submit(partial(copy_context().run, response.make, self._app, environ))
        await response.send()

    async def _live(self, receive: Receive, send: Send) -> None:
        """WSGI has no lifespan; only the threads end with the server."""
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._pool.close()
        await send({"type": "lifespan.shutdown.complete"})


def _without_body(receive: Receive) -> Receive:
    """The events of a GET in place of a WebSocket's that is not accepted."""
    events = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def next_event() -> Message:
        event = next(events, None)
        if event is None:
            await receive()  # websocket.disconnect
        return event or {"type": "http.disconnect"}

    return next_event


async def _deny(send: Send, message: Message) -> None:
    """Send an HTTP event as one of a denial response, which is what a request for a WebSocket can be answered with."""
    await send({**message, "type": f"websocket.{message['type']}"})


class _Response:
    """One response: a thread makes it, in `make()`, and the event loop sends it, in `send()`.

    What the two share is guarded by `_changed`. The thread waits on it while there is no room, the loop waits for
    `_alarm` while there is nothing to send.
    """

    def __init__(self, method: str, incoming: Incoming, send: Send) -> None:
        self._incoming = incoming
        self._send = send
        self._loop = asyncio.get_running_loop()
        # the thread's
        self._head: Message | None = None
        self._method = method
        self._bodiless = False
        self._begun = False  # the head can't be changed any more
        self._complete = False
        self._left: int | None = None  # bytes of body that the Content-Length has room for, if it counts
        # the event loop's
        self._alarm: asyncio.Future[None] | None = None
        self._head_sent = False
        # shared
        self._changed = threading.Condition(threading.Lock())
        self._parts: list[bytes] = []  # of the body
        self._more = True  # parts come after these
        self._waiting = 0  # bytes that are not sent yet
        self._awake = False  # the loop looks, or is going to
        self._made = False  # the thread is done
        self._error: BaseException | None = None  # what the application has raised
        self._refused: Exception | None = None  # why nothing can be sent any more
        self._cut = False  # the loop does not wait for the thread any more

    # In the event loop

    async def send(self) -> None:
        """Send what the thread hands over, until it is done. Raises what the application has raised."""
        try:
            while await self._send_next():
                pass
            self._raise_error()
        finally:
            self._incoming.close()
            self._cut = True
            self._refuse(ClientDisconnected("the request was cut short"))

    async def _send_next(self) -> bool:
        """Send what has been handed over, or wait for it. Returns whether more may come."""
        with self._changed:
            parts, self._parts = self._parts, []
            more, made = self._more, self._made
            self._awake = bool(parts) or made
        if parts:
            await self._send_body(parts[0] if len(parts) == 1 else b"".join(parts), more)
        elif not made:
            self._alarm = self._loop.create_future()
            await self._alarm
        return not made

    async def _send_body(self, body: bytes, more: bool) -> None:
        if self._refused is None:
            try:
                if self._head is not None and not self._head_sent:
                    self._head_sent = True
                    await self._send(self._head)
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
            except Exception as error:
                self._refuse(error)
        if more:
            self._incoming.watch(self._client_left)
        with self._changed:
            self._waiting -= len(body)
            self._changed.notify()

    def _client_left(self) -> None:
        self._refuse(ClientDisconnected("the client has left"))

    def _refuse(self, error: Exception) -> None:
        with self._changed:
            self._refused = self._refused or error
            self._changed.notify()

    def _raise_error(self) -> None:
        error, self._error = self._error or self._refused, None
        try:
            if isinstance(self._refused, ClientDisconnected) and error is self._refused:
                return  # nobody is there to miss the rest
            if isinstance(error, Exception):
                raise error
            if error is not None:  # SystemExit and the like, which would end more than this request
                raise RuntimeError(f"the application raised {type(error).__name__}") from error
        finally:
            del error  # its traceback leads here

    def _ring(self) -> None:
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    # In the thread

    def make(self, app: WSGIApplication, environ: dict[str, Any]) -> None:
        """Call the application and hand over its response; what it raises, `send()` raises."""
        try:
            if not self._cut:  # while it waited for a thread
                self._respond(app, environ)
        except BaseException as error:
            self._error = error
        with self._changed:
            self._made, cut = True, self._cut
            self._wake()
        if cut and self._error is not None:
            self._report_late()

    def _report_late(self) -> None:
        error, self._error = self._error, None
        if not isinstance(error, ClientDisconnected):
            logger.error("Exception in the application, whose request had been cut short", exc_info=error)

    def _respond(self, app: WSGIApplication, environ: dict[str, Any]) -> None:
        response = app(environ, self.start_response)
        try:
            whole = isinstance(response, (list, tuple)) and len(response) == 1
            for part in response:
                if part:  # the head waits for the first one that is not empty, and may come with it
                    self._hand_over(part, not whole)
                if self._begun and self._bodiless:
                    break
            if not self._complete:
                self._hand_over(b"", False)
        finally:
            if hasattr(response, "close"):
                response.close()

    def start_response(
        self, status: str, headers: Sequence[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Set the head; again, with `exc_info`, in place of one that has not been sent. Returns write().

        Raises the error in `exc_info` if the head has been sent. Raises RuntimeError for a second call without it, and
        ValueError, TypeError or ASGIMisuse for a head that can't be sent.
        """
        if exc_info is not None and self._begun:
            try:
                raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # whose traceback leads here
        if exc_info is None and self._head is not None:
            raise RuntimeError("start_response() was called before; the second call needs exc_info (PEP 3333)")
        code, fields = _code(status), _fields(headers)
        self._head = {"type": "http.response.start", "status": code, "headers": fields}
        self._bodiless = self._method == "HEAD" or code in (204, 304)
        declared = [int(value) for name, value in fields if name == b"content-length" and value.isdigit()]
        self._left = declared[0] if declared and not self._bodiless else None
        return self._write

    def _write(self, data: bytes) -> None:
        self._hand_over(data, True)

    def _hand_over(self, data: bytes, more: bool) -> None:
        """Have a part of the body sent, and the head before the first one. `more` says that there will be others."""
        if self._head is None:
            raise RuntimeError("the response has no head: start_response() was not called (PEP 3333)")
        data, room = as_bytes(data, "a part of the body"), self._left
        if self._bodiless and (more or self._begun):
            data = b""  # or the server would take its length for that of the whole body
        self._begun = True
        if room is not None:
            self._left = max(0, room - len(data))
            more = more and self._left > 0
        if not self._complete:
            self._complete = not more
            self._put(data[:room], more)
        if room is not None and len(data) > room:
            raise RuntimeError("the response body is longer than its Content-Length")

    def _put(self, data: bytes, more: bool) -> None:
        with self._changed:
            while self._waiting >= _WRITE_MARK and self._refused is None:
                self._changed.wait()
            if self._refused is not None:
                raise self._refused
            self._parts.append(data)
            self._more = more
            self._waiting += len(data)
            self._wake()

    def _wake(self) -> None:
        if not self._awake and not self._cut:
            self._awake = True
            self._loop.call_soon_threadsafe(self._ring)


def _code(status: str) -> int:
    match = _STATUS.fullmatch(status)
    if match is None:
        raise ValueError(f"the status must be like '200 OK', not {status!r}")
    return int(match[1])


def _fields(headers: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them. Raises what `checked_fields()` raises, and ValueError for other characters."""
    for name, value in headers:
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"a header must be two str: (name, value), not {(name, value)!r}")
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return [(name, value) for name, value, _ in checked_fields(encoded)]
