# cython: language_level=3, annotation_typing=False, binding=False
"""What one worker's connections share. A leaf above the configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from email.utils import formatdate
from logging import DEBUG, WARNING
from threading import get_ident
from time import time
from typing import Any, Protocol, cast

from asgiref.typing import ASGI3Application

from flowserve.asgi.application import App, Call, Invocation
from flowserve.config import Config
from flowserve.logs.loggers import logger
from flowserve.logs.redaction import redact_target
from flowserve.session.time_slice import TimeSlice
from flowserve.transport.timers import Timers

DRAINING = "flowserve.draining"
"""The extension in the scopes that announces `draining()`."""

_draining: ContextVar[asyncio.Event] = ContextVar(DRAINING)


def draining() -> asyncio.Event:
    """Return the event that is set when the server which has called this code begins to shut down: before the first
    connection is closed, and never cleared.

    To be asked for in the application: in its lifespan, in a request or a WebSocket, and in the tasks and threads that
    take over their context variables. Wait for it in the event loop's own thread. Raises RuntimeError elsewhere.
    """
    try:
        return _draining.get()
    except LookupError:
        raise RuntimeError("draining() is for code that flowserve has called: no server is known here") from None


class LiveConnection(Protocol):
    """A live connection, as the shutdown sees it."""

    def shutdown(self) -> None:
        """End it politely: what is in progress may complete, nothing new begins."""

    def abort(self) -> None:
        """End it now."""


_MOST_TOLD = 100
"""Things that a worker warns of once each."""


class Context:
    """One per worker: the application, its configuration and loop, and everything that is alive.

    `active` counts the requests in progress and the open WebSockets, `served` those that ever began; `tasks` has the
    application's task for each. `variables` are the server's context variables, of which each call of the application
    gets a copy; callbacks of connections run in copies too, as what they do may belong to no application or to another
    one. `draining` is what `draining()` finds. `metrics` is None while nothing is
    measured. `refusals` counts what was refused, by the reason, and `websockets` those that are open or being opened.
    """

    __slots__ = (
        "_defaults",
        "_defaults_at",
        "_limit",
        "_log_query",
        "_told",
        "access_log",
        "active",
        "app",
        "config",
        "cutting",
        "draining",
        "enough",
        "flush_queue",
        "late_websockets",
        "live",
        "loop",
        "metrics",
        "on_enough",
        "refusals",
        "root_path",
        "served",
        "shutting_down",
        "state",
        "tasks",
        "thread",
        "timeout_keep_alive",
        "timers",
        "timeslice",
        "variables",
        "websockets",
    )

    def __init__(
        self, app: ASGI3Application, config: Config, loop: asyncio.AbstractEventLoop, flush_queue: Any
    ) -> None:
        """`flush_queue` is the `flush_queue.FlushQueue` of this loop."""
        self.app = cast(App, app)
        self.config = config
        self.access_log = config.access_log
        self.loop = loop
        self.flush_queue = flush_queue
        self.timers = Timers(loop)
        self.timeslice = TimeSlice(loop)
        self.draining = asyncio.Event()
        self.variables = copy_context()
        self.variables.run(_draining.set, self.draining)
        self.state: dict[str, Any] = {}  # the lifespan's; each scope gets a copy
        self.root_path = config.root_path
        self._log_query = config.log_query
        self.live: set[LiveConnection] = set()
        self.tasks: dict[Call, asyncio.Task[None]] = {}
        self.cutting = False  # what still runs of the application
        self.active = 0
        self.served = 0
        self.enough = 0  # of them: then on_enough() is called; 0 for never
        self.on_enough: Callable[[], None] | None = None
        self.metrics: Any = None
        self.refusals: dict[str, int] = {}
        self.websockets = 0
        self.shutting_down = False
        self.cutting = False  # the time for a graceful end is over: calls that are cancelled now are so by the server
        self.late_websockets = False  # while shutting down: whether those that are on the way may still open
        self.timeout_keep_alive = config.timeout_keep_alive  # seconds; fewer while shutting down
        self._limit = config.limit_concurrency or 0  # 0 for none
        self.thread = get_ident()  # the event loop's
        self._told: set[str] = set()
        self._defaults = b""
        self._defaults_at = 0.0

    def is_full(self) -> bool:
        """Whether --limit-concurrency is reached."""
        return self._limit > 0 and self.active >= self._limit

    def refused(self, reason: str) -> None:
        """Count a connection, request or handshake that goes no further. `reason` is one of a few words."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def warn_once(self, what: str, message: str, *arguments: object) -> None:
        """Log a warning, and from then on whatever has the same `what` as debug: peers could flood the log."""
        fresh = what not in self._told and len(self._told) < _MOST_TOLD
        if fresh:
            self._told.add(what)
        logger.log(WARNING if fresh else DEBUG, message, *arguments)

    def target_for_log(self, target: bytes) -> str:
        """Return the target of a request as it may stand in the log (--log-query)."""
        text = self.root_path + target.decode("latin-1")
        return redact_target(text, self._log_query) if "?" in text else text

    def call_app(self, call: Call, scope: Any) -> Variables:
        """Call the application for `call`, in a task of its own. Returns the context variables that it is called with:
        its own copy of the server's, not of those of whichever application is running just now.
        """
        variables = self.variables.copy()
        self.tasks[call] = Invocation(self, call, scope).start(self.loop, variables)
        self.active += 1
        self.served += 1
        if self.served == self.enough and self.on_enough is not None:
            self.on_enough()
        return variables

    def ended(self, call: Call, failed: bool) -> None:
        """A call of the application has come to its end."""
        if self.tasks.pop(call, None) is not None:
            self.active -= 1
            call.app_done(failed)

    def cancel_call(self, call: Call) -> None:
        """Cancel one call of the application, if it still runs."""
        task = self.tasks.get(call)
        if task is not None:
            task.cancel()

    def cancel_calls(self) -> None:
        """Cancel what still runs of the application."""
        self.cutting = True
        for task in list(self.tasks.values()):
            task.cancel()

    def default_headers(self) -> bytes:
        """Return the header lines that every response gets; the date is made anew once a second (RFC 9110 section
        6.6.1)."""
        now = time()
        if not self._defaults_at <= now < self._defaults_at + 1:
            lines = [b"%b: %b\r\n" % (name.encode("latin-1"), v.encode("latin-1")) for name, v in self.config.headers]
            given = {name.lower() for name, _ in self.config.headers}
            if self.config.date_header and "date" not in given:
                lines.insert(0, b"date: %b\r\n" % formatdate(now, usegmt=True).encode("ascii"))
            if self.config.server_header and "server" not in given:
                lines.append(b"server: flowserve\r\n")
            self._defaults = b"".join(lines)
            self._defaults_at = int(now)
        return self._defaults
