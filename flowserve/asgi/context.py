# cython: language_level=3, annotation_typing=False, binding=False
"""What the connections of one worker share.

Theory of operation. A worker goes through these states, in this order:

    serving          requests and WebSockets are served; once it is a `lame_duck`, health checks are told to send new
                     clients elsewhere, and all else goes on
    `shutting_down`  responses end their connections, open WebSockets are closed, new ones are refused, except by the
                     first request of a connection while `late_websockets`; `draining` is set
    `cutting`        the time for a graceful end is over: the calls of the application that still run are cancelled

A call of the application is a request or a WebSocket:

- `call_app()` starts a task for it, with a copy of the server's context variables.
- It is in `tasks` until its coroutine ends: by returning, by raising, or by a cancellation. `call_ended()` is called
  then, and calls its `app_done()`.

Connections are in `live` from their acceptance until they are lost. They add and remove themselves; one that becomes a
WebSocket is replaced by its session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from email.utils import formatdate
from logging import DEBUG, WARNING
from threading import get_ident
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, cast

from asgiref.typing import ASGI3Application

from flowserve.asgi.application import App, Call, Invocation
from flowserve.config import Config
from flowserve.http.messages import RequestHead
from flowserve.logs.loggers import access_http, logger, writes_access
from flowserve.logs.redaction import redact_target
from flowserve.session.host import SessionContext
from flowserve.session.time_slice import TimeSlice
from flowserve.transport.interfaces import Peer
from flowserve.transport.timers import Timers

if TYPE_CHECKING:
    from flowserve.transport.flush_queue import FlushQueue

DRAINING = "flowserve.draining"
"""The key in a scope's extensions that announces `draining()`."""
_MAX_WARNINGS = 100
"""Different warnings of `warn_once()` that a worker logs."""

_draining: ContextVar[asyncio.Event] = ContextVar(DRAINING)


def draining() -> asyncio.Event:
    """Return the event that is set when the server that has called this code begins to shut down: before the first
    connection is closed. It is never cleared.

    Call this in the application: in its lifespan, in a request or a WebSocket, or in tasks and threads that inherit
    their context variables. Raises RuntimeError elsewhere. Wait for the event in the event loop's own thread.
    """
    try:
        return _draining.get()
    except LookupError:
        raise RuntimeError("draining() is for code that flowserve has called: no server is known here") from None


class Context(SessionContext):
    """One per worker: the application, its configuration and event loop, and everything that is alive."""

    __slots__ = (
        "_defaults",
        "_defaults_made_at",
        "_limit",
        "_warned",
        "access_log",
        "active",
        "app",
        "cutting",
        "draining",
        "lame_duck",
        "late_websockets",
        "log_query",
        "max_served",
        "on_max_served",
        "refusals",
        "root_path",
        "served",
        "shutting_down",
        "state",
        "tasks",
        "thread",
        "timeout_keep_alive",
        "variables",
        "websockets",
    )

    def __init__(
        self, app: ASGI3Application, config: Config, loop: asyncio.AbstractEventLoop, flush_queue: FlushQueue
    ) -> None:
        """`flush_queue` belongs to `loop`. Call this in the thread of the loop."""
        super().__init__(config, loop, flush_queue, Timers(loop), TimeSlice(loop))
        self.app = cast(App, app)
        self.access_log = config.access_log
        self.draining = asyncio.Event()  # what `draining()` returns
        # The server's context variables. Callbacks of connections run in copies of them, as each call of the
        # application does: they may belong to no application, or to another one than is running.
        self.variables = copy_context()
        self.variables.run(_draining.set, self.draining)
        self.state: dict[str, Any] = {}  # of the lifespan; each scope gets a copy
        self.root_path = config.root_path
        self.log_query = config.log_query
        self.tasks: dict[Call, asyncio.Task[None]] = {}  # in which the application is called
        self.active = 0  # calls of the application in progress
        self.served = 0  # calls that ever began
        self.max_served = 0  # when `served` reaches this, `on_max_served()` is called; 0 for never
        self.on_max_served: Callable[[], None] | None = None
        self.refusals: dict[str, int] = {}  # by reason, see `count_refusal()`
        self.websockets = 0  # that are open, or in their opening handshake
        self.lame_duck = False  # --shutdown-delay has begun
        self.shutting_down = False
        self.cutting = False  # calls that are cancelled from now on are cancelled by the server
        self.late_websockets = False  # while shutting down: WebSockets may still open by a connection's first request
        self.timeout_keep_alive = config.timeout_keep_alive  # in seconds; less while shutting down
        self._limit = config.limit_concurrency or 0  # 0 for none
        self.thread = get_ident()  # that of the event loop
        self._warned: set[str] = set()  # the keys of `warn_once()`
        self._defaults = b""  # result of `default_headers()`
        self._defaults_made_at = 0.0  # its time, in whole seconds since the epoch

    def is_full(self) -> bool:
        """Whether --limit-concurrency is reached."""
        return self._limit > 0 and self.active >= self._limit

    def count_refusal(self, reason: str) -> None:
        """Count a connection, request or handshake that is refused. `reason` is a value of the metric's label."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def warn_once(self, key: str, message: str, *arguments: object) -> None:
        """Log a warning; as debug if one with the same `key` was logged before, as peers could flood the log."""
        fresh = key not in self._warned and len(self._warned) < _MAX_WARNINGS
        if fresh:
            self._warned.add(key)
        logger.log(WARNING if fresh else DEBUG, message, *arguments)

    def writes_access(self) -> bool:
        """Whether access lines are written: by --access-log, and by the level of their logger, which the application
        may change."""
        return self.access_log and writes_access()

    def target_for_log(self, target: bytes) -> str:
        """Return a request target as text for the log, with its query as --log-query says."""
        text = self.root_path + target.decode("latin-1")
        return redact_target(text, self.log_query) if "?" in text else text

    def response_ended(self, request: RequestHead, peer: Peer, status: int, begun_at: float, size: int) -> None:
        """Count and log a request of `peer` that began at `begun_at`, by perf_counter(), and is answered or aborted;
        `size` bytes of a body were passed for it, which is not sent for HEAD, 204 and 304 (RFC 9110 section 6.4.1)."""
        logged = self.writes_access()
        if self.metrics is None and not logged:
            return
        seconds = perf_counter() - begun_at
        if self.metrics is not None:
            self.metrics.request(request.method, status, seconds)
        if logged:
            target = self.target_for_log(request.target)
            size = 0 if request.method == "HEAD" or status == 204 or status == 304 else size
            version, headers = request.http_version, request.headers
            access_http(str(peer), request.method, target, version, status, seconds, size, headers, self.log_query)

    def call_app(self, call: Call, scope: dict[str, Any]) -> Variables:
        """Call the application for `call`, in a task of its own. Return the context variables that it is called with: a
        copy of the server's, not of those of the application that may be running now."""
        variables = self.variables.copy()
        invocation = Invocation(self, call, scope)
        self.tasks[call] = invocation.start(self.loop, variables)
        self.active += 1
        self.served += 1
        if self.served == self.max_served and self.on_max_served is not None:
            self.on_max_served()
        return variables

    def call_ended(self, call: Call, failed: bool) -> None:
        """Called when the application has returned, or raised (`failed`)."""
        if self.tasks.pop(call, None) is not None:
            self.active -= 1
            call.app_done(failed)

    def cancel_call(self, call: Call) -> None:
        """Cancel a call of the application, if it is in progress."""
        task = self.tasks.get(call)
        if task is not None:
            task.cancel()

    def cancel_calls(self) -> None:
        """Cancel all calls of the application, as the server ends."""
        self.cutting = True
        for task in list(self.tasks.values()):
            task.cancel()

    def default_headers(self) -> bytes:
        """Return the header lines that every response gets, with the date, which is updated once a second (RFC 9110
        section 6.6.1)."""
        now = time()
        if not self._defaults_made_at <= now < self._defaults_made_at + 1:
            lines = [b"%b: %b\r\n" % (name.encode("latin-1"), v.encode("latin-1")) for name, v in self.config.headers]
            given = {name.lower() for name, _ in self.config.headers}
            if self.config.date_header and "date" not in given:
                lines.insert(0, b"date: %b\r\n" % formatdate(now, usegmt=True).encode("ascii"))
            if self.config.server_header and "server" not in given:
                lines.append(b"server: flowserve\r\n")
            self._defaults = b"".join(lines)
            self._defaults_made_at = int(now)
        return self._defaults
