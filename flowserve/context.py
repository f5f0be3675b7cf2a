# cython: language_level=3, annotation_typing=False
"""What one worker's connections share. A leaf above the configuration."""

from __future__ import annotations

import asyncio
import inspect
from asyncio import Task
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from email.utils import formatdate
from functools import partial
from threading import get_ident
from time import time
from typing import Any, Protocol, cast

from asgiref.typing import ASGI3Application

from flowserve.compact import key_sharing
from flowserve.config import Config
from flowserve.errors import ClientDisconnected, ConnectionClosed
from flowserve.logs import logger
from flowserve.timers import Timers

DRAINING = "flowserve.draining"
"""Names the event in the state and the extension in the scopes that announces it."""


class Live(Protocol):
    """A live connection, as the shutdown sees it."""

    def shutdown(self) -> None:
        """End it politely: what is in progress may complete, nothing new begins."""

    def abort(self) -> None:
        """End it now."""


class Call(Protocol):
    """One call of the application: a request, or a WebSocket."""

    async def receive(self) -> Any:
        """The application's receive()."""

    def send(self, message: Any) -> Awaitable[None]:
        """The application's send()."""

    def app_done(self, failed: bool) -> None:
        """The application has returned, or raised (`failed`)."""


class LongCall(Call, Protocol):
    """A call that lasts."""

    def returned(self, task: asyncio.Task[None]) -> None:
        """The task has ended: Context.returned() wants to know."""


class Household(Protocol):
    """What sessions share, be it a Context or not: `outbox` is the `outbox.Outbox` of the loop."""

    config: Config
    loop: asyncio.AbstractEventLoop
    outbox: Any
    timers: Timers
    live: set[Any]


_DISCONNECTS = ("WebSocketDisconnect", "ClientDisconnect")
"""What frameworks call it."""

_TASK = "flowserve-app"
"""The name of each task in which the application is called."""


class Context:
    """One per worker: the application, its configuration and loop, and everything that is alive.

    `active` counts the requests in progress and the open WebSockets, `served` those that ever began; `tasks` has the
    application's task for each. `draining` is set when the shutdown begins, and never cleared; the application finds it
    in the state under "flowserve.draining". `metrics` is None while nothing is measured. `gate` is the
    `server.gate.Gate`, None when nothing is guarded; `refusals` counts what was refused, by the reason, and
    `websockets` those that are open or being opened.
    """

    __slots__ = (
        "_defaults",
        "_defaults_at",
        "_limit",
        "_variables",
        "access_log",
        "active",
        "app",
        "config",
        "draining",
        "enough",
        "gate",
        "late_websockets",
        "live",
        "loop",
        "metrics",
        "on_enough",
        "outbox",
        "refusals",
        "root_path",
        "served",
        "shutting_down",
        "state",
        "tasks",
        "thread",
        "timeout_keep_alive",
        "timers",
        "websockets",
    )

    def __init__(self, app: ASGI3Application, config: Config, loop: asyncio.AbstractEventLoop, outbox: Any) -> None:
        """`outbox` is the `outbox.Outbox` of this loop."""
        self.app: Callable[..., Coroutine[Any, Any, None]]
        self.app = cast(Any, app) if _gives_coroutine(app) else _as_coroutine(app)
        self.config = config
        self.access_log = config.access_log
        self.loop = loop
        self.outbox = outbox
        self.timers = Timers(loop)
        self.draining = asyncio.Event()
        self.state = key_sharing({DRAINING: self.draining}, settled=True)  # the lifespan's; each scope gets a copy
        self.root_path = config.root_path
        self.live: set[Live] = set()
        self.tasks: dict[Call, Task[None]] = {}
        self.active = 0
        self.served = 0
        self.enough = 0  # of them: then on_enough() is called; 0 for never
        self.on_enough: Callable[[], None] | None = None
        self.metrics: Any = None
        self.gate: Any = None
        self.refusals: dict[str, int] = {}
        self.websockets = 0
        self.shutting_down = False
        self.late_websockets = False  # while shutting down: whether those that are on the way may still open
        self.timeout_keep_alive = config.timeout_keep_alive  # seconds; fewer while shutting down
        self._limit = config.limit_concurrency or 0  # 0 for none
        self._variables = copy_context()  # for what needs none of its own
        self.thread = get_ident()  # the event loop's
        self._defaults = b""
        self._defaults_at = 0.0

    def is_full(self) -> bool:
        """Whether --limit-concurrency is reached."""
        return self._limit > 0 and self.active >= self._limit

    def refused(self, reason: str) -> None:
        """Count a connection, request or handshake that goes no further. `reason` is one of a few words."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def call_app(self, call: Call, scope: Any) -> None:
        """Call the application for `call`, in a task of its own."""
        self._start(call, self._run(call, scope))

    def call_app_for_long(self, call: LongCall, scope: Any) -> None:
        """As `call_app()`, for a call that lasts: while it does it takes less memory, and each of its turns less time.

        Its end is known one turn of the event loop later.
        """
        try:
            coroutine = self.app(scope, call.receive, call.send)
        except Exception:  # of an application that takes other arguments: to be told of as the errors of its task are
            coroutine = _as_coroutine(self.app)(scope, call.receive, call.send)
        self._start(call, coroutine).add_done_callback(call.returned, context=self._variables)

    def returned(self, call: Call, task: asyncio.Task[None]) -> None:
        """The task of a call for long has ended."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            _report(error)
        self._ended(call, task.cancelled() or error is not None)

    def _start(self, call: Call, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        if self.loop.get_task_factory() is None:
            # As loop.create_task() does, but for its numbering of names, which costs a fifth of a task.
            task = Task(coroutine, loop=self.loop, name=_TASK)
        else:
            task = self.loop.create_task(coroutine)
        self.tasks[call] = task
        self.active += 1
        self.served += 1
        if self.served == self.enough and self.on_enough is not None:
            self.on_enough()
        return task

    async def _run(self, call: Call, scope: Any) -> None:
        # Ended by this wrapper rather than by a callback of the task's: that would be one more turn of the event loop.
        failed = True
        try:
            await self.app(scope, call.receive, call.send)
            failed = False
        except asyncio.CancelledError:
            pass
        except Exception as error:
            _report(error)
        finally:
            self._ended(call, failed)

    def _ended(self, call: Call, failed: bool) -> None:
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
        for call, task in list(self.tasks.items()):
            task.cancel()
            # One that has not begun never gets to its own end.
            task.add_done_callback(partial(self._cancelled, call))

    def _cancelled(self, call: Call, task: Task[None]) -> None:
        self._ended(call, True)

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


def _gives_coroutine(app: Any) -> bool:
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004


def _as_coroutine(app: Callable[..., Awaitable[None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    """For applications that are no coroutine functions, but return an awaitable."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return call


def _report(error: Exception) -> None:
    """Log what the application raised, but for the client's leaving."""
    if _is_disconnect(error):
        logger.debug("The application ended with %r, as the client had left", error)
    else:
        logger.error("Exception in the application", exc_info=error)


def _is_disconnect(error: BaseException | None) -> bool:
    """Whether the error says no more than that the client has left."""
    while error is not None:
        if isinstance(error, (ClientDisconnected, ConnectionClosed)) or type(error).__name__ in _DISCONNECTS:
            return True
        error = error.__cause__
    return False
