"""What the compliance tools share: starting a server on a free port, and reading from Linux what its processes cost."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
_PORTS = range(16384, 32768)
"""Linux takes those of outgoing connections from 32768 on (net.ipv4.ip_local_port_range)."""


class ServerFailed(Exception):
    """A server did not start, or ended too early; the message carries the end of what it printed."""


def cache_dir(name: str) -> Path:
    """A directory of our own under the user's cache, made when it isn't there."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "flowserve" / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def free_port() -> int:
    """A port of the loopback address that nobody listens on now, and that stays free: outgoing connections
    do not take it, and those who ask at the same time get others."""
    while True:
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind((HOST, secrets.choice(_PORTS)))
            return int(sock.getsockname()[1])


class Server:
    """A server process in a session of its own, so that its workers can be ended together with it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.pid = process.pid
        self.port = port
        self.log = log

    def failed(self, why: str) -> ServerFailed:
        tail = self.log.read_text(errors="replace").strip().splitlines()[-15:]
        return ServerFailed("\n".join([why, *("    " + line for line in tail)]))

    def wait_ready(self, seconds: float) -> None:
        """Wait until the port takes connections. Raises ServerFailed when the process ends or the time is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise self.failed(f"the server ended with status {self.process.returncode}")
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1):
                return
            time.sleep(0.02)
        raise self.failed(f"the server was not ready after {seconds:.0f} s")

    def wait_for_workers(self, seconds: float) -> None:
        """Wait until all workers of flowserve serve, not the first one alone. Raises ServerFailed."""
        deadline = time.monotonic() + seconds
        while "workers serve on" not in self.log.read_text(errors="replace"):
            if time.monotonic() > deadline:
                raise self.failed(f"not all workers serve after {seconds:g} s")
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what is left of its session after a few seconds."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(3)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def serving(
    command: Sequence[str],
    *,
    port: int,
    env: Mapping[str, str] | None = None,
    cwd: Path = CHECKOUT,
    core: int | None = None,
    timeout: float = 20.0,
) -> Iterator[Server]:
    """Run `command`, which is expected to listen on `port`, pinned to `core` if given; yield it when it is ready.

    What it prints goes to a file that is shown only in the message of ServerFailed.
    """
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                list(command),
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
            )
        server = Server(process, port, log)
        try:
            server.wait_ready(timeout)
            yield server
        finally:
            server.stop()


def flowserve_command(python: str, app: str, app_dir: Path, port: int, *options: str) -> list[str]:
    """The command line of flowserve for an application module in `app_dir`."""
    listen = ["--host", HOST, "--port", str(port)]
    return [python, "-m", "flowserve", *listen, "--app-dir", str(app_dir), "--no-access-log", *options, app]


def flowserve_env(pure: bool) -> dict[str, str]:
    """The environment that chooses between the two speeds."""
    return {"FLOWSERVE_PURE": "1" if pure else ""}


def flowserve_version(python: str, pure: bool, cwd: Path) -> str:
    """What `flowserve --version` says, on one line. Raises ServerFailed when it can't be run."""
    done = subprocess.run(
        [python, "-m", "flowserve", "--version"],
        cwd=cwd,
        env={**os.environ, **flowserve_env(pure)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ServerFailed(f"{python} -m flowserve does not run: {reason}\nInstall it first: pip install -e .")
    return " ".join(done.stdout.split())


def tree(pid: int) -> list[int]:
    """The process and all of its living descendants."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found.extend(int(child) for child in (task / "children").read_text().split())
    return found


def process_cpu_seconds(pid: int) -> float:
    """User and system time of one process. Its CPU clock counts nanoseconds, not ticks as stat does."""
    return time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3) on Linux


def cpu_seconds(pid: int) -> float:
    """User and system time of the process tree."""
    return sum(process_cpu_seconds(member) for member in tree(pid))


def memory_kib(pid: int) -> int:
    """Proportional set size of the process tree."""
    total = 0
    for member in tree(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def status_kib(pid: int, field: str) -> int:
    """A size of one process from /proc/PID/status, as VmRSS (now) or VmHWM (its peak)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise KeyError(field)


class Progress:
    """One line on a terminal that is written over; whole lines, and fewer of them, where there is no terminal."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.said = 0.0

    def show(self, text: str, every: float = 0.0) -> None:
        """Show `text`; where there is no terminal, at most once in `every` seconds."""
        if self.terminal:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.said >= every:
            self.said = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the line, so that results can follow."""
        if self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
