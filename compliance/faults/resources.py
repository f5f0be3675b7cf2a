"""Descriptors, memory and time that run out, or jump."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from compliance.faults.faults import fault
from compliance.faults.rig import Missing, Rig, expect, until

FEW = ("bash", "-c", 'ulimit -n 256; exec "$@"', "bash")
"""Ahead of a command: it has so many descriptors."""
CLIENTS = 400


CLIENT = """
import asyncio
from flowserve import connect
async def main():
    try:
        await connect("ws://no-such-host.invalid/", proxy=None)
    except OSError as error:
        print(type(error).__name__)
asyncio.run(main())
"""


@fault(
    "newcomers wait, none is reset; one line a second in the log, little CPU; it recovers by itself", both_loops=True
)
def descriptors_used_up(rig: Rig) -> str:
    """Descriptors are used up by clients."""
    command, waiting = rig.start("--no-access-log", prefix=FEW), []
    for _ in range(CLIENTS):
        sock = command.connect()
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sock.setblocking(False)
        waiting.append(sock)
    command.wait_said("No descriptors are left")
    cpu = command.cpu()
    time.sleep(3)
    cpu, lines = (command.cpu() - cpu) / 3, command.said("No descriptors")
    served = resets = 0
    end = time.monotonic() + 30
    while waiting and time.monotonic() < end:
        for sock in list(waiting):
            with contextlib.suppress(BlockingIOError):
                try:
                    served, resets = (served + 1, resets) if sock.recv(4096) else (served, resets + 1)
                except ConnectionError:
                    resets += 1
                waiting.remove(sock)
                sock.close()
        time.sleep(0.01)
    seen = f"{served} of {CLIENTS} served, {resets} reset, {len(waiting)} left waiting; "
    seen += f"{lines} lines in the log in 3 s, CPU {cpu:.0%}"
    expect(served == CLIENTS and lines <= 4 and cpu < 0.1 and command.serves(), seen)
    expect(not command.complaints(), "tracebacks")
    return seen


@fault("as above; the reserve is the application's, so that newcomers are not reset before it is used up too")
def descriptors_taken_by_application(rig: Rig) -> str:
    """The limit is lowered below what is in use."""
    command = rig.start("--no-access-log")
    held = [command.websocket() for _ in range(100)]
    resource.prlimit(command.pid, resource.RLIMIT_NOFILE, (60, 60))
    command.wait_said("No descriptors are left")
    late = command.connect()
    late.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    expect(all(ws.echo() for ws in held), "a WebSocket does not echo any more")
    for ws in held:
        ws.sock.close()
    expect(late.recv(15) == b"HTTP/1.1 200 OK", "the one who waited was not served")
    return "100 of 100 WebSockets went on; the newcomer waited, and was served when they had left"


@fault("it tries again and says so; when there are some it starts its workers; those that live serve meanwhile")
def supervisor_without_descriptors(rig: Rig) -> str:
    """The supervisor has no descriptors to start a worker with."""
    command = rig.start("--workers", "2")
    before = resource.prlimit(command.pid, resource.RLIMIT_NOFILE)
    victim = command.pid_of()
    resource.prlimit(command.pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{command.pid}/fd")), before[1]))
    os.kill(victim, signal.SIGKILL)
    command.wait_said("can't start a worker process")
    expect(command.alive(), "the supervisor ended")
    resource.prlimit(command.pid, resource.RLIMIT_NOFILE, before)
    seconds = until(lambda: len(command.others(victim)) == 2, "a new worker")
    expect(not command.complaints(), "a traceback")
    return f"said so, and had a new worker {seconds:.1f} s after there were descriptors"


@fault("that request gets a 500, that WebSocket a close with 1009; all others go on", both_loops=True)
def memory_limit(rig: Rig) -> str:
    """Memory runs out (RLIMIT_AS)."""
    command = rig.start("--ws-max-size", "1GiB", "--no-access-log")
    other = command.websocket()
    status = Path(f"/proc/{command.pid}/status").read_text()
    size = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmSize")) * 1024
    resource.prlimit(command.pid, resource.RLIMIT_AS, (size + (96 << 20), resource.RLIM_INFINITY))
    answer = command.get("/fill")
    expect(answer.startswith(b"HTTP/1.1 500"), f"the request got {answer[:20]!r}")
    big, code = command.websocket(), 0
    with contextlib.suppress(OSError):
        big.sock.sendall(b"\x82\xff" + (400 << 20).to_bytes(8, "big") + bytes(4))
        for _ in range(400):
            big.sock.sendall(bytes(1 << 20))
    code = big.end()
    expect(code == 1009, f"the WebSocket ended with {code}")
    expect(not command.said("Fatal error"), "the event loop complains")
    expect(other.echo(), "another WebSocket does not echo any more")
    expect(command.serves(), "it does not serve any more")
    return f"500; a message of 400 MiB ended its WebSocket with {code}; the others went on"


@fault(
    "nothing: deadlines, pings and healthchecks go by the monotonic clock; dates follow the wall clock", both_loops=True
)
def clock_jumps(rig: Rig) -> str:
    """The wall clock jumps a day forwards, and two backwards."""
    if shutil.which("faketime") is None:
        raise Missing("faketime")
    found = subprocess.run(["faketime", "0", "sh", "-c", "echo $LD_PRELOAD"], capture_output=True, text=True)
    clock = rig.folder / "clock"
    clock.write_text("+0")
    fake = {"LD_PRELOAD": found.stdout.strip(), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    fake |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    options = ("--workers", "2", "--timeout-worker-healthcheck", "5s", "--ws-ping-interval", "300ms")
    command = rig.start(*options, "--ws-ping-timeout", "10s", "--ws-idle-timeout", "60s", env=fake)
    sockets, before, dates = [command.websocket() for _ in range(10)], sorted(command.workers()), []
    for jump in ("+1d", "-1d", "+0"):
        clock.write_text(jump)
        time.sleep(1.2)
        dates.append(next(line[11:17] for line in command.get().decode().split("\r\n") if line.startswith("date: ")))
        alive = sum(ws.echo() for ws in sockets)
        expect(alive == 10, f"{alive} of 10 WebSockets live on behind {jump}")
    expect(sorted(command.workers()) == before, "workers were replaced")
    expect(len(set(dates)) == 3, f"the dates are {dates}")
    return f"10 of 10 WebSockets went on, the workers are the same; the date header said {', '.join(dates)}"


@fault("one line at the start; connect() raises an OSError, as it says; a running server asks no DNS")
def dns_gone(rig: Rig) -> str:
    """Names can't be resolved."""
    status, lines = rig.fails("--bind", "no-such-host.invalid:8000")
    expect(len(lines) == 1, f"status {status}, {lines}")
    done = subprocess.run([sys.executable, "-c", CLIENT], capture_output=True, text=True, timeout=60)
    expect(done.stdout.startswith("gaierror"), f"the client: {done.stdout}{done.stderr}")
    return f"status {status}, `{lines[0]}`; connect() raised {done.stdout.strip()}"


@fault("it goes on: who is reset is gone, and nobody else")
def network_gone(rig: Rig) -> str:
    """Half of the clients are reset at once."""
    command = rig.start("--no-access-log")
    sockets = [command.websocket() for _ in range(200)]
    for ws in sockets[::2]:
        ws.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        ws.sock.close()
    until(lambda: command.get("/count").endswith(b"\r\n100"), "100 that are left")
    expect(all(ws.echo() for ws in sockets[1::2]), "others do not echo")
    expect(not command.complaints(), "tracebacks")
    return "100 of 100 others went on"
