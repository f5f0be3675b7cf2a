"""What the applications share: things to stream, and an account of what has begun and ended."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

counts: dict[str, Any] = {"started": 0, "open": 0, "background": 0, "uploads": 0, "close": None}
"""Startups seen, streams open, background tasks done, uploads taken, the last close code that came."""

PIECES = tuple(f"piece {number}\n" for number in range(5))
MEGABYTE = b"0123456789abcdef" * 65536
BLOCKS = 0.6
"""Seconds for which blocking code blocks."""


def log_in(name: str = "alice") -> str:
    """Set the context variable; returns what it was: "nobody" where no other request's context leaks in."""
    before = user.get()
    user.set(name)
    return before


def digest(body: bytes) -> dict[str, Any]:
    counts["uploads"] += 1
    return {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


async def pieces() -> AsyncIterator[bytes]:
    for piece in PIECES:
        yield piece.encode()
        await asyncio.sleep(0.01)


async def events() -> AsyncIterator[bytes]:
    """One event, and then nothing for ever."""
    counts["open"] += 1
    try:
        yield b"data: hello\n\n"
        await asyncio.Event().wait()
    finally:
        counts["open"] -= 1


async def blocking() -> AsyncIterator[bytes]:
    """A piece, and another one after code that blocks the event loop."""
    yield b"before\n"
    time.sleep(BLOCKS)  # noqa: ASYNC251 (as a synchronous SDK does)
    yield b"after\n"


async def late() -> AsyncIterator[bytes]:
    await asyncio.sleep(1.5)
    yield b"late\n"


def pieces_sync() -> Iterator[bytes]:
    for piece in PIECES:
        yield piece.encode()
        time.sleep(0.01)


async def later(seconds: float = 0.05) -> None:
    """A background task."""
    await asyncio.sleep(seconds)
    counts["background"] += 1


def started() -> None:
    counts["started"] += 1


def stopped() -> None:
    print("the application has shut down", file=sys.stderr, flush=True)


def close_of(text: str) -> tuple[int, str] | None:
    """The code and reason that "close CODE REASON" asks for."""
    word, _, rest = text.partition(" ")
    code, _, reason = rest.partition(" ")
    return (int(code), reason) if word == "close" else None
