# cython: language_level=3, annotation_typing=False, binding=False
"""What the sessions of one event loop share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from flowserve.session.time_slice import TimeSlice
from flowserve.transport.flush_queue import FlushQueue
from flowserve.transport.timers import Timers

if TYPE_CHECKING:
    from flowserve.config import Config
    from flowserve.metrics import Metrics
    from flowserve.transport.interfaces import LiveConnection


class SessionContext:
    """Base class of what the sessions of one event loop share."""

    __slots__ = ("config", "flush_queue", "live", "loop", "metrics", "timers", "timeslice")

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        flush_queue: FlushQueue,
        timers: Timers,
        timeslice: TimeSlice,
    ) -> None:
        """All methods are called in the thread of `loop`, to which the others belong."""
        self.config = config  # sessions use the options that begin with `ws_`
        self.loop = loop
        self.flush_queue = flush_queue  # of the output of all sessions
        self.timers = timers  # the deadlines of all sessions
        self.timeslice = timeslice  # the time that one iteration of the event loop has for decoding
        self.live: set[LiveConnection] = set()  # connections that are not lost; they add and remove themselves
        self.metrics: Metrics | None = None  # what metered sessions count in
