"""What the sessions of one event loop share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from flowserve.config import Config
    from flowserve.metrics import Metrics
    from flowserve.session.time_slice import TimeSlice
    from flowserve.transport.flush_queue import FlushQueue
    from flowserve.transport.timers import Timers


class SessionContext(Protocol):
    """What sessions share: an ASGI server's `Context` is one, and a `LibraryContext`."""

    @property
    def config(self) -> Config:
        """The options; those that begin with `ws_` are a session's."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def flush_queue(self) -> FlushQueue: ...

    @property
    def timers(self) -> Timers: ...

    @property
    def timeslice(self) -> TimeSlice:
        """The time that one iteration of the event loop has for decoding."""

    @property
    def live(self) -> set[Any]:
        """The sessions whose transport is not lost."""

    @property
    def metrics(self) -> Metrics | None:
        """What sessions count into, None for those that do not count."""
