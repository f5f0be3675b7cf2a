"""The command: four peers that don't keep up, and the server's peak memory with each of them.

A transfer ends when all of its bytes were taken, or when none was for some seconds: then backpressure holds it, as it
should.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from compliance._servers import (
    HOST,
    Progress,
    Server,
    ServerFailed,
    flowserve_command,
    flowserve_env,
    flowserve_version,
    free_port,
    serving,
    status_kib,
)

HERE = Path(__file__).resolve().parent
MEGABYTE = 1_000_000
LIMIT_KIB = 64 * 1024
PIECE = 64 * 1024
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FRAME = (
    struct.pack("!BBQI", 0x82, 0x80 | 127, PIECE, 0x37FA213D) + b"x" * PIECE
)  # masked: what it says is of no interest
CHUNK = b"%x\r\n" % PIECE + b"x" * PIECE + b"\r\n"


@dataclass
class Outcome:
    """One transfer: how much was taken (by `send`, or from the client), and what the server's memory was."""

    name: str
    moved_mb: float
    idle_kib: int
    peak_kib: int
    seconds: float
    error: str = ""

    @property
    def growth_kib(self) -> int:
        return self.peak_kib - self.idle_kib

    @property
    def good(self) -> bool:
        return not self.error and self.growth_kib < LIMIT_KIB


def connect(server: Server, head: str, expected: bytes = b"") -> socket.socket:
    """A connection that has sent a request head and, if one is expected, has read the head of the answer."""
    sock = socket.create_connection((HOST, server.port), timeout=10)
    sock.sendall(head.encode())
    answer = b""
    while expected and not answer.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            break
        answer += byte
    if not answer.startswith(expected):
        raise ServerFailed(f"expected {expected!r}, got {answer!r}")
    return sock


def progress_of(server: Server) -> int:
    """Bytes that the application has sent. That this is answered at all shows that the server still serves others."""
    request = "GET /progress HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with connect(server, request, b"HTTP/1.1 200") as sock:
        body = b""
        while data := sock.recv(4096):
            body += data
    return int(body.split(b"\r\n")[1] if b"\r\n" in body else body)  # no content-length: one chunk, or bare


def watch(server: Server, total: int, patience: float) -> Iterator[int]:
    """The client that never reads: how much the application has sent, until all of it or no more."""
    moved, since = 0, time.monotonic()
    while moved < total and time.monotonic() - since < patience:
        time.sleep(0.1)
        now = progress_of(server)
        if now != moved:
            moved, since = now, time.monotonic()
        yield moved


def push(sock: socket.socket, unit: bytes, total: int, patience: float) -> Iterator[int]:
    """The application that never receives: how much the server and the kernels took, until all of it or no more."""
    moved = 0
    sock.settimeout(patience)
    with contextlib.suppress(TimeoutError):
        while moved < total:
            moved += sock.send(unit[moved % len(unit) :])
            yield moved


def http_flood(server: Server, total: int, patience: float) -> Iterator[int]:
    with connect(server, "GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 200"):
        yield from watch(server, total, patience)


def websocket_flood(server: Server, total: int, patience: float) -> Iterator[int]:
    with connect(server, UPGRADE.format(path="/flood"), b"HTTP/1.1 101"):
        yield from watch(server, total, patience)


def http_upload(server: Server, total: int, patience: float) -> Iterator[int]:
    with connect(server, "POST /deaf HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n") as sock:
        yield from push(sock, CHUNK, total, patience)


def websocket_messages(server: Server, total: int, patience: float) -> Iterator[int]:
    with connect(server, UPGRADE.format(path="/deaf"), b"HTTP/1.1 101") as sock:
        yield from push(sock, FRAME, total, patience)


TRANSFERS: dict[str, Callable[[Server, int, float], Iterator[int]]] = {
    "HTTP response, client never reads": http_flood,
    "WebSocket messages, client never reads": websocket_flood,
    "HTTP upload, app never receives": http_upload,
    "WebSocket messages, app never receives": websocket_messages,
}


def measure(name: str, options: argparse.Namespace, progress: Progress) -> Outcome:
    """One transfer against a fresh server."""
    port = free_port()
    # Keepalive is off: who reads nothing answers no ping, and shall not be dropped before the flood is over.
    quiet = ["--log-level", "warning", "--ws-ping-interval", "off"]
    command = flowserve_command(options.python, "application:app", HERE, port, *quiet)
    with serving(command, port=port, env=flowserve_env(options.pure), cwd=HERE) as server:
        progress_of(server)
        idle, began, moved, error = status_kib(server.pid, "VmRSS"), time.monotonic(), 0, ""
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the peak starts anew, proc_pid_clear_refs(5)
        try:
            for moved in TRANSFERS[name](server, options.megabytes * MEGABYTE, options.patience):
                progress.show(f"{name}: {moved / MEGABYTE:.0f} MB", every=2)
        except (OSError, ServerFailed) as problem:
            error = f"{type(problem).__name__}: {problem}"
        if server.process.poll() is not None:
            raise server.failed("flowserve ended during the transfer")
        peak = status_kib(server.pid, "VmHWM")
    return Outcome(name, moved / MEGABYTE, idle, peak, time.monotonic() - began, error)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.memory",
        description="The server's peak memory when a peer does not keep up. Exits with 1 above idle + 64 MiB.",
    )
    parser.add_argument("--megabytes", type=int, default=500, help="how much is sent (default: 500)")
    parser.add_argument("--patience", type=float, default=4.0, help="seconds without progress that end it (default: 4)")
    parser.add_argument("--pure", action="store_true", help="the pure Python modules")
    parser.add_argument("--python", default=sys.executable, help="the interpreter for flowserve (default: this one)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the results as JSON")
    options = parser.parse_args()
    progress, outcomes = Progress(), []
    try:
        version = flowserve_version(options.python, options.pure, HERE)
        for name in TRANSFERS:
            outcomes.append(measure(name, options, progress))
    except ServerFailed as failure:
        progress.clear()
        print(failure, file=sys.stderr)
        return 1
    progress.clear()
    print(f"{version}\n{'':<40}{'taken MB':>10}{'idle MiB':>10}{'peak MiB':>10}{'growth':>8}")
    for one in outcomes:
        sizes = f"{one.idle_kib / 1024:>10.1f}{one.peak_kib / 1024:>10.1f}{one.growth_kib / 1024:>8.1f}"
        print(f"{one.name:<40}{one.moved_mb:>10.1f}{sizes}  {'ok' if one.good else 'FAILED'} {one.error}")
    if options.output:
        rows = [{**asdict(one), "growth_kib": one.growth_kib, "good": one.good} for one in outcomes]
        document = {"version": version, "limit_kib": LIMIT_KIB, "transfers": rows}
        options.output.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(one.good for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
