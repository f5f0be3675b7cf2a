# cython: language_level=3, annotation_typing=False, binding=False
"""One request and its response as ASGI events (ASGI specification, HTTP)."""

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
from flowserve.logs.loggers import access_http, logger
from flowserve.transport.flush_queue import Flushable
from flowserve.transport.interfaces import ResponseStream
from flowserve.transport.waiters import add_waiter, wake

_BODY_MARK = 65536
"""Bytes of body that may wait for the application before reading stops."""
_CLIENT_CLOSED_REQUEST = 499
"""For the access log only, as nginx has it: the client left before there was a status."""
_HEAD_TURNS = 10
"""Turns of the event loop in which a response's head waits for the first part of the body, enough for a few of
Starlette's BaseHTTPMiddleware. One write for both is cheaper, and a body that is known whole gets its length."""
_BEHIND_REQUEST = 0.1
"""Seconds from a request within which a client ends its direction that is done with asking, not with reading."""
_PROBE = 0.25
"""Seconds between looks at a client that has ended its direction."""
_QUIET = 1.0
"""Seconds in which such a client was sent nothing, after which it counts as one that has left."""

_UNWANTED = 1000
"""Parts of a response that a client which has left costs no time. From then on an application that would send for
--timeout-disconnect as fast as it can pauses between them: a core would be busy with nothing."""
_UNWANTED_PAUSE = 0.01


def own(it: Any) -> HTTPCycle:
    """Return `it`, a HTTPCycle. Compiled, raises TypeError for anything else."""
    cycle: HTTPCycle = it
    return cycle


class _Given:
    """What an application is given of a HTTPCycle. Compiled, the methods of that are no coroutine functions to whoever
    inspects them, as asgiref's async_to_sync() does; those of a class that is not are."""

    async def receive(self: Any) -> dict[str, Any]:
        """http.request until the body is complete; then http.disconnect, when the client has left or the response is
        complete."""
        cycle = own(self)
        while True:
            over = cycle._disconnected or cycle._complete
            if not over and not cycle._body_taken and (cycle._body or cycle._body_complete):
                return cycle._take_body()
            if over or cycle._left:
                if cycle._told:  # whoever asks again and again must not hold up all others
                    await asyncio.sleep(0)
                cycle._told = True
                return {"type": "http.disconnect"}
            if cycle._expects_continue and not cycle._body_taken:
                cycle._expects_continue = False
                if not cycle._started:
                    cycle._stream.send_continue()
            waiter = cycle._context.loop.create_future()
            cycle._waiters = add_waiter(cycle._waiters, waiter)
            await waiter

    async def send(self: Any, message: dict[str, Any]) -> None:
        """http.response.start and http.response.body: the data has been written when it returns, unless the client
        reads too slowly.

        Raises ASGIMisuse for what the ASGI specification or HTTP does not allow, ClientDisconnected when the
        application was cancelled as its client had long left.
        """
        cycle = own(self)
        kind = message["type"]
        if cycle._complete:
            raise ASGIMisuse(f"unexpected {kind!r}: the response is complete")
        if cycle._given_up:
            raise ClientDisconnected("the client has left")
        if cycle._disconnected:
            cycle._parts += 1
            await asyncio.sleep(0 if cycle._parts < _UNWANTED else _UNWANTED_PAUSE)
        elif kind == "http.response.body":
            if cycle._send_body(message if type(message) is dict else dict(message)):
                await cycle._stream.drain()
        elif kind == "http.response.start":
            cycle._begin(message if type(message) is dict else dict(message))
        else:
            raise ASGIMisuse(f"unexpected {kind!r}; an http.response.* message is wanted")


class HTTPCycle(Flushable):
    """One request, from its head to the end of its response.

    The stream tells of the request: `body_received`, `body_complete`, `half_closed`, `disconnected`. When the
    response is complete the stream is told `finished()`.

    Once the client has left `send()` does nothing, as in other servers: so nobody is told of an error that is none, and
    what an application does behind its response is done. An application that still sends or waits when
    --timeout-disconnect has passed is cancelled, if it had begun to respond: it would do so for ever.
    """

    __slots__ = (
        "_begun",
        "_body",
        "_body_complete",
        "_body_taken",
        "_complete",
        "_context",
        "_disconnected",
        "_expects_continue",
        "_given_up",
        "_half_closed",
        "_left",
        "_parts",
        "_parts_at_look",
        "_parts_seen",
        "_quiet_since",
        "_request",
        "_started",
        "_started_at",
        "_status",
        "_stream",
        "_told",
        "_turns",
        "_variables",
        "_waiters",
        "deadline",
        "tick",
    )

    def __init__(self, request: RequestHead, stream: ResponseStream, context: Context) -> None:
        self._request = request
        self._stream = stream
        self._context = context
        self._flush_pending = False
        self._body: bytearray | None = None
        self._body_complete = False
        self._body_taken = False  # all of it, by the application
        self._expects_continue = self._request.expect_continue  # by way of the attribute, whose type is known
        self._half_closed = False  # the client has stopped writing
        self._left = False  # the client has left, for all that is known: receive() says so
        self._told = False  # receive() has said so
        self._disconnected = False  # the connection is gone
        self._given_up = False  # the application was cancelled
        self._begun = False  # the application has sent http.response.start
        self._turns = 0  # of the event loop since then
        self._started = False  # the head is on its way
        self._complete = False
        self._parts = 0  # of the response's body; of what comes when the client has left
        self._parts_seen = self._parts_at_look = 0
        self._quiet_since = 0.0
        self._status = 0
        self._started_at = perf_counter()
        self._waiters: list[asyncio.Future[None]] | None = None
        self._variables: Variables = context.variables  # the application's, until its access line is written
        self.deadline = 0.0
        self.tick = 0

    def run(self) -> None:
        """Call the application."""
        scope = http_scope(self._request, self._stream.peer, self._context)
        self._variables = self._context.call_app(self, scope)

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

    def awaits_body(self) -> bool:
        """Whether the application waits for more of the body, and has sent nothing since this was last asked: what else
        it waits for is its own time."""
        sent, self._parts_at_look = self._parts != self._parts_at_look, self._parts
        if sent or self._waiters is None:
            return False
        waiter = self._waiters[len(self._waiters) - 1]
        return not waiter.done()

    def body_complete(self) -> None:
        """All of the body has come."""
        self._body_complete = True
        self._wake()

    def half_closed(self) -> None:
        """The client has stopped writing: it has left, or wants nothing but the response (RFC 9112 section 9.6).

        Most leave. One that does it right behind its request is waited for, while it takes what it is sent.
        """
        self._half_closed = True
        if perf_counter() - self._started_at > _BEHIND_REQUEST:
            self._leave()
        self._quiet_since = self._context.loop.time()
        self._context.timers.set(self, self._quiet_since + _PROBE)

    def disconnected(self) -> None:
        """The connection is gone."""
        if not self._complete and not self._disconnected:
            self._status = self._status or _CLIENT_CLOSED_REQUEST
            self._variables.copy().run(self._log)
            timeout = self._context.config.timeout_disconnect
            if self._begun and timeout is not None and self in self._context.tasks:
                self._context.timers.set(self, self._context.loop.time() + timeout)
            else:
                self._context.timers.cancel(self)
        self._disconnected = True
        self._parts = 0
        self._leave()

    def _leave(self) -> None:
        self._left = True
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        wake(waiters)

    def on_deadline(self, now: float) -> None:
        """Time to look again at a client that has left, or has stopped writing."""
        if self._disconnected:
            self._give_up()
        elif self._stream.is_reset():  # the answer to what it was sent: it has left altogether
            self._stream.abort()
        else:
            self._look(now)

    def _look(self, now: float) -> None:
        """See whether a client that has stopped writing still gets something."""
        if self._parts != self._parts_seen or self._stream.progressed():
            self._parts_seen = self._parts
            self._quiet_since = now
        quiet, timeout = now - self._quiet_since, self._context.config.timeout_disconnect
        if quiet >= _QUIET and not self._left:
            self._leave()
        if self._begun and timeout is not None and quiet >= timeout:
            self._give_up()
            self._stream.abort()
        else:
            self._context.timers.set(self, now + _PROBE)

    def _give_up(self) -> None:
        logger.info(
            "The application still responds to %s, which has left: it is cancelled (--timeout-disconnect)",
            self._stream.peer,
        )
        self._given_up = True
        self._context.cancel_call(self)

    # What the application calls

    receive = _Given.receive
    send = _Given.send

    def _take_body(self) -> dict[str, Any]:
        body = b"" if self._body is None else bytes(self._body)
        self._body = None
        self._body_taken = self._body_complete
        self._stream.resume_reading()
        return {"type": "http.request", "body": body, "more_body": not self._body_complete}

    def _begin(self, message: dict[str, Any]) -> None:
        if self._begun:
            raise ASGIMisuse("unexpected 'http.response.start': the response has begun")
        status = message.get("status")
        self._stream.start_response(status, message.get("headers") or ())  # type: ignore[arg-type]
        self._status = int(status)  # type: ignore[arg-type]
        self._begun = True
        self._context.flush_queue.add(self)

    def flush(self) -> None:
        """Send a head that no part of the body has followed: a client waits for it, as EventSource and fetch() do."""
        if self._started or self._complete or self._disconnected:
            return
        self._turns += 1
        if self._turns < _HEAD_TURNS:
            self._context.flush_queue.add(self)
        else:
            self._started = True
            self._stream.send_head()

    def _send_body(self, message: dict[str, Any]) -> bool:
        if not self._begun:
            raise ASGIMisuse("unexpected 'http.response.body': 'http.response.start' comes first")
        body = as_bytes(message.get("body", b""), "'body'")
        more = bool(message.get("more_body", False))
        drain = self._stream.send_body(body, more)
        self._started = True
        self._parts += 1
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
        self._variables = self._context.variables  # the application's may hold whatever refers to this
        if self._context.metrics is not None:
            self._context.metrics.request(self._request.method, self._status, perf_counter() - self._started_at)
        if self._context.access_log:
            request = self._request
            target = self._context.target_for_log(request.target)
            seconds = perf_counter() - self._started_at
            peer = str(self._stream.peer)
            access_http(peer, request.method, target, request.http_version, self._status, seconds)

    def has_ended(self) -> bool:
        """Whether the client has left, for all that is known: not when it merely has the whole response."""
        return self._disconnected or self._left

    def app_done(self, failed: bool) -> None:
        """The application has returned, or raised (`failed`)."""
        if self.tick:
            self._context.timers.cancel(self)
        if self._complete or self._disconnected:
            return
        if self._left:
            self._stream.abort()  # it was told that the client has left, and took that for the end
            return
        if not failed:
            level = logging.INFO if self._context.shutting_down else logging.ERROR  # streams may end themselves then
            logger.log(level, "The application returned without completing its response")
        if self._started:
            self._stream.abort()
        else:
            self._complete = True
            cut = self._context.cutting
            self._status = 503 if cut else 500
            self._log()
            self._stream.send_error(self._status, "The server is shutting down" if cut else "Internal Server Error")
