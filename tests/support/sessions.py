"""One live WebSocket over a stream that the test looks into, under a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from flowserve.session.session import Session
from flowserve.transport.bases import Stream
from flowserve.transport.interfaces import BufferTarget
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateParameters, DeflateSettings, PerMessageDeflate
from support.helpers import frame

START = 1000.0
TICK = 0.05
"""Seconds; the shared timer looks no more often."""
KIB = 1024
MIB = 1024 * KIB


class ClockLoop(asyncio.SelectorEventLoop):
    """Its time stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = START
        super().__init__()

    def time(self) -> float:
        return self.now

    def turn(self, turns: int = 3) -> None:
        """Run what is due now."""
        for _ in range(turns):
            self.run_until_complete(asyncio.sleep(0))

    def jump(self, seconds: float) -> None:
        """Let time pass at once, as while a callback holds the loop up."""
        self.now += seconds
        self.turn()

    def walk(self, seconds: float) -> None:
        """Let time pass in steps."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(self.now + TICK, end)
            self.turn(1)


class Wire(Stream):
    """Remembers what it was asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.write_paused = False
        self.half_open = True
        self.writes: list[bytes] = []
        self.asked: list[str] = []
        self.moved = False  # what progressed() will say
        self.held = 0  # bytes in this process that were written
        self.acknowledged = 0  # bytes that the peer has taken
        self.written = 0
        self.waiters: list[asyncio.Future[None]] = []

    def write(self, data: Any) -> None:
        assert not self.write_paused
        self.written += len(data)
        self.writes.append(data)

    def writelines(self, data: Sequence[Any]) -> None:
        self.write(b"".join(data))

    async def drain(self) -> None:
        while self.write_paused:
            waiter = self.loop.create_future()
            self.waiters.append(waiter)
            await waiter

    def buffered(self) -> int:
        return self.held

    def unsent(self) -> int:
        return self.written - self.acknowledged

    def limit_buffer(self, size: int, low: int | None = None) -> None:
        self.asked.append(f"limit {size}")

    def progressed(self) -> bool:
        moved, self.moved = self.moved, False
        return moved

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")

    def read_into(self, target: BufferTarget) -> None:
        assert target.wants_buffer()
        self.asked.append("read_into")

    def end_writing(self) -> None:
        self.asked.append("end_writing")

    def close(self) -> None:
        if "close" not in self.asked:  # transports take it more than once
            self.asked.append("close")

    def abort(self) -> None:
        self.asked.append("abort")

    def lost(self) -> None:
        self.asked.append("lost")
        self.resume_writing()

    def sent(self) -> bytes:
        """What was written since this was last asked."""
        writes, self.writes = self.writes, []
        return b"".join(writes)


def codec() -> PerMessageDeflate:
    return PerMessageDeflate(DeflateSettings(), DeflateParameters(True, True, 15, 15), Role.SERVER)


Make = Callable[..., tuple[Session, Wire]]


def start(loop: ClockLoop, awaitable: Awaitable[Any]) -> asyncio.Future[Any]:
    """Begin to await."""
    task = asyncio.ensure_future(awaitable, loop=loop)
    loop.turn()
    return task


async def receive(session: Session) -> str | bytes | None:
    """The next message, None at the end."""
    while not session.ready():
        await session.wait()
    return session.take() if session.waiting else None


def close_frame(wire: bytes) -> tuple[int, str]:
    """What the close frame says that `wire` is."""
    assert wire[0] == 0x88
    assert wire[1] == len(wire) - 2
    return int.from_bytes(wire[2:4], "big"), wire[4:].decode()


PEERS_CLOSE = frame(8, b"\x03\xe8")
PEERS_CLOSE_ANSWERED = b"\x88\x02\x03\xe8"
