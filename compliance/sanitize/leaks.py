"""The program that looks for leaks: `python leaks.py [SCENARIO]`, under AddressSanitizer, whose allocator counts bytes.

What a scenario does again and again must not make the process any larger. Prints a line for each: what it has kept
of each turn, in bytes. A leak of one object in a turn would be 16 at least.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import sys
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any

from flowserve import Config
from flowserve.asgi.context import Context
from flowserve.errors import FlowserveError
from flowserve.server.admission import Admission
from flowserve.server.h1_connection import H1Connection
from flowserve.session.session import Session
from flowserve.transport.flush_queue import FlushQueue
from flowserve.transport.stream import TransportStream
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateParameters, DeflateSettings, PerMessageDeflate
from flowserve.websocket.frames import FrameDecoder, encode_frame
from flowserve.websocket.payload import PayloadBuffer, apply_mask, text_bytes

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from support.misuse_values import Held

WARM_UP = 300
TURNS = 1024
"""As many as there are masks in a batch that is fetched: what is left of one is the same before and behind."""
LIMIT = 4.0
"""Bytes a turn: caches that fill up, and tables that grow by steps, are below it."""
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
REQUEST = b"GET /a?b HTTP/1.1\r\nHost: a\r\nX-Header: value\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
LARGE = 200_000


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers requests, and echoes the messages of WebSockets; raises in the middle of those at /raise."""
    if scope["type"] == "http":
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": b"hello"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


class Scenarios:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.time = lambda: 1000.0  # type: ignore[method-assign]  # timers keep a bucket a tick until its time comes
        self.config = Config(app, date_header=False)  # a cache of 64 heads fills up by one a second
        self.context = Context(app, self.config, loop, FlushQueue(loop))

    async def serve(self, *data: bytes) -> None:
        """A connection that gets `data`, a turn of the event loop between, and is gone."""
        connection = H1Connection(self.context, Admission(self.context), None)
        transport = Held(connection, 0)
        connection.connection_made(transport)
        for piece in data:
            transport.protocol.data_received(piece)
            for _ in range(4):
                await asyncio.sleep(0)
        transport.protocol.connection_lost(None)
        for _ in range(4):
            await asyncio.sleep(0)

    async def requests(self) -> None:
        await self.serve(REQUEST, REQUEST + UPLOAD, UPLOAD[:40], UPLOAD[40:])

    async def bad_requests(self) -> None:
        await self.serve(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")
        await self.serve(b"\0\0\0\0\r\n\r\n")

    async def websockets(self) -> None:
        mask = b"abcd"
        text = encode_frame(1, apply_mask(b"hello", 0, 5, mask), b"") and encode_frame(1, b"hello", mask)
        close = encode_frame(8, b"\x03\xe8", mask)
        await self.serve(UPGRADE, text, encode_frame(2, bytes(LARGE), mask), close)

    async def bad_frames(self) -> None:
        for bad in (b"\x01\x05hello", b"\x81\x81abcd\xff", b"\xf1\x80abcd", b"\x88\x81abcdx"):
            await self.serve(UPGRADE, bad)

    async def handshakes_that_fail(self) -> None:
        await self.serve(UPGRADE.replace(KEY, b"short"))
        await self.serve(UPGRADE.replace(b": 13", b": 12"))

    async def compressed(self) -> None:
        agreed, settings = DeflateParameters(False, False, 15, 15), DeflateSettings(context="takeover")
        ends = [Connection(role, 1 << 24, 16, PerMessageDeflate(settings, agreed, role)) for role in Role]
        for message in ("text" * 200, b"binary" * 200):
            for here, there in (ends, ends[::-1]):
                if isinstance(message, str):
                    here.send_text(message, True)
                else:
                    here.send_binary(message, True)
                there.feed(b"".join(here.take_output()))
                assert there.take() == message

    async def large(self) -> None:
        """Payloads that are put together where they stay, whole, in part and given up."""
        for text in (False, True):
            store = PayloadBuffer(LARGE, text, 100)
            store.put(b"x" * 100, 0, 100, b"abcd", 0)
            store.get_buffer()[:10] = b"y" * 10
            store.unmask(10, b"", 0)
            store.contents()
        bytes(text_bytes("ascii" * 10_000))

    async def sessions(self) -> None:
        connection = Connection(int(Role.CLIENT), 1 << 20, 16)
        flow = TransportStream(Held(None, 0), copy_context())
        session = Session(connection, flow, self.context)
        session.send("text")
        session.data_received(b"\x81\x05hello\x89\x01x\x81\x03abc")
        await session.wait() if not session.ready() else None
        session.take()
        session.close(1000, "bye")
        session.data_received(b"\x88\x02\x03\xe8")
        session.connection_lost(None)
        await asyncio.sleep(0)  # whatever waits for the end of this turn lets go of the session

    async def errors(self) -> None:
        """Exceptions out of compiled code."""
        decoder = FrameDecoder(int(Role.SERVER), False)
        actions: tuple[Callable[[], Any], ...] = (
            *(
                lambda: apply_mask(b"x", 0, 9, b"abcd"),
                lambda: PayloadBuffer(10, True, 10).message(),
                lambda: decoder.buffer_updated(7),
            ),
            *(lambda: encode_frame(999, b"x"), lambda: Connection(1, 1, 1).take(), lambda: decoder.feed(b"\xff\xff")),
            *(
                lambda: decoder.next(),
                lambda: Session.__new__(Session).close(1000),
                lambda: Connection(1, 1, 1).get_buffer(),
            ),
        )
        for action in actions:
            with contextlib.suppress(FlowserveError, ValueError, TypeError, IndexError, AttributeError):
                action()


def allocated() -> int:
    gc.collect()
    count = ctypes.CDLL(None).__sanitizer_get_current_allocated_bytes
    count.restype = ctypes.c_size_t
    return int(count())


async def kept(scenario: Callable[[], Any]) -> float:
    """Bytes that a turn leaves behind: the least of two measurements, as caches may grow in one of them."""
    for _ in range(WARM_UP):
        await scenario()
    found = []
    for _ in range(2):
        before = allocated()
        for _ in range(TURNS):
            await scenario()
        found.append((allocated() - before) / TURNS)
    return min(found)


async def main() -> int:
    scenarios = Scenarios(asyncio.get_running_loop())
    names = [name for name, each in vars(Scenarios).items() if not name.startswith("_") and name != "serve"]
    found = {name: round(await kept(getattr(scenarios, name)), 2) for name in sys.argv[1:] or names}
    print(json.dumps(found))
    return 1 if any(each > LIMIT for each in found.values()) else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
