"""Files, disks and pipes that are full, broken, gone or in the way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from compliance.faults.faults import fault
from compliance.faults.rig import Missing, Rig, certificate, expect, name_shown, until


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = folder / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        raise Missing("the right to mount a tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    return filler


@fault("it serves on; lines that don't fit are left out; it logs again when there is room", both_loops=True)
def full_disk(rig: Rig) -> str:
    """The disk of the access log and the error log is full."""
    with small_disk(rig.folder) as disk, (disk / "log").open("ab", buffering=0) as log:
        command = rig.start(output=log)
        filler = fill(disk)
        served = sum(command.serves() for _ in range(100))
        expect(served == 100, f"{served} of 100 requests served")
        expect(not os.statvfs(disk).f_bavail, "the disk is not full")
        filler.unlink()
        command.get("/again")
        written = (disk / "log").read_text()
        command.stop()
    expect("/again" in written, "the log stays silent behind it")
    expect("Traceback" not in written, "tracebacks in the log")
    return "100 of 100 requests served, logged again when there was room"


@fault("one line at the start, or it serves without; never a traceback")
def full_disk_pid_file(rig: Rig) -> str:
    """The disk of the PID file is full."""
    with small_disk(rig.folder) as disk:
        fill(disk)
        status, lines = rig.fails("--pid-file", str(disk / "pid"))
    expect(status in (1, 2, 3) and len(lines) == 1, f"status {status}: {lines}")
    return f"status {status}, `{lines[0]}`"


@fault("it serves on", both_loops=True)
def log_pipe_closed(rig: Rig) -> str:
    """Who reads the log has gone (a closed pipe)."""
    for workers in ("1", "2"):
        reader, writer = os.pipe()
        command = rig.start("--workers", workers, output=writer)
        os.close(writer)
        os.close(reader)
        served = sum(command.serves() for _ in range(50))
        expect(served == 50, f"{served} of 50 requests served with {workers} workers")
        command.stop()
    return "50 of 50 requests served, by workers too; SIGTERM ends it"


@fault("it waits no more than a second for the reader, then leaves lines out and says how many", both_loops=True)
def log_pipe_stuck(rig: Rig) -> str:
    """Who reads the log has stopped reading (a full pipe)."""
    reader, writer = os.pipe()
    command = rig.start("--access-log", output=writer)
    os.close(writer)
    ws, target, slowest = command.websocket(), "/" + "x" * 4000, 0.0
    for _ in range(60):  # four times what a pipe holds
        began = time.monotonic()
        expect(command.get(target), "no answer")
        slowest = max(slowest, time.monotonic() - began)
    expect(ws.echo(), "a WebSocket does not echo")
    expect(slowest < 5, f"a request took {slowest:.1f} s")
    held = b""
    os.set_blocking(reader, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            held += os.read(reader, 65536)
    command.get("/again")
    end = time.monotonic() + 10
    while b"/again" not in held and time.monotonic() < end:
        with contextlib.suppress(BlockingIOError):
            held += os.read(reader, 65536)
        time.sleep(0.02)
    expect(b"/again" in held, "it does not log again")
    expect(b"lines of the log were left out" in held, "it does not say that lines are missing")
    command.stop()
    os.close(reader)
    return (
        f"60 of 60 requests served, the slowest took {slowest:.1f} s; then logged again, with a word of what is missing"
    )


@fault("the old one stays, the log says why; a whole one is taken")
def certificate_half_written(rig: Rig) -> str:
    """A certificate is half written during a reload."""
    seen = [half_written(rig, workers) for workers in ("1", "2")]
    return f"the old one stayed, told after {' and '.join(seen)} (one process, workers); the whole one was taken"


def half_written(rig: Rig, workers: str) -> str:
    old, new = certificate(rig.folder, "old-certificate"), certificate(rig.folder, "new-certificate")
    file = rig.folder / "server.pem"
    file.write_text(old)
    command = rig.start("--workers", workers, "--ssl-certfile", str(file))
    file.write_text(new[: len(new) // 2])
    command.process.send_signal(signal.SIGHUP)
    seconds = command.wait_said("ERROR")
    expect(name_shown(command) == "old-certificate", f"shown is {name_shown(command)}")
    file.write_text(new)
    command.process.send_signal(signal.SIGHUP)
    until(lambda: name_shown(command) == "new-certificate", "the new one")
    expect(not command.complaints(), "a traceback")
    command.stop()
    return f"{seconds:.1f} s"


@fault("a dead server's is replaced, a living one's is not")
def unix_socket_left(rig: Rig) -> str:
    """A UNIX socket is left over."""
    path = str(rig.folder / "server.sock")
    first = rig.start(place=path)
    os.kill(first.pid, signal.SIGKILL)
    first.process.wait()
    expect(os.path.exists(path), "nothing is left over")
    second = rig.start(place=path)
    status, lines = rig.fails(place=path)
    expect(len(lines) == 1 and "another server listens there" in lines[0], f"status {status}, {lines}")
    expect(second.serves(), "the living one does not serve any more")
    second.stop()
    expect(not os.path.exists(path), "the path is left behind")
    return "replaced; the living one kept it, and removed it at its end"


@fault("the old workers go on and the log says why; mended, SIGHUP works")
def application_broken(rig: Rig) -> str:
    """The application is broken at a reload."""
    (rig.folder / "mine.py").write_text("from compliance.faults.application import app\n")
    command = rig.start("--workers", "2", app="mine:app")
    before = command.workers()
    (rig.folder / "mine.py").write_text("def app(:\n")
    command.process.send_signal(signal.SIGHUP)
    command.wait_said("The restart is given up")
    expect(set(before) <= set(command.workers()) and command.serves(), "the old workers do not go on")
    (rig.folder / "mine.py").write_text("from compliance.faults.application import app  # mended\n")
    command.process.send_signal(signal.SIGHUP)
    command.wait_said("All workers are new")
    return "the old workers went on; all were new when it was mended"


@fault("the options are read at the start: SIGHUP goes on with them; a start with it fails with one line", quick=False)
def configuration_broken(rig: Rig) -> str:
    """The configuration file is broken at a reload."""
    file = rig.folder / "flowserve.toml"
    file.write_text('workers = 2\nlog-level = "info"\n')
    command = rig.start()
    file.write_text("workers = [[[\n")
    command.process.send_signal(signal.SIGHUP)
    command.wait_said("All workers are new")
    expect(command.serves(), "no answer")
    status, lines = rig.fails()
    expect(len(lines) == 1 and status == 2, f"status {status}, {lines}")
    return f"SIGHUP replaced the workers; a new start: `{lines[0]}`"
