"""The log into a pipe that nobody reads."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

import pytest

from flowserve.logs import pipe as module
from flowserve.logs.handler import StreamHandler
from flowserve.logs.pipe import LogPipe, log_pipe

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a pipe can't be opened anew")


class Ends:
    """Both ends of what carries the log; `read()` gives what is in it."""

    def __init__(self, kind: str) -> None:
        if kind == "pipe":
            self.reader, writer = os.pipe()
        else:
            ours, theirs = socket.socketpair()
            self.reader, writer = ours.detach(), theirs.detach()
        os.set_blocking(self.reader, False)
        self.stream: TextIO = open(writer, "w")  # noqa: SIM115

    def read(self) -> bytes:
        data = b""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self.reader, 65536):
                data += more
        return data

    def close(self) -> None:
        os.close(self.reader)
        with contextlib.suppress(OSError):
            self.stream.close()


@pytest.fixture(params=["pipe", "socket"])
def ends(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    monkeypatch.setattr(module, "_MAX_WAIT", 0.05)
    made = Ends(request.param)
    yield made
    made.close()


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("flowserve", logging.INFO, __file__, 0, text, (), None)


def test_lines_that_nobody_reads_are_left_out_and_counted(ends: Ends) -> None:
    handler = StreamHandler(ends.stream)
    began = time.monotonic()
    for number in range(5000):
        handler.handle(record(f"{number} " + "x" * 200))
    assert time.monotonic() - began < 30  # once a twentieth of a second; as a blocking write it would never end
    before = ends.read()
    kept = before.count(b"\n")
    assert 0 < kept < 5000
    handler.handle(record("again"))
    lines = ends.read().decode().splitlines()
    cut = "" if before.endswith(b"\n") else lines.pop(0)
    assert cut == ""
    missing = 5000 - kept
    assert lines == [f"{missing} lines of the log were left out, as nobody read them", "again"]
    handler.handle(record("and on"))
    assert ends.read() == b"and on\n"
    assert os.get_blocking(ends.stream.fileno())  # which others have, too


def test_a_reader_that_keeps_up_misses_nothing(ends: Ends) -> None:
    handler, got = StreamHandler(ends.stream), b""
    for number in range(5000):
        handler.handle(record(f"{number} " + "x" * 200))
        if number % 20 == 0:
            got += ends.read()
    got += ends.read()
    assert [int(line.split()[0]) for line in got.splitlines()] == list(range(5000))


def test_what_was_printed_before_stands_before(ends: Ends) -> None:
    handler = StreamHandler(ends.stream)
    print("printed", file=ends.stream)
    handler.handle(record("logged"))
    assert ends.read() == b"printed\nlogged\n"


def test_a_reader_that_has_gone_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    ends = Ends("pipe")
    handler = StreamHandler(ends.stream)
    os.close(ends.reader)
    handler.handle(record("nobody"))
    assert capsys.readouterr().err == ""
    ends.reader = os.open(os.devnull, os.O_RDONLY)
    ends.close()


def test_only_pipes_and_sockets(tmp_path: Any) -> None:
    assert log_pipe(None) is None
    with open(tmp_path / "log", "w") as file:
        assert log_pipe(file) is None
    assert log_pipe(file) is None  # closed


def test_a_line_that_was_cut_gets_its_end() -> None:
    took: list[bytes] = []
    room = 3

    def write(data: memoryview) -> int:
        if room <= 0:
            raise BlockingIOError
        took.append(bytes(data[:room]))
        return len(took[-1])

    reader, writer = os.pipe()
    pipe = LogPipe(write, writer)
    pipe._wait_left = 0.0
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))

    def once(data: memoryview) -> int:
        nonlocal room
        written = write(data)
        room -= written
        return written

    pipe._write = once
    pipe.write(b"abcdef\n")
    assert (took, pipe.left_out) == ([b"abc"], 1)
    room = 100
    pipe.write(b"next\n")
    assert took[1:] == [b"\nnext\n"]
    os.close(reader)
    os.close(writer)
