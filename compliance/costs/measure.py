"""One pattern against a server of its own: what it sent, and what that cost."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compliance import _servers
from compliance._servers import HOST, cpu_seconds, flowserve_command, flowserve_env, free_port, status_kib
from compliance.costs.load import Load
from compliance.costs.pattern import PROXY, TLS, Pattern

CHECKOUT = _servers.CHECKOUT
QUIET = ("--log-level", "critical", "--ws-ping-interval", "off")
_WARM_UP = 50
"""So many times fewer units go first: what is loaded and made once is no cost of a pattern."""
_ASLEEP = 0.06
"""Seconds of sleep after which the server is done."""
_REFERENCE = 0.033
"""Seconds of CPU that `speed()`'s work takes on the machine for which the limits are stated."""
_PREFACE = b"PROXY UNKNOWN\r\n"


@dataclass(frozen=True)
class Setting:
    """What is measured: an interpreter with flowserve, its loop and speed, a certificate's folder, how much less."""

    python: str
    loop: str
    pure: bool
    certificates: Path
    less: int = 1

    def options(self, pattern: Pattern) -> list[str]:
        options = [*QUIET, "--loop", self.loop, *(option for option in pattern.options if option != TLS)]
        if TLS in pattern.options:
            options += ["--ssl-certfile", str(self.certificates / "server.pem")]
            options += ["--ssl-keyfile", str(self.certificates / "server.key")]
        return options


@dataclass
class Cost:
    """What a pattern cost: CPU in seconds, of all the server's threads; memory in KiB above what there was before."""

    units: int
    connections: int
    sent: int
    answered: int
    closed: int
    cpu: float
    hold_ms: float
    peak_kib: int
    after_kib: int

    @property
    def ns_per_byte(self) -> float:
        return self.cpu * 1e9 / max(self.sent, 1)

    def faults(self, pattern: Pattern, slower: float) -> list[str]:
        """Which limits it is over; those of CPU are for a machine that is `slower` times as slow as the reference."""
        limits = pattern.limits
        cpu = (self.sent * limits.ns_per_byte + self.connections * limits.us_per_connection * 1e3) / 1e9 * slower
        memory = limits.memory_mib * 1024 + self.sent * limits.memory_per_byte / 1024
        memory += self.connections * limits.memory_kib_per_connection
        found = []
        if self.hold_ms > limits.hold_ms * slower:
            found.append(f"holds the loop for {self.hold_ms:.1f} ms, not {limits.hold_ms * slower:.0f}")
        if self.cpu > cpu:
            found.append(f"takes {self.cpu * 1e3:.0f} ms of CPU, not {cpu * 1e3:.0f}")
        if self.peak_kib > memory:
            found.append(f"takes {self.peak_kib / 1024:.1f} MiB, not {memory / 1024:.1f}")
        return found


def speed() -> float:
    """How many times slower this machine is than the reference: the best of some tries, never below 1."""
    best = min(_work() for _ in range(7))
    return max(1.0, best / _REFERENCE)


def _work() -> float:
    began, data, total = time.thread_time(), bytes(range(256)) * 4096, 0
    zlib.crc32(zlib.compress(data, 1))
    for at in range(400_000):
        total += at & 7
    return time.thread_time() - began


class Subject:
    """A server under a pattern, and what it has used so far."""

    def __init__(self, server: _servers.Server, pattern: Pattern) -> None:
        self.server = server
        self._tls = TLS in pattern.options
        self._preface = _PREFACE if PROXY in pattern.options else b""

    def cpu(self) -> float:
        return cpu_seconds(self.server.pid)

    def take_longest_turn(self) -> float:
        """Milliseconds since this was last asked."""
        try:
            return _ask(self.server.port, self._preface, self._tls) / 1e6
        except (OSError, ValueError) as error:  # somebody else may have taken the port first
            raise self.server.failed(f"the application does not answer: {error}") from error

    def wait_until_asleep(self, seconds: float = 60.0) -> None:
        """Wait until it has nothing more to do."""
        deadline, since, before = time.monotonic() + seconds, time.monotonic(), self.cpu()
        while time.monotonic() - since < _ASLEEP:
            time.sleep(0.005)
            now = self.cpu()
            if now - before > 2e-4 or self._runs():
                since, before = time.monotonic(), now
            if self.server.process.poll() is not None:
                raise self.server.failed("flowserve has ended")
            if time.monotonic() > deadline:
                raise self.server.failed("flowserve does not come to rest")

    def _runs(self) -> bool:
        """Whether it has work: a busy machine keeps it waiting."""
        stat = Path(f"/proc/{self.server.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] in "RD"


def _ask(port: int, preface: bytes, tls: bool) -> int:
    sock = socket.create_connection((HOST, port), timeout=30)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        sock = context.wrap_socket(sock)
    with sock:
        sock.sendall(preface + b"GET /turns HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := sock.recv(65536):
            answer += data
    return int(answer.rpartition(b"\r\n\r\n")[2])


class Servers:
    """Those that a run has started: one for each pattern, or with `shared` one for all that need the same options."""

    def __init__(self, setting: Setting, shared: bool) -> None:
        self.setting = setting
        self.shared = shared
        self._running: dict[tuple[str, ...], _servers.Server] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def subject(self, pattern: Pattern) -> Iterator[Subject]:
        """A server for `pattern`. Raises ServerFailed."""
        if not self.shared:
            with self._start(pattern) as server:
                yield Subject(server, pattern)
            return
        if pattern.options not in self._running:
            self._running[pattern.options] = self._stack.enter_context(self._start(pattern))
        yield Subject(self._running[pattern.options], pattern)

    def forget(self, pattern: Pattern) -> None:
        """Start a new one for what needs the options of `pattern`."""
        self._running.pop(pattern.options, None)

    def _start(self, pattern: Pattern) -> contextlib.AbstractContextManager[_servers.Server]:
        port, setting = free_port(), self.setting
        app, options = "compliance.costs.application:app", setting.options(pattern)
        command = flowserve_command(setting.python, app, CHECKOUT, port, *options)
        return _servers.serving(command, port=port, env=flowserve_env(setting.pure))


def measure(pattern: Pattern, servers: Servers) -> Cost:
    """Raises ServerFailed."""
    count = max(pattern.count // servers.setting.less, 1)
    with servers.subject(pattern) as subject:
        _run(subject, pattern, max(count // _WARM_UP, 1))
        return _run(subject, pattern, count)


def _run(subject: Subject, pattern: Pattern, count: int) -> Cost:
    conversations = pattern.build(count)
    load = Load(subject.server.port, conversations, pattern.at_once)
    pid = subject.server.pid
    subject.take_longest_turn()
    subject.wait_until_asleep()
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak starts anew, proc_pid_clear_refs(5)
    memory, cpu = status_kib(pid, "VmRSS"), subject.cpu()
    with load.running():
        subject.wait_until_asleep()
    subject.wait_until_asleep()
    cpu = subject.cpu() - cpu
    peak, after = status_kib(pid, "VmHWM") - memory, status_kib(pid, "VmRSS") - memory
    hold = subject.take_longest_turn()
    return Cost(count, len(conversations), load.bytes, load.answered, load.closed, cpu, hold, peak, after)
