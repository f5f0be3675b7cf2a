# cython: language_level=3, annotation_typing=False, binding=False
"""An HTTP request and its response as ASGI events (ASGI specification, HTTP)."""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context as Variables
from time import perf_counter
from typing import Any

from flowserve.asgi.context import Context
from flowserve.asgi.scope import http_scope
from flowserve.errors import ASGIMisuse, ClientDisconnected
from flowserve.http.messages import RequestHead, as_bytes
from flowserve.logs.loggers import logger
from flowserve.transport.bases import ResponseStream
from flowserve.transport.flush_queue import Flushable
from flowserve.transport.waiters import add_waiter, wake

_BODY_MARK = 65536
"""Bytes of request body that the application has not received, above which reading is paused."""
_CLIENT_CLOSED_REQUEST = 499
"""The status in the access log, as in nginx, if the client left before there was one."""
_HEAD_ITERATIONS = 10
"""Iterations of the event loop for which a response's head waits for the first part of the body, enough for a few of
Starlette's BaseHTTPMiddleware. One write for both is cheaper, and a body that is complete by then gets a
Content-Length."""
_EARLY_HALF_CLOSE = 0.1
"""Seconds after its request: a client that half-closes within this time has finished sending, but still reads."""
_CHECK_INTERVAL = 0.25
"""Seconds between checks of a client that has half-closed."""
_QUIET_TIMEOUT = 1.0
"""Seconds without any progress of the response after which such a client counts as gone."""

_FREE_SENDS = 1000
"""Sends after the disconnect that don't pause. From then on each send() pauses for _SEND_PAUSE seconds: an application
that sends as fast as it can until --timeout-disconnect would keep a core busy for nothing."""
_SEND_PAUSE = 0.01


def own(it: Any) -> HTTPCycle:
    """Return `it` with the type HTTPCycle. Compiled, raises TypeError for anything else."""
    cycle: HTTPCycle = it
    return cycle


class _Callables:
    """The receive() and send() of a HTTPCycle. The methods of a compiled class don't count as coroutine functions when
    they are inspected, as asgiref's async_to_sync() does; those of this class, which is not compiled as an extension
    type, do."""

    async def receive(self: Any) -> dict[str, Any]:
        """Return http.request until the body is complete; then http.disconnect, when the client has left or the
        response is complete."""
        cycle = own(self)
        while True:
            ended = cycle._disconnected or cycle._complete
            if not ended and not cycle._body_taken and (cycle._body or cycle._body_complete):
                return cycle._take_body()
            if ended or cycle._client_left:
                if cycle._disconnect_received:  # an application that calls this in a loop must not block the event loop
                    await asyncio.sleep(0)
                cycle._disconnect_received = True
                return {"type": "http.disconnect"}
            if cycle._expects_continue and not cycle._body_taken:
                cycle._expects_continue = False
                if not cycle._head_sent:
                    cycle._stream.send_continue()
            waiter = cycle._context.loop.create_future()
            cycle._waiters = add_waiter(cycle._waiters, waiter)
            await waiter

    async def send(self: Any, message: dict[str, Any]) -> None:
        """Take http.response.start or http.response.body. Unless the client reads too slowly, the data has been written
        when it returns.

        Raises ASGIMisuse for what the ASGI specification or HTTP does not allow, and ClientDisconnected when the
        application was cancelled long after its client left.
        """
        cycle = own(self)
        kind = message["type"]
        if cycle._complete:
            raise ASGIMisuse(f"unexpected {kind!r}: the response is complete")
        if cycle._cancelled:
            raise ClientDisconnected("the client has left")
        if cycle._disconnected:
            cycle._parts_sent += 1
            await asyncio.sleep(0 if cycle._parts_sent < _FREE_SENDS else _SEND_PAUSE)
        elif kind == "http.response.body":
            if cycle._send_body(message if type(message) is dict else dict(message)):
                await cycle._stream.drain()
        elif kind == "http.response.start":
            cycle._start_response(message if type(message) is dict else dict(message))
        else:
            raise ASGIMisuse(f"unexpected {kind!r}; an http.response.* message is wanted")


class HTTPCycle(Flushable):
    """One request, from its head to the end of its response.

    The stream calls `body_received()`, `body_complete()`, `half_closed()` and `disconnected()`. When the response is
    complete, the stream's `finished()` is called.

    Once the client has left `send()` does nothing, as in other servers: an application need not handle an error that is
    none, and what it does after its response is still done. An application that still sends or waits when
    --timeout-disconnect has passed is cancelled if it had begun to respond: it might never end otherwise.
    """

    __slots__ = (
        "_body",
        "_body_complete",
        "_body_taken",
        "_bytes_sent",
        "_cancelled",
        "_client_left",
        "_complete",
        "_context",
        "_disconnect_received",
        "_disconnected",
        "_expects_continue",
        "_half_closed",
        "_head_iterations",
        "_head_sent",
        "_parts_at_body_check",
        "_parts_at_check",
        "_parts_sent",
        "_quiet_since",
        "_request",
        "_start_received",
        "_started_at",
        "_status",
        "_stream",
        "_variables",
        "_waiters",
    )

    def __init__(self, request: RequestHead, stream: ResponseStream, context: Context) -> None:
        self._request = request
        self._stream = stream
        self._context = context
        self._flush_pending = False
        self._body: bytearray | None = None
        self._body_complete = False
        self._body_taken = False  # the application has received all of it
        self._expects_continue = self._request.expect_continue  # through the attribute, whose type Cython knows
        self._half_closed = False  # the client has closed its sending direction
        self._client_left = False  # the client has left, as far as can be known: receive() returns http.disconnect
        self._disconnect_received = False  # receive() has returned http.disconnect
        self._disconnected = False  # the connection is lost
        self._cancelled = False  # the application was cancelled
        self._start_received = False  # the application has sent http.response.start
        self._head_iterations = 0  # of the event loop, since then, for which the head has waited
        self._head_sent = False  # the head has been written
        self._complete = False
        self._bytes_sent = 0  # of the response's body
        self._parts_sent = 0  # parts of the response's body; after the disconnect, ignored sends
        self._parts_at_check = self._parts_at_body_check = 0
        self._quiet_since = 0.0
        self._status = 0
        self._started_at = perf_counter()
        self._waiters: list[asyncio.Future[None]] | None = None
        # those of the application's call, until its access line is written
        self._variables: Variables = self._context.variables
        self.deadline = 0.0  # with `tick`: see timers.Timed
        self.tick = 0

    def run(self) -> None:
        """Call the application."""
        scope = http_scope(self._request, self._stream.peer, self._context)
        self._variables = self._context.call_app(self, scope)

    # Called by the stream

    def body_received(self, data: bytes) -> None:
        """Take a part of the request body."""
        if not self._complete and not self._disconnected:
            if self._body is None:
                self._body = bytearray()
            self._body += data
            if len(self._body) > _BODY_MARK:
                self._stream.pause_reading()
            self._wake()

    def awaits_body(self) -> bool:
        """Whether the application waits for more of the body and has sent nothing since the last call. If it waits for
        anything else, the client is not to blame."""
        sent, self._parts_at_body_check = self._parts_sent != self._parts_at_body_check, self._parts_sent
        if sent or self._waiters is None:
            return False
        waiter = self._waiters[len(self._waiters) - 1]
        return not waiter.done()

    def body_complete(self) -> None:
        """Note that the request body is complete."""
        self._body_complete = True
        self._wake()

    def half_closed(self) -> None:
        """Note that the client has half-closed: it has left, or only reads the response from now on (RFC 9112 section
        9.6).

        Most have left. A client that half-closes right after its request is served as long as it takes what it is sent.
        """
        self._half_closed = True
        if perf_counter() - self._started_at > _EARLY_HALF_CLOSE:
            self._set_client_left()
        self._quiet_since = self._context.loop.time()
        self._context.timers.set(self, self._quiet_since + _CHECK_INTERVAL)

    def refused(self, status: int, size: int) -> None:
        """Note that the connection ends; the client gets an error of the server with a body of `size` bytes, unless the
        head of a response was sent before."""
        if not self._head_sent:
            self._status, self._bytes_sent = status, size
        self.disconnected()

    def disconnected(self) -> None:
        """Note that the connection is lost."""
        if not self._complete and not self._disconnected:
            self._status = self._status or _CLIENT_CLOSED_REQUEST
            self._variables.copy().run(self._log)
            timeout = self._context.config.timeout_disconnect
            if self._start_received and timeout is not None and self in self._context.tasks:
                self._context.timers.set(self, self._context.loop.time() + timeout)
            else:
                self._context.timers.cancel(self)
        self._disconnected = True
        self._parts_sent = 0
        self._set_client_left()

    def _set_client_left(self) -> None:
        self._client_left = True
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        wake(waiters)

    def on_deadline(self, now: float) -> None:
        """Check again a client that has half-closed, or cancel the application of one that has left."""
        if self._disconnected:
            self._cancel_app()
        elif self._stream.is_reset():  # its answer to what it was sent: it has left altogether
            self._stream.abort()
        else:
            self._check_half_closed(now)

    def _check_half_closed(self, now: float) -> None:
        """Check whether the response to a client that has half-closed still makes progress."""
        if self._parts_sent != self._parts_at_check or self._stream.progressed():
            self._parts_at_check = self._parts_sent
            self._quiet_since = now
        quiet, timeout = now - self._quiet_since, self._context.config.timeout_disconnect
        if quiet >= _QUIET_TIMEOUT and not self._client_left:
            self._set_client_left()
        if self._start_received and timeout is not None and quiet >= timeout:
            self._cancel_app()
            self._stream.abort()
        else:
            self._context.timers.set(self, now + _CHECK_INTERVAL)

    def _cancel_app(self) -> None:
        logger.info(
            "The application still responds to %s, which has left: it is cancelled (--timeout-disconnect)",
            self._stream.peer,
        )
        self._cancelled = True
        self._context.cancel_call(self)

    # Called by the application

    receive = _Callables.receive
    send = _Callables.send

    def _take_body(self) -> dict[str, Any]:
        body = b"" if self._body is None else bytes(self._body)
        self._body = None
        self._body_taken = self._body_complete
        self._stream.resume_reading()
        return {"type": "http.request", "body": body, "more_body": not self._body_complete}

    def _start_response(self, message: dict[str, Any]) -> None:
        if self._start_received:
            raise ASGIMisuse("unexpected 'http.response.start': the response has begun")
        status = message.get("status")
        self._stream.start_response(status, message.get("headers") or ())  # type: ignore[arg-type]
        self._status = int(status)  # type: ignore[arg-type]
        self._start_received = True
        self._context.flush_queue.add(self)

    def flush(self) -> None:
        """Write a head that no part of the body has followed in time: the client waits for it, as EventSource and
        fetch() do."""
        if self._head_sent or self._complete or self._disconnected:
            return
        self._head_iterations += 1
        if self._head_iterations < _HEAD_ITERATIONS:
            self._context.flush_queue.add(self)
        else:
            self._head_sent = True
            self._stream.send_head()

    def _send_body(self, message: dict[str, Any]) -> bool:
        if not self._start_received:
            raise ASGIMisuse("unexpected 'http.response.body': 'http.response.start' comes first")
        body = as_bytes(message.get("body", b""), "'body'")
        more = bool(message.get("more_body", False))
        drain = self._stream.send_body(body, more)
        self._head_sent = True
        self._bytes_sent += len(body)
        self._parts_sent += 1
        if not more:
            self._finish()
        return drain

    def _finish(self) -> None:
        self._complete = True
        self._body = None
        if self.tick:
            self._context.timers.cancel(self)
        self._log()
        self._wake()
        self._stream.finished()

    def _log(self) -> None:
        self._variables = self._context.variables  # drop those of the call, which may refer back to this object
        self._context.response_ended(self._request, self._stream.peer, self._status, self._started_at, self._bytes_sent)

    def has_ended(self) -> bool:
        """Whether the client has left, as far as can be known; a client that has received the whole response has
        not."""
        return self._disconnected or self._client_left

    def app_done(self, failed: bool) -> None:
        """Finish or abort the response: the application has returned, or raised (`failed`)."""
        if self.tick:
            self._context.timers.cancel(self)
        if self._complete or self._disconnected:
            return
        if self._client_left:
            self._stream.abort()  # it received http.disconnect, and ended because of it
            return
        if not failed:
            # applications may end their streams then
            level = logging.INFO if self._context.shutting_down else logging.ERROR
            logger.log(level, "The application returned without completing its response")
        if self._head_sent:
            self._stream.abort()
        else:
            self._complete = True
            cut = self._context.cutting
            self._status = 503 if cut else 500
            detail = "The server is shutting down" if cut else "Internal Server Error"
            self._bytes_sent = len(detail)
            self._log()
            self._stream.send_error(self._status, detail)
