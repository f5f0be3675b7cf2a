"""The supervisor of several workers: starts, replaces and stops them."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from flowserve.config import Config
from flowserve.errors import FlowserveError
from flowserve.grammar import plural
from flowserve.logs.loggers import logger
from flowserve.runtime.sd_notify import READY, STOPPING, notify
from flowserve.runtime.signals import again_hint, handling
from flowserve.runtime.start_line import about
from flowserve.server.listen import Listeners
from flowserve.server.quiesce import drop_new_connections
from flowserve.server.shutdown import delay_of, log_delay, max_shutdown_time
from flowserve.supervisor.counts import Counts
from flowserve.supervisor.owed_gaps import OwedGaps
from flowserve.supervisor.process import WorkerProcess
from flowserve.topics.hub.open import BROKER
from flowserve.topics.local.broker import Broker
from flowserve.topics.settings import Settings

_STABLE_AFTER = 10.0
"""Seconds; the death of a worker that served for so long is not part of a crash loop."""
_FIRST_DELAY = 0.25
_LONGEST_DELAY = 10.0
"""Seconds between a worker's death and its replacement in a crash loop: none after the first death, then _FIRST_DELAY,
doubled each time up to _LONGEST_DELAY."""
_EXIT_TIME = 2.0
"""Seconds that a worker may take to exit after its shutdown."""
_NOTICE_TIME = 1.0
"""Seconds of waiting for the workers at the end after which a log line says so."""
_ACCEPT_TIME = 0.1
"""Seconds for workers to accept the connections that the kernel has completed, after new ones are dropped."""


class Slot:
    """A place for one worker, with the `sockets` that it listens on; those in `own` belong to no other slot.

    `number` counts from 1 and is that of the worker. `key` identifies the sockets in `Listeners` and is never reused.
    `lock` is held while a worker is started in the slot.
    """

    def __init__(self, number: int, key: int, sockets: list[socket.socket], own: list[socket.socket]) -> None:
        self.number = number
        self.key = key
        self.sockets = sockets
        self.own = own
        self.worker: WorkerProcess | None = None
        self.lock = asyncio.Lock()
        self.deaths = 0  # in succession, each before _STABLE_AFTER seconds of service
        self.open = True  # until it is removed (SIGTTOU)

    def restart_delay(self, lived: float) -> float:
        """Count the death of a worker that served for `lived` seconds; return the seconds to wait before it is
        replaced."""
        if lived >= _STABLE_AFTER:
            self.deaths = 0
        self.deaths += 1
        return 0.0 if self.deaths == 1 else float(min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(self.deaths - 2, 10)))


class Supervisor:
    """Serves `config` with --workers processes, each in a slot whose sockets outlive it.

    SIGINT and SIGTERM stop it, a second one at once; SIGHUP replaces all workers one after the other; SIGTTIN adds a
    worker and SIGTTOU removes one.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._drain_timeout = max_shutdown_time(config) + _EXIT_TIME
        self._slots: list[Slot] = []
        self._next_key = 0
        self._workers: set[WorkerProcess] = set()
        self._owed_gaps = OwedGaps(self._workers)
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False
        self._stopping = False
        self._stop_signals = 0
        self._last_signal: signal.Signals | None = None
        self._delay: asyncio.TimerHandle | None = None  # of --shutdown-delay, once that has begun

    async def run(self) -> None:
        """Serve until a signal ends it. Raises ConfigError, StartupFailed or FlowserveError if a worker can't start at
        the beginning; the worker has printed the traceback then."""
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._hangup = asyncio.Event()
        self._worn_workers: asyncio.Queue[WorkerProcess] = asyncio.Queue()
        self._listeners = Listeners(self._config, separate=True)
        handlers = {
            signal.SIGINT: self._on_stop,
            signal.SIGTERM: self._on_stop,
            signal.SIGHUP: self._on_hangup,
            signal.SIGTTIN: self._on_add,
            signal.SIGTTOU: self._on_remove,
        }
        broker = await self._open_broker()
        try:
            # inherited sockets and UNIX domain sockets are shared by all slots
            pairs = zip(self._listeners.slot(0), self._listeners.slot(1), strict=True)
            self._is_own = [first is not second for first, second in pairs]
            self._counts = Counts(self._config, self._workers)
            with handling(handlers):
                await self._serve()
        finally:
            self._listeners.close()
            if broker is not None:
                broker.close()

    async def _open_broker(self) -> Broker | None:
        """Return the broker of the workers' topics; None if something else carries them, or where no socket can be
        made, as in a container whose file system is read-only."""
        if self._config.topics_url is not None:
            return None
        broker = Broker(Settings.of(self._config))
        try:
            await broker.open()
        except OSError as error:
            logger.warning("Topics do not reach other workers: no UNIX socket in a temporary folder: %s", error)
            return None
        self._config = replace(self._config, topics_url=BROKER + broker.path)
        return broker

    async def _serve(self) -> None:
        await self._counts.open()
        for _ in range(self._config.workers):
            self._add_slot()
        self._create_task(self._start_workers())
        try:
            await self._done
        finally:
            await self._stop()
            await self._counts.close()

    def _create_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in a task; if it raises, `run()` stops and raises that."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._done.done():
            self._done.set_exception(error)

    async def _start_workers(self) -> None:
        first, *others = self._slots
        await self._start(first)  # alone: what fails in one fails in all, and should be logged once
        starts = [self._loop.create_task(self._start(slot)) for slot in others]
        self._tasks.update(starts)
        await asyncio.gather(*starts)
        self._started = True
        where = ", ".join(self._listeners.describe())
        logger.info("%s serve on %s%s", plural(len(self._slots), "worker"), where, about(self._config.loop))
        notify(READY)
        self._create_task(self._replace_worn())
        self._create_task(self._restart_on_hangup())

    # Slots

    def _add_slot(self) -> Slot:
        key = self._next_key
        sockets = self._listeners.slot(key)
        own = [sock for sock, is_own in zip(sockets, self._is_own, strict=True) if is_own]
        slot = Slot(len(self._slots) + 1, key, sockets, own)
        self._next_key += 1
        self._slots.append(slot)
        return slot

    def _slot_of(self, worker: WorkerProcess) -> Slot | None:
        return next((slot for slot in self._slots if slot.worker is worker), None)

    async def _start(self, slot: Slot) -> None:
        async with slot.lock:
            await self._start_locked(slot)

    async def _start_locked(self, slot: Slot) -> None:
        """Start a worker in a slot, beside its present one if there is one, which it replaces as soon as it is ready.

        Raises FlowserveError if it can't start.
        """
        healthcheck = self._config.timeout_worker_healthcheck
        worker = await WorkerProcess.start(self._config, slot.sockets, self, healthcheck)
        worker.slot = slot.number
        self._workers.add(worker)
        if self._stopping:
            worker.drain(0)
        await worker.until_ready()
        self._owed_gaps.hand_over()
        if self._delay is not None:
            worker.become_lame_duck()
        if slot.open and not self._stopping:
            slot.worker = worker
            logger.log(logging.INFO if self._started else logging.DEBUG, "Worker %d serves", worker.pid)
        else:
            worker.drain(self._drain_timeout)

    async def _replace(self, slot: Slot, why: str) -> bool:
        """Start a new worker in the slot, then drain the old one. If the new one can't start, keep the old one and
        return False."""
        async with slot.lock:
            if not slot.open:
                return True
            old = slot.worker
            try:
                await self._start_locked(slot)
            except FlowserveError as error:
                logger.error("The new worker can't start, so worker %s goes on: %s", old.pid if old else "-", error)
                return False
            if old is not None and not old.retired:
                logger.info("Worker %d drains: %s", old.pid, why)
                old.drain(self._drain_timeout)
            return True

    async def _refill(self, slot: Slot, restart_delay: float) -> None:
        """Start a worker in an empty slot after `restart_delay` seconds, and retry until it is ready."""
        while True:
            await asyncio.sleep(restart_delay)
            async with slot.lock:
                if slot.worker is not None or not slot.open:
                    return
                try:
                    await self._start_locked(slot)
                    return
                except FlowserveError as error:
                    restart_delay = slot.restart_delay(0.0)
                    logger.error("A worker can't start, next try in %g s: %s", restart_delay, error)

    async def _remove(self, slot: Slot) -> None:
        """Remove a slot without losing connections that arrive meanwhile."""
        drop_new_connections(slot.own)
        await asyncio.sleep(_ACCEPT_TIME)
        if slot.worker is not None:
            logger.info("Worker %d drains: one less", slot.worker.pid)
            slot.worker.drain(self._drain_timeout)
        self._listeners.close_slot(slot.key)

    # As a WorkerListener

    def worn(self, worker: WorkerProcess, reason: str) -> None:
        """Queue the worker for replacement. Workers are replaced one after the other: all at once would take twice the
        memory."""
        logger.info("Worker %d is to be replaced: %s", worker.pid, reason)
        self._worn_workers.put_nowait(worker)

    async def _replace_worn(self) -> None:
        while True:
            worker = await self._worn_workers.get()
            slot = self._slot_of(worker)
            if slot is None:
                continue  # it was replaced or has died meanwhile
            if await self._replace(slot, "it is replaced"):
                self._counts.restarted("worn")
                await worker.ended.wait()
            else:
                self._loop.call_later(slot.restart_delay(0.0), self._worn_workers.put_nowait, worker)

    def leaving(self, worker: WorkerProcess, reason: str) -> None:
        """Replace a worker that ends on a SIGTERM that was sent to it: at once, as it accepts no more."""
        slot = self._slot_of(worker)
        if slot is not None and not self._stopping:
            logger.info("Worker %d drains: %s", worker.pid, reason)
            worker.drain(self._drain_timeout)
            self._counts.restarted("left")
            slot.worker = None
            self._create_task(self._refill(slot, 0.0))

    def ended(self, worker: WorkerProcess) -> None:
        """Note that a process has ended; replace the worker unless it was retired."""
        self._workers.discard(worker)
        self._counts.ended(worker)
        self._owed_gaps.ended(worker)
        slot = self._slot_of(worker)
        if worker.retired or slot is None:
            level = logging.WARNING if worker.overdue else logging.DEBUG
            logger.log(level, "Worker %d %s", worker.pid, worker.how_it_ended())
            return
        slot.worker = None
        if self._stopping:
            return
        restart_delay = slot.restart_delay(self._loop.time() - worker.ready_at)
        soon = f"in {restart_delay:g} s" if restart_delay else "now"
        logger.error("Worker %d %s; it is replaced %s", worker.pid, worker.how_it_ended(), soon)
        self._counts.restarted("hung" if worker.hung else "died")
        self._create_task(self._refill(slot, restart_delay))

    # Signals

    def _on_hangup(self, number: signal.Signals) -> None:
        logger.info("%s: replacing all workers, one after the other", number.name)
        self._hangup.set()

    async def _restart_on_hangup(self) -> None:
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            await self._restart()

    async def _restart(self) -> None:
        for slot in list(self._slots):
            if slot.open:
                if not await self._replace(slot, "restart"):
                    logger.error("The restart is given up; the workers that were not replaced yet go on")
                    return
                self._counts.restarted("restart")
        logger.info("All workers are new")

    def _on_add(self, number: signal.Signals) -> None:
        if self._started and not self._stopping:
            try:
                slot = self._add_slot()
            except FlowserveError as error:
                logger.error("%s: %s", number.name, error)
                return
            logger.info("%s: workers from now on: %d", number.name, len(self._slots))
            self._create_task(self._refill(slot, 0.0))

    def _on_remove(self, number: signal.Signals) -> None:
        if not self._started or self._stopping:
            return
        if len(self._slots) == 1:
            logger.warning("%s: one worker has to stay", number.name)
            return
        slot = self._slots.pop()
        slot.open = False
        logger.info("%s: workers from now on: %d", number.name, len(self._slots))
        self._create_task(self._remove(slot))

    def _on_stop(self, number: signal.Signals) -> None:
        delay = delay_of(self._config, number)
        if delay and self._started and self._delay is None and not self._stop_signals:
            self._begin_delay(number, delay)
            return
        if self._delay is not None:
            self._delay.cancel()
        self._stop_signals += 1
        self._last_signal = number
        if self._stop_signals == 1:
            logger.info("%s: shutting down", number.name)
            if not self._done.done():
                self._done.set_result(None)
        else:
            logger.info("%s again: stopping at once", number.name)
            for worker in list(self._workers):
                worker.cut() if self._stop_signals == 2 else worker.kill()

    def _begin_delay(self, number: signal.Signals, delay: float) -> None:
        log_delay(self._config, number)
        self._delay = self._loop.call_later(delay, self._on_stop, number)
        for worker in self._workers:
            worker.become_lame_duck()

    def _log_waiting(self) -> None:
        hint = again_hint(self._last_signal) if self._last_signal is not None else ""
        logger.info("Waiting for %s to end%s", plural(len(self._workers), "worker"), hint)

    async def _stop(self) -> None:
        self._stopping = True
        notify(STOPPING)
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        drop_new_connections(sock for slot in self._slots for sock in slot.own)
        self._listeners.close()
        await asyncio.sleep(_ACCEPT_TIME)
        for worker in list(self._workers):
            worker.drain(self._drain_timeout)
        late = self._loop.call_later(_NOTICE_TIME, self._log_waiting)
        await asyncio.gather(*(worker.ended.wait() for worker in list(self._workers)))
        late.cancel()
        self._owed_gaps.close()
        if self._stop_signals:
            logger.info("Stopped")
