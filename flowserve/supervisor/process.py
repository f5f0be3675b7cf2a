"""A worker process, seen from its supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from flowserve.config import Config
from flowserve.errors import ConfigError, FlowserveError, StartupFailed
from flowserve.runtime.startup_errors import STARTUP_FAILED
from flowserve.supervisor.channel import Channel, Message, Order

TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGHUP)
"""The signals that a terminal sends to all its processes; only the supervisor acts on them."""

_CHECKS = 5
"""Checks within the health check's time; a worker without a beat in more of them counts as hung."""
_CHANNEL_TIMEOUT = 1.0
"""Seconds to wait for the last messages of a worker that has exited: a process that it left behind may keep the channel
open."""
_CUT_TIMEOUT = 2.0
"""Seconds that a worker gets to exit when it waits for nothing."""


class WorkerListener(Protocol):
    """The callbacks of a `WorkerProcess`."""

    def worn(self, worker: WorkerProcess, reason: str) -> None:
        """The worker has reached a limit and should be replaced."""

    def leaving(self, worker: WorkerProcess, reason: str) -> None:
        """The worker has begun to end on a signal that the supervisor did not send."""

    def ended(self, worker: WorkerProcess) -> None:
        """The process has ended."""


class WorkerProcess:
    """A worker process, from its start to its end.

    `ready` is done when the worker serves, or has the exception that prevents it: ConfigError, StartupFailed or
    FlowserveError with one line. `ended` is set when the process has exited. `retired` is true once the supervisor
    wants it to end, `hung` if it is killed because its event loop is blocked, `overdue` if it is killed because it
    takes too long to end. `ready_at` is the event loop's time when it became ready, 0 before; `last_snapshot` its last
    metrics; `owed_gaps` the topics whose gaps it owes, each with what is kept of it.
    """

    def __init__(self, listener: WorkerListener, healthcheck: float | None) -> None:
        """Use `start()`. `healthcheck` is the time in seconds without a beat after which it counts as hung; None:
        never."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._healthcheck = healthcheck
        self._process: asyncio.subprocess.Process
        self._channel: Channel
        self._task: asyncio.Task[None]
        self._silent_checks = 0
        self._timers: list[asyncio.TimerHandle] = []
        self._snapshot_replies: dict[int, asyncio.Future[None]] = {}
        self._last_id = 0
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.ready_at = 0.0
        self.ended = asyncio.Event()
        self.retired = False
        self.hung = False
        self.overdue = False
        self.slot = 0  # counted from 1
        self.last_snapshot: dict[str, Any] = {}
        self.owed_gaps: dict[str, Any] = {}

    @classmethod
    async def start(
        cls,
        config: Config,
        sockets: Sequence[socket.socket],
        listener: WorkerListener,
        healthcheck: float | None = None,
    ) -> WorkerProcess:
        """Start a process that serves `config` on the bound `sockets`. Raises FlowserveError if the system can't."""
        worker = cls(listener, healthcheck)
        descriptors = tuple(sock.fileno() for sock in sockets)
        order = Order(config, descriptors, tuple(sys.path), tuple(sys.argv)).encode()
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise _start_error(error) from None
        try:
            worker._channel = await Channel.open(ours, worker._on_message)
            worker._process = await _spawn(theirs.fileno(), descriptors)
        except BaseException as error:
            worker._channel.close()
            if isinstance(error, OSError):
                raise _start_error(error) from None
            raise
        finally:
            theirs.close()
        worker._channel.write(order)
        worker._task = worker._loop.create_task(worker._wait_for_exit())
        return worker

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it serves, or has served."""
        return self.ready_at > 0

    async def until_ready(self) -> None:
        """Wait until it serves. Raises the exception of `ready`."""
        await asyncio.shield(self.ready)

    def how_it_ended(self) -> str:
        """Return for the log how the process ended, such as 'was killed by SIGKILL' or 'ended with status 1'."""
        status = self._process.returncode or 0
        if self.hung:
            return f"did not answer for {self._healthcheck:g} s and was killed"
        if self.overdue:
            return "took too long to end and was killed"
        return f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with status {status}"

    # Requests to the worker

    def become_lame_duck(self) -> None:
        """Have it answer health checks with 503, and serve on."""
        self._channel.send(lame_duck=True)

    def drain(self, seconds: float) -> None:
        """Have it shut down as its configuration says; kill it after `seconds`.

        A worker that isn't ready has nothing to drain, and is terminated at once.
        """
        self.retired = True
        if self.is_ready:
            self._channel.send(drain=True)
            self._kill_after(seconds)
        elif not self.ended.is_set():
            self._process.terminate()
            self._kill_after(_CUT_TIMEOUT)

    def cut(self) -> None:
        """Have it shut down without waiting for anything."""
        if self.is_ready:
            self.retired = True
            self._channel.send(cut=True)
            self._kill_after(_CUT_TIMEOUT)
        else:
            self.kill()

    def kill(self) -> None:
        """Send it SIGKILL."""
        if not self.ended.is_set():
            try:
                self._process.kill()
            except ProcessLookupError:
                pass

    async def snapshot(self, seconds: float) -> bool:
        """Request a new `last_snapshot`. Returns whether it arrived within `seconds`."""
        self._last_id += 1
        answer = self._snapshot_replies[self._last_id] = self._loop.create_future()
        self._channel.send(snapshot=self._last_id)
        await asyncio.wait({answer, self._task}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return answer.done()

    def owe(self, gaps: dict[str, Any]) -> None:
        """Have it owe the gaps of another one, too."""
        self.owed_gaps |= gaps
        self._channel.send(owed_gaps=gaps)

    def _kill_after(self, seconds: float) -> None:
        self._timers.append(self._loop.call_later(seconds, self._on_overdue))

    def _on_overdue(self) -> None:
        self.overdue = True
        self.kill()

    # Messages from the worker, and its end

    def _on_message(self, message: Message) -> None:
        match message:
            case {"beat": _}:
                self._silent_checks = 0
            case {"ready": True}:
                self._on_ready()
            case {"snapshot": dict(snapshot), "id": int(number)}:
                self.last_snapshot = snapshot
                if (answer := self._snapshot_replies.pop(number, None)) is not None:
                    answer.set_result(None)
            case {"failed": str(line), "status": int(status)}:
                self._on_failed(StartupFailed(line) if status == STARTUP_FAILED else ConfigError(line))
            case {"owed_gap": str(topic), "retention": retention}:
                self._on_owed_gap(topic, retention)
            case {"worn": str(reason)}:
                self._listener.worn(self, reason)
            case {"leaving": str(reason)}:
                self._listener.leaving(self, reason)

    def _on_ready(self) -> None:
        self.ready_at = self._loop.time()
        if not self.ready.done():
            self.ready.set_result(None)
        if self._healthcheck is not None:
            self._check_beat()

    def _on_failed(self, error: FlowserveError) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)

    def _on_owed_gap(self, topic: str, retention: Any) -> None:
        if retention is None:
            self.owed_gaps.pop(topic, None)
        else:
            self.owed_gaps[topic] = retention

    def _check_beat(self) -> None:
        """Kill the worker if it is hung. Counts checks instead of time: a supervisor that was itself stopped must not
        blame its workers."""
        if self.retired or self.ended.is_set():
            return
        if self._silent_checks > _CHECKS:
            self.hung = True
            self.kill()
            return
        self._silent_checks += 1
        assert self._healthcheck is not None
        self._timers.append(self._loop.call_later(self._healthcheck / _CHECKS, self._check_beat))

    async def _wait_for_exit(self) -> None:
        """Wait for the process to exit and clean up."""
        await self._process.wait()
        try:
            await asyncio.wait_for(self._channel.ended.wait(), _CHANNEL_TIMEOUT)
        except asyncio.TimeoutError:
            self._channel.close()
        for timer in self._timers:
            timer.cancel()
        self.ended.set()
        if not self.ready.done():
            self.ready.set_exception(FlowserveError(f"a worker {self.how_it_ended()} before it served"))
        self.ready.exception()  # mark the exception as retrieved, or asyncio would log it
        self._listener.ended(self)


def _start_error(error: OSError) -> FlowserveError:
    return FlowserveError(f"can't start a worker process: {error.strerror or error}")


async def _spawn(channel: int, descriptors: Iterable[int]) -> asyncio.subprocess.Process:
    # Blocked until the worker has installed its handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, *interpreter_flags(), "-m", "flowserve.supervisor.child", str(channel)),
            pass_fds=(channel, *descriptors),
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL_SIGNALS)


def interpreter_flags() -> list[str]:
    """Return the options of this process' interpreter for another one: `-X dev`, `-W error`, `-O`, `-u` and so on.

    -P is added if the current folder is not in this process' sys.path: a worker then imports nothing from there before
    its application is imported.
    """
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    for name, value in sys._xoptions.items():  # the former covers only some of these
        flags += ["-X", name if value is True else f"{name}={value}"]
    if getattr(sys.__stdout__, "write_through", False):
        flags.append("-u")
    if sys.version_info >= (3, 11) and os.getcwd() not in map(os.path.abspath, sys.path):
        flags.append("-P")
    return flags


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
