"""Messages as lines: for pipes and files."""

from __future__ import annotations

import asyncio
import base64
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from flowserve.commands.connect.conversation import Leave
from flowserve.commands.endpoint import escape_for_terminal
from flowserve.errors import ConnectionClosed, FlowserveError
from flowserve.library.websocket import WebSocket

T = TypeVar("T")

_CHUNK = 65536
"""Bytes that are read, or gathered to be written, at a time."""
_IN, _OUT = 0, 1
"""Descriptors. They are used as they are: Python's own files must not be in a thread's hands when Python ends."""


class WrongInput(FlowserveError):
    """A line of the input that is not what was said to come; the message tells which one."""


class Lines:
    """Sends each line of the input, and writes each message as a line; see `flowserve connect --help`."""

    def __init__(self, *, binary: bool, base64: bool, wait: float | None) -> None:
        """`wait`: seconds without a message, after the end of the input, until it is enough; None for never."""
        self._binary = binary
        self._base64 = base64
        self._wait = wait
        self._terminal = os.isatty(_OUT)
        self._heard = 0.0  # when the last message came, or the input ended

    async def talk(self, ws: WebSocket) -> Leave | ConnectionClosed:
        sending = asyncio.ensure_future(self._send(ws))
        receiving = asyncio.ensure_future(self._receive(ws))
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                sending.result()
                await self._linger(receiving)
            return receiving.result() if receiving.done() else Leave()
        finally:
            sending.cancel()
            receiving.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    def closed(self, text: str) -> None:
        pass

    async def _linger(self, receiving: asyncio.Future[Any]) -> None:
        """Wait until nothing has come for a while, or the end."""
        clock = asyncio.get_running_loop().time
        self._heard = clock()
        while not receiving.done():
            left = None if self._wait is None else self._heard + self._wait - clock()
            if left is not None and left <= 0:
                return
            await asyncio.wait({receiving}, timeout=left)

    async def _send(self, ws: WebSocket) -> None:
        number = 0
        try:
            async for line in _lines():
                number += 1
                await ws.send(self._message(line, number))
        except ConnectionClosed:
            await asyncio.get_running_loop().create_future()  # whoever receives tells of it

    def _message(self, line: bytes, number: int) -> str | bytes:
        try:
            if self._binary:
                return base64.b64decode(line.strip(), validate=True) if self._base64 else line
            return line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise WrongInput(f"line {number} of the input is not UTF-8; with --binary it can be sent") from None
        except ValueError as error:
            raise WrongInput(f"line {number} of the input is not base64: {error}") from None

    async def _receive(self, ws: WebSocket) -> Leave | ConnectionClosed:
        clock = asyncio.get_running_loop().time
        try:
            while True:
                lines = [self._line(await ws.receive())]
                size = len(lines[0])
                while ws.session.waiting and size < _CHUNK:
                    lines.append(self._line(await ws.receive()))
                    size += len(lines[-1])
                self._heard = clock()
                await _in_thread(partial(_write, b"".join(lines)))
        except ConnectionClosed as error:
            return error
        except BrokenPipeError:  # whoever read the output has had enough
            return Leave()

    def _line(self, message: str | bytes) -> bytes:
        if isinstance(message, str):
            return (escape_for_terminal(message) if self._terminal else message).encode() + b"\n"
        if self._base64:
            return base64.b64encode(message) + b"\n"
        if self._terminal:
            return escape_for_terminal(message.decode("utf-8", "backslashreplace")).encode() + b"\n"
        return message + b"\n"


async def _lines() -> AsyncIterator[bytes]:
    """The lines of the input, without their ends."""
    parts: list[bytes] = []
    while chunk := await _in_thread(partial(os.read, _IN, _CHUNK)):
        first, *others = chunk.split(b"\n")
        parts.append(first)
        for each in others:
            yield b"".join(parts)
            parts = [each]
    if any(parts):
        yield b"".join(parts)


def _write(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(_OUT, rest) :]


def _in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Do what may block, in a thread that does not keep the program from ending.

    An event loop can wait for pipes and terminals, but not for files, and its executor's threads are waited for.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
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
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    return future
