"""What one worker's connections share. A leaf above the configuration."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from email.utils import formatdate
from time import time
from typing import Any, Protocol, cast

from asgiref.typing import ASGI3Application

from flowserve.config import Config
from flowserve.errors import ClientDisconnected
from flowserve.logs import logger
from flowserve.timers import Timers


class Live(Protocol):
    """A live connection, as the shutdown sees it."""

    def shutdown(self) -> None:
        """End it politely: what is in progress may complete, nothing new begins."""

    def abort(self) -> None:
        """End it now."""


class Context:
    """One per worker: the application, its configuration and loop, and everything that is alive.

    `active` counts the requests in progress and the open WebSockets; `tasks` are the application's.
    """

    __slots__ = (
        "_defaults",
        "_defaults_at",
        "active",
        "app",
        "config",
        "live",
        "loop",
        "outbox",
        "root_path",
        "shutting_down",
        "state",
        "tasks",
        "timers",
    )

    def __init__(self, app: ASGI3Application, config: Config, loop: asyncio.AbstractEventLoop, outbox: Any) -> None:
        """`outbox` is the `session.Outbox` of this loop."""
        self.app: Callable[..., Coroutine[Any, Any, None]]
        self.app = cast(Any, app) if _gives_coroutine(app) else _as_coroutine(app)
        self.config = config
        self.loop = loop
        self.outbox = outbox
        self.timers = Timers(loop)
        self.state: dict[str, Any] = {}  # the lifespan's; each scope gets a copy
        self.root_path = config.root_path
        self.live: set[Live] = set()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.active = 0
        self.shutting_down = False
        self._defaults = b""
        self._defaults_at = -1

    @property
    def is_full(self) -> bool:
        """Whether --limit-concurrency is reached."""
        limit = self.config.limit_concurrency
        return limit is not None and self.active >= limit

    def call_app(self, scope: Any, receive: Any, send: Any, done: Callable[[asyncio.Task[Any]], None]) -> None:
        """Call the application in a task of its own; `done(task)` is called at its end, and owes a call of
        `app_done()`."""
        task = self.loop.create_task(self.app(scope, receive, send))
        task.add_done_callback(done)
        self.tasks.add(task)
        self.active += 1

    def app_done(self, task: asyncio.Task[Any]) -> bool:
        """Forget the task. Returns whether the application raised; logs what it raised, but for the client's
        leaving."""
        self.tasks.discard(task)
        self.active -= 1
        if task.cancelled():
            return True
        error = task.exception()
        if error is None:
            return False
        if _is_disconnect(error):
            logger.debug("The application ended with %r, as the client had left", error)
        else:
            logger.error("Exception in the application", exc_info=error)
        return True

    def default_headers(self) -> bytes:
        """Return the header lines that every response gets; the date is made anew once a second (RFC 9110 section
        6.6.1)."""
        now = int(time())
        if now != self._defaults_at:
            lines = [b"%b: %b\r\n" % (name.encode("latin-1"), v.encode("latin-1")) for name, v in self.config.headers]
            given = {name.lower() for name, _ in self.config.headers}
            if self.config.date_header and "date" not in given:
                lines.insert(0, b"date: %b\r\n" % formatdate(now, usegmt=True).encode("ascii"))
            if self.config.server_header and "server" not in given:
                lines.append(b"server: flowserve\r\n")
            self._defaults = b"".join(lines)
            self._defaults_at = now
        return self._defaults


def _gives_coroutine(app: Any) -> bool:
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004


def _as_coroutine(app: Callable[..., Awaitable[None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    """For applications that are no coroutine functions, but return an awaitable."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return call


def _is_disconnect(error: BaseException | None) -> bool:
    """Whether the error says no more than that the client has left; frameworks have names of their own for that."""
    while error is not None:
        if isinstance(error, ClientDisconnected) or type(error).__name__ in ("WebSocketDisconnect", "ClientDisconnect"):
            return True
        error = error.__cause__
    return False
