"""The frontend for pipes and files: each message is a line."""

from __future__ import annotations

import asyncio
import base64
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from flowserve.commands.connect.conversation import CloseRequest
from flowserve.commands.endpoint import escape_for_terminal
from flowserve.errors import ConnectionClosed, FlowserveError
from flowserve.library.properties import session_of
from flowserve.library.websocket import WebSocket

T = TypeVar("T")

_CHUNK = 65536
"""Bytes to read, or to collect before writing, at a time."""
_IN, _OUT = 0, 1
"""Descriptors of standard input and output. They are used directly, as a thread that still holds the lock of sys.stdin
or sys.stdout would break the exit of Python."""


class WrongInput(FlowserveError):
    """A line of the input is not UTF-8 or not base64; the message says which one."""


class LineFrontend:
    """Sends each line of the input, and writes each message as a line; see `flowserve connect --help`."""

    def __init__(self, *, binary: bool, base64: bool, wait: float | None) -> None:
        """`binary`: send binary messages. `base64`: encode and decode binary messages as base64. `wait`: seconds
        without a message, after the end of the input, until it closes; None for no limit."""
        self._binary = binary
        self._base64 = base64
        self._wait = wait
        self._terminal = os.isatty(_OUT)
        self._last_activity = 0.0  # loop time of the last message, or of the end of the input

    async def talk(self, ws: WebSocket) -> CloseRequest | ConnectionClosed:
        sending = asyncio.ensure_future(self._send(ws))
        receiving = asyncio.ensure_future(self._receive(ws))
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                sending.result()
                await self._wait_for_silence(receiving)
            return receiving.result() if receiving.done() else CloseRequest()
        finally:
            sending.cancel()
            receiving.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    def closed(self, text: str) -> None:
        pass

    async def _wait_for_silence(self, receiving: asyncio.Future[Any]) -> None:
        """Wait until no message has come for `wait` seconds, or the WebSocket has ended."""
        clock = asyncio.get_running_loop().time
        self._last_activity = clock()
        while not receiving.done():
            left = None if self._wait is None else self._last_activity + self._wait - clock()
            if left is not None and left <= 0:
                return
            await asyncio.wait({receiving}, timeout=left)

    async def _send(self, ws: WebSocket) -> None:
        number = 0
        try:
            async for line in read_lines():
                number += 1
                await ws.send(self._to_message(line, number))
        except ConnectionClosed:
            await asyncio.get_running_loop().create_future()  # `_receive()` reports it

    def _to_message(self, line: bytes, number: int) -> str | bytes:
        try:
            if self._binary:
                return base64.b64decode(line.strip(), validate=True) if self._base64 else line
            return line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise WrongInput(f"line {number} of the input is not UTF-8; with --binary it can be sent") from None
        except ValueError as error:
            raise WrongInput(f"line {number} of the input is not base64: {error}") from None

    async def _receive(self, ws: WebSocket) -> CloseRequest | ConnectionClosed:
        clock = asyncio.get_running_loop().time
        try:
            while True:
                lines = [self._to_line(await ws.receive())]
                size = len(lines[0])
                while session_of(ws).waiting and size < _CHUNK:
                    lines.append(self._to_line(await ws.receive()))
                    size += len(lines[-1])
                self._last_activity = clock()
                await _in_thread(partial(_write_all, b"".join(lines)))
        except ConnectionClosed as error:
            return error
        except BrokenPipeError:  # the reader of the output has closed it
            return CloseRequest()

    def _to_line(self, message: str | bytes) -> bytes:
        if isinstance(message, str):
            return (escape_for_terminal(message) if self._terminal else message).encode() + b"\n"
        if self._base64:
            return base64.b64encode(message) + b"\n"
        if self._terminal:
            return escape_for_terminal(message.decode("utf-8", "backslashreplace")).encode() + b"\n"
        return message + b"\n"


async def read_lines() -> AsyncIterator[bytes]:
    """Yield the lines of the input without their line feeds."""
    parts: list[bytes] = []
    while chunk := await _in_thread(partial(os.read, _IN, _CHUNK)):
        first, *others = chunk.split(b"\n")
        parts.append(first)
        for each in others:
            yield b"".join(parts)
            parts = [each]
    if any(parts):
        yield b"".join(parts)


def _write_all(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(_OUT, rest) :]


def _in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Run a blocking call in a daemon thread, which does not keep the program from exiting.

    An event loop can wait for pipes and terminals, but not for files; and the threads of its executor are joined at
    exit.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def set_outcome(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as caught:
            error = caught
        with suppress(RuntimeError):  # the loop is closed: nothing awaits the result
            loop.call_soon_threadsafe(set_outcome, result, error)

    threading.Thread(target=run, daemon=True).start()
    return future
