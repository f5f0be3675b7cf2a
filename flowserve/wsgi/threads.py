"""A pool of threads that never hold up the end of the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

_Job = Callable[[], object]


class ThreadPool:
    """Runs jobs in at most `most` threads, started when they are needed; further jobs wait in line.

    Unlike those of concurrent.futures, the threads are daemons: one that hangs does not keep the process from exiting.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._threads = 0
        self._unfinished = 0  # jobs, as far as `_finished` has been counted
        self._finished = threading.Semaphore(0)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()

    def submit(self, job: _Job) -> None:
        """Have `job` called in a thread. It must not raise. All calls must come from one thread."""
        while self._finished.acquire(blocking=False):
            self._unfinished -= 1
        if self._unfinished >= self._threads and self._threads < self._most:
            name = f"flowserve-wsgi-{self._threads + 1}"
            threading.Thread(target=_work, args=(self._jobs, self._finished), name=name, daemon=True).start()
            self._threads += 1
        self._unfinished += 1
        self._jobs.put(job)

    def close(self) -> None:
        """End the threads when they have done what is in line. Nothing may be submitted any more."""
        self._jobs.put(None)

    __del__ = close


def _work(jobs: SimpleQueue[_Job | None], finished: threading.Semaphore) -> None:
    """A thread's life. It does not know the pool, which would otherwise live as long as its threads."""
    while (job := jobs.get()) is not None:
        job()
        del job  # what it holds must not live until the next one comes
        finished.release()
    jobs.put(None)  # for the next thread
