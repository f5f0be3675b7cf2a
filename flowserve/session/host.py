"""What the sessions of one event loop share."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from flowserve.config import Config
from flowserve.metrics import Metrics
from flowserve.session.time_slice import TimeSlice
from flowserve.transport.timers import Timers


class Household(Protocol):
    """What sessions share, be it a Context or not: `outbox` is the `outbox.Outbox` of the loop."""

    config: Config
    loop: asyncio.AbstractEventLoop
    outbox: Any
    timers: Timers
    timeslice: TimeSlice
    live: set[Any]


class MeteredHousehold(Household, Protocol):
    """What sessions share that count for the metrics."""

    metrics: Metrics
