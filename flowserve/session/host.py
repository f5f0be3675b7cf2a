"""What the sessions of one event loop share."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from flowserve.config import Config
from flowserve.metrics import Metrics
from flowserve.session.time_slice import TimeSlice
from flowserve.transport.timers import Timers


class SessionContext(Protocol):
    """What sessions share, be it a Context or not: `flush_queue` is the `flush_queue.FlushQueue` of the loop."""

    config: Config
    loop: asyncio.AbstractEventLoop
    flush_queue: Any
    timers: Timers
    timeslice: TimeSlice
    live: set[Any]


class MeteredSessionContext(SessionContext, Protocol):
    """What sessions share that count for the metrics."""

    metrics: Metrics
