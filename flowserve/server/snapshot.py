"""What a worker has counted, and what can be seen of its open connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowserve import metrics
from flowserve.session.metered import MeteredSession

if TYPE_CHECKING:
    from flowserve.asgi.context import Context
    from flowserve.metrics import Snapshot


def snapshot(context: Context) -> Snapshot:
    """Return what the metrics of `context` have counted, and what can be seen of its open connections."""
    counted = context.metrics
    sessions = [each for each in context.live if isinstance(each, MeteredSession)]
    found: Snapshot = counted.snapshot()
    found[metrics.OPEN] = {"http": len(context.live) - len(sessions), "websocket": len(sessions)}
    found[metrics.REFUSALS] = dict(context.refusals)
    found[metrics.QUEUED] = {"": sum(each.waiting for each in sessions)}
    found[metrics.PAUSED] = {
        "in": sum(each.reading_paused for each in sessions),
        "out": sum(each.stream.write_paused for each in sessions),
    }
    found[metrics.DROPPED][""] += sum(each.dropped for each in sessions)
    found[metrics.WORKER_DRAINING] = {"": int(context.draining.is_set())}
    return found
