"""What --metrics says of several workers: one page for all, and what the workers that are gone have counted."""

from __future__ import annotations

import asyncio
from collections.abc import Set

from flowserve.config import Config
from flowserve.metrics import RESTARTS, Snapshot, merge, without_gauges
from flowserve.server import metrics_endpoint
from flowserve.supervisor.process import WorkerProcess

REASONS = ("died", "hung", "left", "restart", "worn")
"""Why workers are replaced; left: somebody else told it to end."""

_PATIENCE = 1.0
"""Seconds that a worker has for its answer; Prometheus itself waits for ten."""


class Counts:
    """The sums over `workers`, a set that lives on. Without --metrics nothing happens here."""

    def __init__(self, config: Config, workers: Set[WorkerProcess]) -> None:
        self._config = config
        self._workers = workers
        self._page: metrics_endpoint.MetricsServer | None = None
        self._restarts = dict.fromkeys(REASONS, 0)
        self._gone: Snapshot = {}

    async def open(self) -> None:
        """Serve the page, where the configuration says so. Raises ConfigError."""
        if self._config.metrics is not None:
            self._page = await metrics_endpoint.listen(self._config, self._collect)

    async def close(self) -> None:
        """Serve it no more."""
        if self._page is not None:
            self._page.close()
            await self._page.wait_closed()

    def restarted(self, reason: str) -> None:
        """A worker is replaced, for one of REASONS."""
        self._restarts[reason] += 1

    def ended(self, worker: WorkerProcess) -> None:
        """A worker is gone; what it counted stays in the sums."""
        self._gone = merge([self._gone, without_gauges(worker.last_snapshot)])

    async def _collect(self) -> list[tuple[str, Snapshot]]:
        """Ask all workers. Of one that does not answer in time, only what it has counted before is there."""
        gone, workers = self._gone, [worker for worker in self._workers if worker.is_ready]
        answers = await asyncio.gather(*(worker.snapshot(_PATIENCE) for worker in workers))
        parts: list[tuple[str, Snapshot]] = [("", gone), ("", {RESTARTS: dict(self._restarts)})]
        for worker, answered in zip(workers, answers, strict=True):
            snapshot = worker.last_snapshot
            parts.append((_name(worker), snapshot) if answered else ("", without_gauges(snapshot)))
        return parts


def _name(worker: WorkerProcess) -> str:
    """What it is called: not by its process ID, as Prometheus keeps every name that there ever was."""
    return f"{worker.slot} leaving" if worker.retired else str(worker.slot)
