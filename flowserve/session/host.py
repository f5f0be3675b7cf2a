"""What the sessions of one event loop share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flowserve.config import Config
    from flowserve.metrics import Metrics
    from flowserve.session.time_slice import TimeSlice
    from flowserve.transport.flush_queue import FlushQueue
    from flowserve.transport.timers import Timers


class LiveConnection(Protocol):
    """A connection that is not lost: a session, or a connection of a server before it becomes one."""

    def shutdown(self) -> None:
        """Close gracefully: what is in progress may complete, nothing new begins."""

    def abort(self) -> None:
        """Close now."""


class SessionContext(Protocol):
    """What the sessions of one event loop share. A server's `asgi.context.Context` and a `LibraryContext` are such."""

    @property
    def config(self) -> Config:
        """The options; sessions use those that begin with `ws_`."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop in which all methods are called."""

    @property
    def flush_queue(self) -> FlushQueue:
        """Flushes the output of all sessions at the end of an event loop iteration."""

    @property
    def timers(self) -> Timers:
        """The deadlines of all sessions."""

    @property
    def timeslice(self) -> TimeSlice:
        """The time that one iteration of the event loop has for decoding."""

    @property
    def live(self) -> set[LiveConnection]:
        """The connections that are not lost. A session adds itself when it is made, and removes itself when its
        connection is lost."""

    @property
    def metrics(self) -> Metrics | None:
        """What metered sessions count in; None without metrics."""
