"""One worker process, as its supervisor sees it."""

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
"""What a terminal sends to all processes in it; the supervisor alone decides what they mean."""

_LOOKS = 5
"""How often a worker's heart is listened to in the time after which it counts as hung."""
_LAST_WORDS = 1.0
"""Seconds to wait for what an ended worker has said last; a process that it left behind may keep its channel open."""
_CUT = 2.0
"""Seconds that a worker gets to end without waiting for anybody."""


class WorkerListener(Protocol):
    """Who is told of a worker's fate."""

    def worn(self, worker: WorkerProcess, reason: str) -> None:
        """It should be replaced."""

    def leaving(self, worker: WorkerProcess, reason: str) -> None:
        """It has begun to end though nobody here said so."""

    def ended(self, worker: WorkerProcess) -> None:
        """The process is gone."""


class WorkerProcess:
    """A worker from its start to its end.

    `ready` is done when it serves, or has what keeps it from that: ConfigError, StartupFailed or FlowserveError with
    one line. `retired` is true once its end is wanted, `hung` if it is killed because its event loop stood still,
    `overdue` if it is because it took too long to end.
    """

    def __init__(self, keeper: WorkerListener, healthcheck: float | None) -> None:
        """Without `healthcheck` (seconds) it is never taken for hung. Use `start()`."""
        self._loop = asyncio.get_running_loop()
        self._keeper = keeper
        self._healthcheck = healthcheck
        self._process: asyncio.subprocess.Process
        self._channel: Channel
        self._task: asyncio.Task[None]
        self._silent_looks = 0
        self._timers: list[asyncio.TimerHandle] = []
        self._questions: dict[int, asyncio.Future[None]] = {}
        self._asked = 0
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.ready_at = 0.0
        self.ended = asyncio.Event()
        self.retired = False
        self.hung = False
        self.overdue = False
        self.slot = 0  # counted from 1
        self.last_snapshot: dict[str, Any] = {}

    @classmethod
    async def start(
        cls, config: Config, sockets: Sequence[socket.socket], keeper: WorkerListener, healthcheck: float | None = None
    ) -> WorkerProcess:
        """Start a process that serves on `sockets`. Raises FlowserveError if the system can't."""
        worker = cls(keeper, healthcheck)
        descriptors = tuple(sock.fileno() for sock in sockets)
        order = Order(config, descriptors, tuple(sys.path), tuple(sys.argv)).encode()
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise _cannot_start(error) from None
        try:
            worker._channel = await Channel.open(ours, worker._on_message)
            worker._process = await _spawn(theirs.fileno(), descriptors)
        except BaseException as error:
            worker._channel.close()
            if isinstance(error, OSError):
                raise _cannot_start(error) from None
            raise
        finally:
            theirs.close()
        worker._channel.write(order)
        worker._task = worker._loop.create_task(worker._wait())
        return worker

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it serves, or did."""
        return self.ready_at > 0

    async def until_ready(self) -> None:
        """Wait until it serves. Raises what keeps it from that."""
        await asyncio.shield(self.ready)

    def how_it_ended(self) -> str:
        """For the log: 'was killed by SIGKILL', 'ended with status 1'."""
        status = self._process.returncode or 0
        if self.hung:
            return f"did not answer for {self._healthcheck:g} s and was killed"
        if self.overdue:
            return "took too long to end and was killed"
        return f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with status {status}"

    # Orders

    def drain(self, seconds: float) -> None:
        """Have it end as its configuration says; after `seconds` it is killed.

        A worker that isn't ready has nothing to drain, and is ended at once.
        """
        self.retired = True
        if self.is_ready:
            self._channel.send(drain=True)
            self._kill_after(seconds)
        elif not self.ended.is_set():
            self._process.terminate()
            self._kill_after(_CUT)

    def cut(self) -> None:
        """Have it end without waiting for anybody."""
        if self.is_ready:
            self.retired = True
            self._channel.send(cut=True)
            self._kill_after(_CUT)
        else:
            self.kill()

    def kill(self) -> None:
        """End it now."""
        if not self.ended.is_set():
            try:
                self._process.kill()
            except ProcessLookupError:
                pass

    async def snapshot(self, seconds: float) -> bool:
        """Ask for a new `last_snapshot`. Returns whether it came within `seconds`."""
        self._asked += 1
        answer = self._questions[self._asked] = self._loop.create_future()
        self._channel.send(snapshot=self._asked)
        await asyncio.wait({answer, self._task}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return answer.done()

    def _kill_after(self, seconds: float) -> None:
        self._timers.append(self._loop.call_later(seconds, self._on_overdue))

    def _on_overdue(self) -> None:
        self.overdue = True
        self.kill()

    # What comes from it

    def _on_message(self, message: Message) -> None:
        match message:
            case {"beat": _}:
                self._silent_looks = 0
            case {"ready": True}:
                self._on_ready()
            case {"snapshot": dict(snapshot), "id": int(number)}:
                self.last_snapshot = snapshot
                if (answer := self._questions.pop(number, None)) is not None:
                    answer.set_result(None)
            case {"failed": str(line), "status": int(status)}:
                self._on_failed(StartupFailed(line) if status == STARTUP_FAILED else ConfigError(line))
            case {"worn": str(reason)}:
                self._keeper.worn(self, reason)
            case {"leaving": str(reason)}:
                self._keeper.leaving(self, reason)

    def _on_ready(self) -> None:
        self.ready_at = self._loop.time()
        if not self.ready.done():
            self.ready.set_result(None)
        if self._healthcheck is not None:
            self._look()

    def _on_failed(self, error: FlowserveError) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)

    def _look(self) -> None:
        """Looks are counted, not time: a supervisor that was stopped itself must not blame its workers."""
        if self.retired or self.ended.is_set():
            return
        if self._silent_looks > _LOOKS:
            self.hung = True
            self.kill()
            return
        self._silent_looks += 1
        assert self._healthcheck is not None
        self._timers.append(self._loop.call_later(self._healthcheck / _LOOKS, self._look))

    async def _wait(self) -> None:
        """Follow it to its end."""
        await self._process.wait()
        try:
            await asyncio.wait_for(self._channel.ended.wait(), _LAST_WORDS)
        except asyncio.TimeoutError:
            self._channel.close()
        for timer in self._timers:
            timer.cancel()
        self.ended.set()
        if not self.ready.done():
            self.ready.set_exception(FlowserveError(f"a worker {self.how_it_ended()} before it served"))
        self.ready.exception()  # looked at, so that asyncio does not complain if nobody else does
        self._keeper.ended(self)


def _cannot_start(error: OSError) -> FlowserveError:
    return FlowserveError(f"can't start a worker process: {error.strerror or error}")


async def _spawn(channel: int, descriptors: Iterable[int]) -> asyncio.subprocess.Process:
    # Blocked until the worker is able to ignore them.
    signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, *interpreter_flags(), "-m", "flowserve.supervisor.child", str(channel)),
            pass_fds=(channel, *descriptors),
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL_SIGNALS)


def interpreter_flags() -> list[str]:
    """Return the options of this process' interpreter for that of another: `-X dev`, `-W error`, `-O`, `-u` and so on.

    Beside them -P, where this process has not got the current folder in its imports: a worker loads nothing from there
    before its application.
    """
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    for name, value in sys._xoptions.items():  # those that it knows by name are only some
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
