"""A snapshot of a worker's metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowserve import metrics
from flowserve.session.metered import MeteredSession

if TYPE_CHECKING:
    from flowserve.asgi.context import Context
    from flowserve.metrics import Snapshot
    from flowserve.topics.hub.current import HubSource


def snapshot(context: Context, topics: HubSource) -> Snapshot:
    """Return the counters of `context.metrics`, which is not None, together with the gauges of its open connections and
    what `topics` have counted."""
    counters = context.metrics
    assert counters is not None
    sessions = [each for each in context.live if isinstance(each, MeteredSession)]
    result: Snapshot = {**counters.snapshot(), **topics.snapshot()}
    result[metrics.OPEN] = {"http": len(context.live) - len(sessions), "websocket": len(sessions)}
    result[metrics.REFUSALS] = dict(context.refusals)
    result[metrics.QUEUED] = {"": sum(each.waiting for each in sessions)}
    result[metrics.PAUSED] = {
        "in": sum(each.reading_paused for each in sessions),
        "out": sum(each.stream.write_paused for each in sessions),
    }
    result[metrics.DROPPED][""] += sum(each.dropped for each in sessions)
    result[metrics.WORKER_DRAINING] = {"": int(context.draining.is_set())}
    return result
