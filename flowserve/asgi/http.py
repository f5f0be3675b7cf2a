# cython: language_level=3, annotation_typing=False
"""One request and its response as ASGI events (ASGI specification, HTTP)."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from flowserve import logs
from flowserve.asgi.scope import http_scope
from flowserve.context import Context
from flowserve.errors import ASGIMisuse, ClientDisconnected
from flowserve.http.messages import Request
from flowserve.stream import ResponseStream

_BODY_MARK = 65536
"""Bytes of body that may wait for the application before reading stops."""
_CLIENT_CLOSED_REQUEST = 499
"""For the access log only, as nginx has it: the client left before there was a status."""


class HTTPCycle:
    """One request, from its head to the end of its response.

    The stream tells of the request: `body_received`, `body_complete`, `half_closed`, `disconnected`. When the
    response is complete the stream is told `finished()`.
    """

    __slots__ = (
        "_body",
        "_body_complete",
        "_body_taken",
        "_complete",
        "_context",
        "_disconnected",
        "_expects_continue",
        "_half_closed",
        "_request",
        "_start",
        "_started",
        "_started_at",
        "_status",
        "_stream",
        "_waiters",
    )

    def __init__(self, request: Request, stream: ResponseStream, context: Context) -> None:
        self._request = request
        self._stream = stream
        self._context = context
        self._body: bytearray | None = None
        self._body_complete = False
        self._body_taken = False  # all of it, by the application
        self._expects_continue = self._request.expect_continue  # by way of the attribute, whose type is known
        self._half_closed = False
        self._disconnected = False
        self._start: dict[str, Any] | None = None  # kept until the first part of the body, to leave with it
        self._started = False
        self._complete = False
        self._status = 0
        self._started_at = perf_counter()
        self._waiters: list[asyncio.Future[None]] | None = None

    def run(self) -> None:
        """Call the application."""
        scope = http_scope(self._request, self._stream.peer, self._context)
        self._context.call_app(self, scope)

    # What the stream tells

    def body_received(self, data: bytes) -> None:
        """Some of the body has come."""
        if not self._complete and not self._disconnected:
            if self._body is None:
                self._body = bytearray()
            self._body += data
            if len(self._body) > _BODY_MARK:
                self._stream.pause_reading()
            self._wake()

    def body_complete(self) -> None:
        """All of the body has come."""
        self._body_complete = True
        self._wake()

    def half_closed(self) -> None:
        """The client has stopped writing. It may still read the response, though most such clients have left."""
        self._half_closed = True
        self._wake()

    def disconnected(self) -> None:
        """The client has left."""
        if not self._complete and not self._disconnected:
            self._status = self._status or _CLIENT_CLOSED_REQUEST
            self._log()
        self._disconnected = True
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    # What the application calls

    async def receive(self) -> dict[str, Any]:
        """http.request until the body is complete; then http.disconnect, when the client has left or the response is
        complete."""
        while True:
            over = self._disconnected or self._complete
            if not over and not self._body_taken and (self._body or self._body_complete):
                return self._take_body()
            if over or self._half_closed:
                return {"type": "http.disconnect"}
            if self._expects_continue and not self._body_taken:
                self._expects_continue = False
                if not self._started:
                    self._stream.send_continue()
            waiter = self._context.loop.create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            await waiter

    def _take_body(self) -> dict[str, Any]:
        body = b"" if self._body is None else bytes(self._body)
        self._body = None
        self._body_taken = self._body_complete
        self._stream.resume_reading()
        return {"type": "http.request", "body": body, "more_body": not self._body_complete}

    async def send(self, message: dict[str, Any]) -> None:
        """http.response.start and http.response.body. Raises ASGIMisuse, and ClientDisconnected once the client has
        left."""
        kind = message["type"]
        if self._disconnected and not self._complete:
            raise ClientDisconnected("the client has left")
        if self._complete:
            raise ASGIMisuse(f"unexpected {kind!r}: the response is complete")
        if kind == "http.response.body":
            if self._send_body(message if type(message) is dict else dict(message)):
                await self._stream.drain()
                if self._disconnected and not self._complete:
                    raise ClientDisconnected("the client has left")
        elif kind == "http.response.start":
            if self._start is not None or self._started:
                raise ASGIMisuse("unexpected 'http.response.start': the response has begun")
            self._start = message if type(message) is dict else dict(message)
        else:
            raise ASGIMisuse(f"unexpected {kind!r}; an http.response.* message is wanted")

    def _send_body(self, message: dict[str, Any]) -> bool:
        body = as_bytes(message.get("body", b""), "body")
        more = bool(message.get("more_body", False))
        if self._start is not None:
            status = self._start["status"]
            drain = self._stream.send_response(status, self._start.get("headers", ()), body, more)
            self._start = None
            self._status = status
            self._started = True
        elif self._started:
            drain = self._stream.send_body(body, more)
        else:
            raise ASGIMisuse("unexpected 'http.response.body': 'http.response.start' comes first")
        if not more:
            self._finish()
        return drain

    def _finish(self) -> None:
        self._complete = True
        self._body = None
        self._log()
        self._wake()
        self._stream.finished()

    def _log(self) -> None:
        if self._context.metrics is not None:
            self._context.metrics.request(self._request.method, self._status, perf_counter() - self._started_at)
        if self._context.access_log:
            request = self._request
            target = self._context.root_path + request.target.decode("latin-1")
            seconds = perf_counter() - self._started_at
            peer = str(self._stream.peer)
            logs.access_http(peer, request.method, target, request.http_version, self._status, seconds)

    def app_done(self, failed: bool) -> None:
        """The application has returned, or raised (`failed`)."""
        if self._complete or self._disconnected:
            return
        if self._half_closed:
            self._stream.abort()  # it was told that the client has left, and took that for the end
            return
        if not failed:
            logs.logger.error("The application returned without completing its response")
        if self._started:
            self._stream.abort()
        else:
            self._complete = True
            self._status = 500
            self._log()
            self._stream.send_error(500, "Internal Server Error")


def as_bytes(value: Any, key: str) -> bytes:
    """Return `value` as bytes. Raises ASGIMisuse, naming the `key`, for anything but bytes, bytearray and
    memoryview."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise ASGIMisuse(f"{key!r} must be bytes, not {type(value).__name__}")
