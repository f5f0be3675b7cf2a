"""The wire state machine without I/O: connections that are fed literal bytes, and what they hold."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateParameters, DeflateSettings, PerMessageDeflate
from support.helpers import frame

SERVER, CLIENT = Role.SERVER, Role.CLIENT
KIB = 1024
PONG_MARK = 64 * KIB
"""Bytes of output that wait: beyond it only the newest pong counts (RFC 6455 section 5.5.3)."""

Message = str | bytes


def connection(
    role: Role = SERVER, max_size: int = 1 << 20, max_frames: int = 1000, deflate: bool = False
) -> Connection:
    if not deflate:
        return Connection(role, max_size, max_frames)
    agreed = DeflateParameters(True, True, 15, 15)
    return Connection(role, max_size, max_frames, PerMessageDeflate(DeflateSettings(threshold=1), agreed, role))


def fed(*data: bytes, **options: Any) -> Connection:
    """A server's connection that has been fed."""
    peer = connection(**options)
    for piece in data:
        peer.feed(piece)
    return peer


def messages(conn: Connection) -> list[Message]:
    """Take all that waits."""
    return [conn.take() for _ in range(conn.waiting)]


def output(conn: Connection) -> bytes:
    return b"".join(conn.take_output())


def answer(conn: Connection) -> bytes:
    """What is sent when the owner has come to the end."""
    conn.answer_end()
    return output(conn)


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(bounds)]


def closes(wire: bytes) -> tuple[int, str]:
    """The code and reason of a server's close frame, which `wire` must be."""
    assert wire[0] == 0x88
    assert wire[1] == len(wire) - 2 <= 125
    return int.from_bytes(wire[2:4], "big"), wire[4:].decode()


def read_into(conn: Connection, data: bytes) -> None:
    """Give `data` to the connection as a transport does that reads into its room where there is one."""
    while data and conn.wants_buffer():
        room = conn.get_buffer()
        size = min(len(room), len(data))
        room[:size] = data[:size]
        conn.buffer_updated(size)
        del room
        conn.feed(b"")
        data = data[size:]
    if data:
        conn.feed(data)


def held_after(feed: Callable[[Connection], None], **options: Any) -> int:
    """Bytes that a connection holds on to when its messages and its output have been taken."""
    conn = connection(**options)
    tracemalloc.start()
    try:
        feed(conn)
        messages(conn)
        conn.take_output()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def ping_flood(count: int) -> bytes:
    return b"".join(frame(9, i.to_bytes(4, "big")) for i in range(count))
