"""The worker process that a supervisor starts: python -m flowserve.supervisor.child DESCRIPTOR."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from flowserve.config import Config
from flowserve.logs.loggers import logger
from flowserve.logs.setup import set_up_logging
from flowserve.runtime.event_loop import run_until_done
from flowserve.runtime.exit import guard
from flowserve.runtime.signals import handling
from flowserve.runtime.standard_streams import write_error
from flowserve.runtime.startup_errors import Failure, explain
from flowserve.server.process import owning_process
from flowserve.server.server import Server
from flowserve.supervisor.channel import Channel, Message, Order, receive_order, send_blocking
from flowserve.supervisor.process import TERMINAL_SIGNALS
from flowserve.topics.hub.current import server_source
from flowserve.topics.hub.open import reaches_machines
from flowserve.topics.hub.owed_gaps import OwedGaps
from flowserve.topics.settings import Retention

_BEATS_PER_TIMEOUT = 10
"""Beats that a worker sends within --timeout-worker-healthcheck."""
_MAX_BEAT_INTERVAL = 1.0
"""Most seconds between two beats."""
_POLL_INTERVAL = 0.2
"""Seconds between checks of the supervisor while the application is imported."""


class Worker:
    """A server and the worker's end of the channel."""

    def __init__(self, config: Config, descriptors: tuple[int, ...]) -> None:
        self._config = config
        self._descriptors = descriptors
        self.server = Server(config)
        self.server.serves_metrics = self.server.announces = False
        self._channel: Channel
        self._drain = asyncio.Event()
        self._beats = 0
        self._owed_gaps: OwedGaps | None = None  # of topics between machines

    async def run(self, sock: socket.socket) -> None:
        """Serve until the supervisor sends a drain, or has ended. Raises what `Server.startup()` raises."""
        self._loop = asyncio.get_running_loop()
        self._channel = await Channel.open(sock, self._on_message)
        self.server.worn = lambda reason: self._channel.send(worn=reason)
        self.server.signalled = self._on_sigterm
        await self.server.startup([_inherited(descriptor) for descriptor in self._descriptors])
        self._report_gaps()
        with handling({signal.SIGHUP: _ignore}, {signal.SIGTERM: self.server.handle_exit}):
            self._channel.send(ready=True)
            self._beat()
            watch = self._loop.create_task(self._wait_for_supervisor())
            await self._drain.wait()
            self.server.should_exit = True
            await self.server.shutdown()
            watch.cancel()
            if self._config.metrics is not None:
                self._channel.send(snapshot=self.server.snapshot(), id=0)
            self._channel.close()

    def _report_gaps(self) -> None:
        """Have the supervisor know the gaps of topics that this worker owes. Without a backplane to other machines it
        owes none."""
        if reaches_machines(self._config.topics_url):
            with suppress(RuntimeError):  # the application runs other servers in this process
                if (source := server_source()) is not None:
                    self._owed_gaps = source.hub.owed_gaps
                    self._owed_gaps.report_to(self._report_gap)

    def _report_gap(self, topic: str, retention: Retention | None, key: str) -> None:
        self._channel.send(owed_gap=topic, retention=retention and [*retention, key])

    async def _wait_for_supervisor(self) -> None:
        await self._channel.ended.wait()
        logger.warning("The supervisor is gone: shutting down")
        if self._owed_gaps is not None:
            self._owed_gaps.report_to(None)
        self._drain.set()

    def _on_message(self, message: Message) -> None:
        match message:
            case {"lame_duck": True}:
                self.server.become_lame_duck()
            case {"drain": True}:
                self._drain.set()
            case {"cut": True}:
                self.server.cut()
                self._drain.set()
            case {"owed_gaps": dict(gaps)} if self._owed_gaps is not None:
                for topic, gap in gaps.items():
                    self._owed_gaps.add(topic, Retention(*gap[:3]), *gap[3:])  # an older worker has told no key
            case {"snapshot": int(number)}:
                self._channel.send(snapshot=self.server.snapshot(), id=number)

    def _on_sigterm(self, _number: int) -> None:
        self._channel.send(leaving="SIGTERM")
        self._drain.set()

    def _beat(self) -> None:
        self._beats += 1
        self._channel.send(beat=self._beats)
        interval = min(_MAX_BEAT_INTERVAL, self._config.timeout_worker_healthcheck / _BEATS_PER_TIMEOUT)
        self._loop.call_later(interval, self._beat)


def _inherited(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)  # programs that the application starts must not inherit it
    return sock


def main(descriptor: int) -> int:
    """Read the order from the socket `descriptor` and serve; return the exit status."""
    for number in TERMINAL_SIGNALS:
        # a handler instead of SIG_IGN, which programs that the application starts would inherit
        signal.signal(number, _ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL_SIGNALS)
    with _inherited(descriptor) as sock:
        try:
            order = receive_order(sock)
        except EOFError:
            return 0
        except Exception as error:
            return _report_failure(sock, Failure(f"a worker can't take over the configuration: {error}"))
        return _serve(order, sock)


def _ignore(*_: Any) -> None:
    pass


def _serve(order: Order, sock: socket.socket) -> int:
    sys.path[:] = order.path
    sys.argv[:] = order.argv
    set_up_logging(order.config)
    app = str(order.config.app)
    worker = Worker(order.config, order.descriptors)
    try:
        with owning_process(worker.server) as loop:
            with _ending_with_supervisor(sock):
                worker.server.load()
            run_until_done(loop, worker.run(sock.dup()))
    except SystemExit as error:
        return _report_failure(sock, Failure(f"{app!r} ended its process (exit status {error.code})"))
    except Exception as error:
        return _report_failure(sock, explain(error, app))
    return 0


@contextmanager
def _ending_with_supervisor(sock: socket.socket) -> Iterator[None]:
    """While in this context, kill this process if its supervisor ends or sends anything: before the worker is ready
    that can only be a request to end."""
    finished = threading.Event()

    def watch() -> None:
        while not finished.is_set():
            if select.select([sock], [], [], _POLL_INTERVAL)[0] and not finished.is_set():
                os.kill(os.getpid(), signal.SIGKILL)

    watching = threading.Thread(target=watch, name="flowserve-supervisor", daemon=True)
    watching.start()
    try:
        yield
    finally:
        finished.set()
        watching.join()


def _report_failure(sock: socket.socket, failure: Failure) -> int:
    if failure.details:
        write_error(failure.details)
    send_blocking(sock, failed=failure.line, status=failure.status)
    guard.status = failure.status
    return failure.status


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1])))
