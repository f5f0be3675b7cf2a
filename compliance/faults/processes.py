"""Processes that die, stand still, or can't start."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from compliance.faults.faults import fault
from compliance.faults.rig import PATIENCE, Rig, expect, until


@fault("the others' clients notice nothing; its own see an abrupt end; it is replaced at once, and the log says so")
def worker_killed(rig: Rig) -> str:
    """kill -9 of a worker."""
    command = rig.start("--workers", "2")
    sockets = [command.websocket() for _ in range(40)]
    victim = command.pid_of()
    os.kill(victim, signal.SIGKILL)
    command.wait_said("killed by SIGKILL")
    seconds = command.wait_said(" serves")
    alive = sum(ws.echo() for ws in sockets)
    expect(0 < alive < 40, f"{alive} of 40 WebSockets live on")
    served = sum(command.serves() for _ in range(40))
    expect(served == 40, f"{served} of 40 requests were served behind it")
    return f"{alive} of 40 WebSockets went on, 40 of 40 requests served, replaced after {seconds:.1f} s"


@fault("the workers end by themselves, politely, and leave the port")
def supervisor_killed(rig: Rig) -> str:
    """kill -9 of the supervisor."""
    command = rig.start("--workers", "2", "--timeout-graceful-shutdown", "3s")
    ws, workers = command.websocket(), command.workers()
    os.kill(command.pid, signal.SIGKILL)
    command.process.wait()
    code = ws.end()
    expect(code == 1012, f"a WebSocket ended with {code}")
    seconds = until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the workers' end")
    again = rig.start(place=command.place)
    again.stop()
    return f"WebSocket closed with {code}, workers gone after {seconds:.1f} s, the port was free at once"


@fault("after --timeout-worker-healthcheck it is killed and replaced; the log says why")
def worker_stopped(rig: Rig) -> str:
    """SIGSTOP of a worker."""
    command = rig.start("--workers", "2", "--timeout-worker-healthcheck", "2s")
    victim = command.pid_of()
    os.kill(victim, signal.SIGSTOP)
    seconds = command.wait_said("did not answer for 2 s and was killed")
    until(lambda: len(command.others(victim)) == 2, "a new worker")
    until(command.serves, "an answer")
    return f"killed after {seconds:.1f} s, replaced"


@fault("it goes on, no client is lost", quick=False)
def worker_stopped_shortly(rig: Rig) -> str:
    """SIGSTOP of a worker, and SIGCONT before the healthcheck's time."""
    command = rig.start("--workers", "2", "--timeout-worker-healthcheck", "20s")
    sockets, victim = [command.websocket() for _ in range(20)], command.pid_of()
    os.kill(victim, signal.SIGSTOP)
    time.sleep(2)
    os.kill(victim, signal.SIGCONT)
    alive = sum(ws.echo() for ws in sockets)
    expect(alive == 20 and victim in command.workers(), f"{alive} of 20 WebSockets went on")
    return "20 of 20 WebSockets went on"


@fault("no worker is blamed for it: all go on", quick=False)
def supervisor_stopped(rig: Rig) -> str:
    """SIGSTOP of the supervisor for longer than the healthcheck's time, then SIGCONT."""
    command = rig.start("--workers", "2", "--timeout-worker-healthcheck", "1s")
    before = sorted(command.workers())
    os.kill(command.pid, signal.SIGSTOP)
    time.sleep(3)
    expect(command.serves(), "no answer while the supervisor stood still")
    os.kill(command.pid, signal.SIGCONT)
    time.sleep(2)
    expect(sorted(command.workers()) == before, f"the workers are others: {command.text()[-300:]}")
    return "served meanwhile; the workers are the same"


CLIENT = """
import asyncio, sys
from flowserve import connect
async def main():
    async with connect(sys.argv[1], ping_interval=None) as ws:
        await ws.send("x")
        print(await ws.recv(), flush=True)
        await ws.recv()
asyncio.run(main())
"""


@fault("it is dropped after ping interval and timeout; others notice nothing", both_loops=True)
def client_stopped(rig: Rig) -> str:
    """SIGSTOP of a client."""
    command = rig.start("--ws-ping-interval", "500ms", "--ws-ping-timeout", "1s", "--ws-close-timeout", "500ms")
    arguments = [sys.executable, "-c", CLIENT, f"ws://127.0.0.1:{command.place}/"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        client.stdout.readline()
        client.send_signal(signal.SIGSTOP)
        try:
            seconds = until(lambda: command.get("/count").endswith(b"\r\n0"), "the end of its WebSocket")
        finally:
            client.kill()
    return f"dropped after {seconds:.1f} s"


@fault("it is tried again, with growing delays and little CPU; when it is mended it serves", quick=False)
def crash_at_start(rig: Rig) -> str:
    """A worker that crashes at its start again and again."""
    command = rig.start("--workers", "2", env={"FAULT": "crash"})
    (rig.folder / "CRASH").touch()
    command.process.send_signal(signal.SIGHUP)
    command.wait_said("The restart is given up")
    expect(command.serves(), "the old workers do not serve")
    for pid in command.workers():
        os.kill(pid, signal.SIGKILL)
    command.wait_said("next try in 1 s")
    before = command.said("can't start")
    time.sleep(4)
    tries = command.said("can't start") - before
    expect(tries <= 8, f"{tries} tries in 4 s")
    (rig.folder / "CRASH").unlink()
    seconds = until(lambda: command.serves(timeout=1), "an answer")
    return (
        f"SIGHUP: the old workers went on. All dead: {tries} tries in 4 s, served {seconds:.1f} s after it was mended"
    )


@fault("it ends a few seconds after the graceful time, with whatever hangs", quick=False)
def stubborn_application(rig: Rig) -> str:
    """An application that hangs at shutdown, and swallows its cancellation."""
    took = []
    for workers in ("1", "2"):
        command = rig.start("--workers", workers, "--timeout-graceful-shutdown", "1s", env={"FAULT": "stubborn"})
        with contextlib.suppress(OSError), command.connect() as sock:
            sock.sendall(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
            took.append(command.stop())
    expect(max(took) < 15, f"{took[0]:.1f} s and {took[1]:.1f} s")
    return f"ended after {took[0]:.1f} s, with workers {took[1]:.1f} s"


@fault("it settles (a slot whose workers die at once waits up to 10 s), and SIGTERM ends all", quick=False)
def storm(rig: Rig) -> str:
    """A storm of SIGHUP, SIGTTIN, SIGTTOU, SIGTERM and kill -9 of workers, for 10 s."""
    command, chance = rig.start("--workers", "2", "--timeout-graceful-shutdown", "2s"), random.Random(1)
    end, shots = time.monotonic() + 10, 0
    while time.monotonic() < end:
        number = chance.choice([signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGKILL, signal.SIGTERM])
        with contextlib.suppress(ProcessLookupError, IndexError):
            aims_at_worker = number in (signal.SIGKILL, signal.SIGTERM)
            os.kill(chance.choice(command.workers()) if aims_at_worker else command.pid, number)
            shots += 1
        time.sleep(chance.random() * 0.1)
        expect(command.alive(), f"the supervisor ended: {command.text()[-300:]}")
    settled = until(lambda: command.serves(timeout=2), f"an answer: {command.text()[-300:]}", 3 * PATIENCE)
    expect(not command.complaints(), f"tracebacks: {command.text()[-400:]}")
    workers = command.workers()
    seconds = command.stop()
    left = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    expect(not left, f"{len(left)} processes are left behind")
    seen = f"{shots} signals; served {settled:.1f} s later, no traceback; "
    return seen + f"ended {seconds:.1f} s after SIGTERM, nobody left behind"


@fault("one line, exit status 1 to 3; the server that has the port goes on")
def port_taken(rig: Rig) -> str:
    """The port is taken."""
    command, seen = rig.start(), set()
    for workers in ("1", "2"):
        status, lines = rig.fails("--workers", workers, place=command.place)
        expect(len(lines) == 1 and 1 <= status <= 3, f"status {status}, {lines}")
        seen.add(lines[0])
    expect(command.serves(), "the first does not serve any more")
    return f"`{seen.pop()}`"
