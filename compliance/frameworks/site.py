"""A running application as the checks see it: HTTP requests, bytes as they come, and what its server has logged."""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

from websockets.sync.client import ClientConnection, connect

from compliance._servers import HOST, Server

PATIENCE = 5.0
"""Seconds until an answer that does not come is a failure."""

ALARM = re.compile(r"\b(ERROR|CRITICAL)\b|^Traceback|never retrieved|never awaited|^Exception in|Task was destroyed")
PASSING = re.compile(r"[-\s\[]*\d{4}-\d\d-\d\d[ T][\d:,.]+( \+\d{4})?\]?( \[\d+\])?|(?<=127\.0\.0\.1):\d+")
"""Times, process IDs and ports, which differ from run to run."""
RAISED = re.compile(r"^[|+\s-]*((?!ERROR|WARNING|INFO|DEBUG|Traceback)(?:\w+\.)*[A-Z]\w+(?:: .*)?)$")


class Failed(Exception):
    """What a check found wrong, in one line."""


def expect(got: object, wanted: object, what: str = "") -> None:
    """Raises Failed when the two differ."""
    if got != wanted:
        raise Failed(f"{what + ': ' if what else ''}expected {shown(wanted)}, got {shown(got)}")


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:60]}... ({len(text)} characters)"


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Raises Failed when `condition` does not hold within `seconds`; `what` says what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)


@dataclass
class Answer:
    """One HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Raw:
    """A TCP connection: bytes out, and in what has come by a deadline."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=PATIENCE)
        self.data = b""

    def send(self, *heads: str, body: bytes = b"") -> None:
        """Requests without their empty line and Host, as "GET / HTTP/1.1"; the body belongs to the last one."""
        self.socket.sendall(b"".join(f"{head}\r\nHost: {HOST}\r\n\r\n".encode() for head in heads) + body)

    def wait_for(self, wanted: bytes, seconds: float = PATIENCE) -> None:
        """Read until `wanted` has come."""
        deadline = time.monotonic() + seconds
        while wanted not in self.data:
            if not self.read(deadline - time.monotonic()):
                raise Failed(f"{shown(wanted)} did not come within {seconds} s; got {shown(self.data)}")

    def read(self, seconds: float) -> bool:
        """Whether something came."""
        if not select.select([self.socket], [], [], max(0.0, seconds))[0]:
            return False
        piece = self.socket.recv(65536)
        self.data += piece
        return bool(piece)

    def read_all(self, seconds: float = PATIENCE) -> bytes:
        """All that comes until the server closes."""
        deadline = time.monotonic() + seconds
        while self.read(deadline - time.monotonic()):
            pass
        return self.data

    def close(self) -> None:
        self.socket.close()


@dataclass
class Site:
    """One application on one server."""

    server: Server
    interpreter: str
    npm: str
    browser: str
    read: int = field(default=0, init=False)

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @contextlib.contextmanager
    def kept_alive(self) -> Iterator[Callable[..., Answer]]:
        """Requests over one connection: request(method, path, body=None, headers={})."""
        connection = HTTPConnection(HOST, self.port, timeout=PATIENCE)

        def request(method: str, path: str, body: Any = None, **headers: str) -> Answer:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, fields, response.read())

        try:
            yield request
        finally:
            connection.close()

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request over a connection of its own."""
        with self.kept_alive() as request:
            return request(method, path, body, **headers)

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, **headers)

    @contextlib.contextmanager
    def raw(self) -> Iterator[Raw]:
        connection = Raw(self.port)
        try:
            yield connection
        finally:
            connection.close()

    def websocket(self, path: str, **options: Any) -> ClientConnection:
        opened: ClientConnection = connect(
            f"ws://{HOST}:{self.port}{path}", proxy=None, open_timeout=PATIENCE, **options
        )
        return opened

    def log(self) -> str:
        """What the server has logged since the last call."""
        text = self.server.log.read_bytes()
        new, self.read = text[self.read :], len(text)
        return new.decode(errors="replace")


def alarm(log: str) -> str:
    """The first line at ERROR or of an unhandled exception in a log, with what was raised; '' when all is quiet."""
    lines = log.splitlines()
    for number, line in enumerate(lines):
        if ALARM.search(line):
            raised = [found[1] for found in map(RAISED.match, lines[number:]) if found]
            return PASSING.sub("", " / ".join([line.strip(), *raised[-1:]]))[:200]
    return ""
