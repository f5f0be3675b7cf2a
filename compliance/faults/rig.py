"""The real command with real clients: what every fault is done to."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from compliance._servers import CHECKOUT, HOST, flowserve_env, free_port, tree

HERE = Path(__file__).resolve().parent
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PATIENCE = 30.0
"""Seconds for what should take one or two on a machine that has nothing else to do."""


class Broken(Exception):
    """A promise is: what was seen instead."""


class Missing(Exception):
    """The machine lacks what the fault needs."""


def expect(condition: object, seen: str) -> None:
    if not condition:
        raise Broken(seen)


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> float:
    """Wait until `condition()` holds; return the seconds that it took. Raises Broken."""
    began = time.monotonic()
    while not condition():
        expect(time.monotonic() - began < seconds, f"not within {seconds:g} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - began


class WebSocket:
    """A raw client."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.sendall(UPGRADE)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = sock.recv(1)
            expect(byte, f"no answer to a WebSocket's handshake but {head!r}")
            head += byte
        expect(head.startswith(b"HTTP/1.1 101"), f"no WebSocket but {head[:40]!r}")

    def echo(self, text: bytes = b"hello") -> bool:
        """Whether a message comes back; pings that come before it are answered."""
        try:
            self.sock.sendall(bytes((0x81, 0x80 | len(text))) + bytes(4) + text)
            while (frame := self.frame())[0] == 9:
                self.sock.sendall(bytes((0x8A, 0x80 | len(frame[1]))) + bytes(4) + frame[1])
        except OSError:
            return False
        return frame == (1, text)

    def frame(self) -> tuple[int, bytes]:
        """The next frame, a short one; (0, b"") at the end of the connection."""
        head = self._exactly(2)
        return (head[0] & 15, self._exactly(head[1] & 127)) if len(head) == 2 else (0, b"")

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self.sock.recv(size - len(data))):
            data += more
        return data

    def end(self) -> int:
        """Read to the end; return the close code, 1006 without one."""
        code = 1006
        with contextlib.suppress(OSError):
            while (frame := self.frame()) != (0, b""):
                if frame[0] == 8:
                    code = struct.unpack("!H", frame[1][:2])[0]
                    self.sock.sendall(b"\x88\x82" + bytes(4) + frame[1][:2])
        return code


class Command:
    """`flowserve` in a session of its own."""

    def __init__(self, process: subprocess.Popen[bytes], place: int | str, log: Path, tls: bool) -> None:
        self.process = process
        self.pid = process.pid
        self.place = place
        self.log = log
        self.tls = tls

    # Its log

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def said(self, words: str) -> int:
        """How many lines have `words`."""
        return sum(words in line for line in self.text().splitlines())

    def wait_said(self, words: str, times: int = 1) -> float:
        return until(lambda: self.said(words) >= times, f"{words!r} in the log, which ends with {self.text()[-300:]!r}")

    def complaints(self) -> int:
        """Tracebacks in the log."""
        return self.said("Traceback")

    # Clients

    def connect(self, timeout: float = 10.0) -> socket.socket:
        if isinstance(self.place, str):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(timeout)
            sock.connect(self.place)
        else:
            sock = socket.create_connection((HOST, self.place), timeout)
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            return context.wrap_socket(sock)
        return sock

    def get(self, path: str = "/", body: bytes = b"", prefix: bytes = b"", timeout: float = 10.0) -> bytes:
        """The whole answer to one request. Raises OSError where there is none."""
        with self.connect(timeout) as sock:
            head = (
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            sock.sendall(prefix + head.encode() + body)
            answer = b""
            while data := sock.recv(65536):
                answer += data
        if not answer:
            raise ConnectionResetError("the connection ended without an answer")
        return answer

    def serves(self, prefix: bytes = b"", timeout: float = 10.0) -> bool:
        try:
            return self.get(prefix=prefix, timeout=timeout).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def websocket(self, timeout: float = 10.0) -> WebSocket:
        return WebSocket(self.connect(timeout))

    def pid_of(self) -> int:
        """Who answers."""
        return int(self.get("/pid").rpartition(b"\r\n")[2])

    # Its processes

    def workers(self) -> list[int]:
        return [pid for pid in tree(self.pid)[1:] if _is_alive(pid)]

    def others(self, *gone: int) -> list[int]:
        return [pid for pid in self.workers() if pid not in gone]

    def alive(self) -> bool:
        return self.process.poll() is None

    def cpu(self) -> float:
        """Seconds of CPU time of all its processes that live."""
        total = 0
        for pid in tree(self.pid):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def stop(self, seconds: float = PATIENCE) -> float:
        """SIGTERM; return how long the end took."""
        began = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Broken(f"it still runs {seconds:g} s after SIGTERM") from None
        return time.monotonic() - began


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Rig:
    """One fault's folder, and the commands that it starts; all end with it."""

    def __init__(self, folder: Path, loop: str, pure: bool) -> None:
        self.folder = folder
        self.loop = loop
        self._pure = pure
        self._commands: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        *options: str,
        app: str = "compliance.faults.application:app",
        env: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
        output: int | IO[Any] | None = None,
        place: int | str | None = None,
        ready: bool = True,
        hello: bytes = b"",
    ) -> Command:
        """Start `flowserve`; its log goes to a file, or to `output`. It is asked for an answer, behind `hello`, until
        it serves, with all of its workers."""
        log = self.folder / f"log{len(self._commands)}"
        if place is None:
            place = free_port()
        listen = ["--uds", place] if isinstance(place, str) else ["--host", HOST, "--port", str(place)]
        command = [*prefix, sys.executable, "-m", "flowserve", *listen, "--loop", self.loop, *options, app]
        variables = {
            **os.environ,
            **flowserve_env(self._pure),
            "PYTHONPATH": f"{self.folder}:{CHECKOUT}",
            **(env or {}),
        }
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=file if output is None else output,
                stderr=file if output is None else output,
                start_new_session=True,
            )
        self._commands.append(process)
        found = Command(process, place, log, any(option == "--ssl-certfile" for option in options))
        if ready:
            until(lambda: found.serves(hello, timeout=1) or not found.alive(), "an answer at the start")
            expect(found.alive(), f"it did not start: {found.text()[-300:]}")
            if "--workers" in options and options[options.index("--workers") + 1] != "1" and output is None:
                found.wait_said("workers serve on")
        return found

    def fails(self, *options: str, **others: Any) -> tuple[int, list[str]]:
        """Start a command that can't; return its exit status and what it says."""
        command = self.start(*options, ready=False, **others)
        try:
            status = command.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Broken("it started, or hangs") from None
        return status, command.text().strip().splitlines()

    def close(self) -> None:
        for process in self._commands:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def rig(loop: str, pure: bool) -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = Rig(Path(folder), loop, pure)
        try:
            yield made
        finally:
            made.close()


def certificate(folder: Path, name: str) -> str:
    """A self-signed certificate and its key in one PEM file."""
    key, out = folder / f"{name}.key", folder / f"{name}.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3", "-subj", f"/CN={name}"]
    try:
        subprocess.run([*command, "-keyout", str(key), "-out", str(out)], check=True, capture_output=True)
    except OSError:
        raise Missing("openssl") from None
    return key.read_text() + out.read_text()


def name_shown(command: Command) -> str:
    """The CN of the certificate that it shows now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    assert isinstance(command.place, int)
    with context.wrap_socket(socket.create_connection((HOST, command.place), 10)) as sock:
        found = re.search(rb"[a-z]+-certificate", sock.getpeercert(binary_form=True) or b"")
    return found[0].decode() if found else "?"
