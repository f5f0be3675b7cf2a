"""A thread pool that never keeps the process from exiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

_Job = Callable[[], object]


class ThreadPool:
    """Runs jobs in at most `max_threads` threads, started on demand; further jobs are queued.

    Unlike the threads of concurrent.futures these are daemons: one that hangs does not keep the process from exiting.
    """

    def __init__(self, max_threads: int) -> None:
        self._max_threads = max_threads
        self._threads = 0
        self._unfinished = 0  # submitted jobs, less the finished ones that submit() has counted
        self._finished = threading.Semaphore(0)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()

    def submit(self, job: _Job) -> None:
        """Call `job` in a thread. It must not raise. All calls of submit() must come from one thread."""
        while self._finished.acquire(blocking=False):
            self._unfinished -= 1
        if self._unfinished >= self._threads and self._threads < self._max_threads:
            name = f"flowserve-wsgi-{self._threads + 1}"
            threading.Thread(target=_run_jobs, args=(self._jobs, self._finished), name=name, daemon=True).start()
            self._threads += 1
        self._unfinished += 1
        self._jobs.put(job)

    def close(self) -> None:
        """End the threads when the queued jobs are done. Nothing may be submitted afterwards."""
        self._jobs.put(None)

    __del__ = close


def _run_jobs(jobs: SimpleQueue[_Job | None], finished: threading.Semaphore) -> None:
    """The target of each thread. It does not refer to the pool, which would otherwise live as long as its threads."""
    while (job := jobs.get()) is not None:
        job()
        del job  # release what it refers to before the next job arrives
        finished.release()
    jobs.put(None)  # for the next thread
