"""Gaps of topics that workers owe, as flowserve/topics/hub/owed_gaps.py says: what one owed that has ended, another one
owes then, so that it does not matter how it has ended."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from flowserve.supervisor.process import WorkerProcess
from flowserve.topics.hub.owed_gaps import log_untold


class OwedGaps:
    """Those of `workers`, a set that the caller keeps up to date."""

    def __init__(self, workers: Set[WorkerProcess]) -> None:
        self._workers = workers
        self._left: dict[str, Any] = {}  # those of workers that have ended, by topic: what is kept of it

    def ended(self, worker: WorkerProcess) -> None:
        """Take over what a worker owed that has ended."""
        self._left |= worker.owed_gaps
        self.hand_over()

    def hand_over(self) -> None:
        """Have a worker owe it, if there is one that serves; else call this again when there is."""
        heir = next((each for each in self._workers if each.is_ready and not each.retired), None)
        if self._left and heir is not None:
            heir.owe(self._left)
            self._left = {}

    def close(self) -> None:
        """Log what nobody will tell, as all workers have ended."""
        if self._left:
            log_untold(len(self._left))
