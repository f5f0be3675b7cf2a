"""The metrics of several workers on one page, including what workers that have ended counted."""

from __future__ import annotations

import asyncio
from collections.abc import Set

from flowserve.config import Config
from flowserve.metrics import RESTARTS, Snapshot, merge, without_gauges
from flowserve.server import metrics_endpoint
from flowserve.supervisor.process import WorkerProcess
from flowserve.topics.counts import Labels, bound

REASONS = ("died", "hung", "left", "restart", "worn")
"""Why workers are replaced. left: a worker ended on a SIGTERM that the supervisor did not send; worn: it reached a
limit."""

_SNAPSHOT_TIMEOUT = 1.0
"""Seconds that a worker gets to send its snapshot; Prometheus itself waits for ten."""


class Counts:
    """The metrics of `workers`, a set that the caller keeps up to date. Without --metrics it serves nothing."""

    def __init__(self, config: Config, workers: Set[WorkerProcess]) -> None:
        self._config = config
        self._workers = workers
        self._server: metrics_endpoint.MetricsServer | None = None
        self._restarts = dict.fromkeys(REASONS, 0)
        self._ended: Snapshot = {}
        self._topic_labels = Labels()

    async def open(self) -> None:
        """Serve the metrics if the configuration asks for it. Raises ConfigError."""
        if self._config.metrics is not None:
            self._server = await metrics_endpoint.listen(self._config, self._collect)

    async def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def restarted(self, reason: str) -> None:
        """Count the replacement of a worker; `reason` is one of REASONS."""
        self._restarts[reason] += 1

    def ended(self, worker: WorkerProcess) -> None:
        """Keep in the sums what a worker that has ended counted."""
        self._ended = merge([self._ended, without_gauges(self._last(worker))])

    async def _collect(self) -> list[tuple[str, Snapshot]]:
        """Ask all workers for a snapshot. For one that does not answer in time, use the counters of its last one."""
        ended_workers, workers = self._ended, [worker for worker in self._workers if worker.is_ready]
        answers = await asyncio.gather(*(worker.snapshot(_SNAPSHOT_TIMEOUT) for worker in workers))
        parts: list[tuple[str, Snapshot]] = [("", ended_workers), ("", {RESTARTS: dict(self._restarts)})]
        for worker, answered in zip(workers, answers, strict=True):
            snapshot = self._last(worker)
            parts.append((_label(worker), snapshot) if answered else ("", without_gauges(snapshot)))
        return parts

    def _last(self, worker: WorkerProcess) -> Snapshot:
        return bound(worker.last_snapshot, self._topic_labels)


def _label(worker: WorkerProcess) -> str:
    """Return a worker's label: its slot, not its process ID, as Prometheus keeps every label that ever existed."""
    return f"{worker.slot} leaving" if worker.retired else str(worker.slot)
