"""Pings that wait for their pongs (RFC 6455 sections 5.5.2 and 5.5.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flowserve.errors import ClientDisconnected

if TYPE_CHECKING:
    from flowserve.session.session import Session


class RoundTrip(float):
    """The seconds between a ping and its pong. It may be awaited too, which gives the same: programs for the websockets
    library do so."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, float]:
        return float(self)
        yield  # which makes it a generator


class Pings:
    """The pings of one WebSocket, in the order in which they were sent."""

    __slots__ = ("_sent",)

    def __init__(self) -> None:
        self._sent: dict[bytes, tuple[asyncio.Future[float | None] | None, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._sent)

    async def ask(self, session: Session, payload: bytes) -> float | None:
        """Send one; return the seconds until its pong, None if none will come. ValueError for a payload that another
        one has."""
        if payload in self._sent:
            raise ValueError(f"a ping with {payload!r} is under way already")
        pong: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
        self._sent[payload] = pong, perf_counter()
        try:
            session.ping(payload)
            return await pong
        except ClientDisconnected:
            return None
        finally:
            if self._sent.get(payload, (None,))[0] is pong:
                del self._sent[payload]

    def add_keepalive(self, payload: bytes) -> None:
        """The keepalive sends one: its pong answers those before it, and of its own only the last counts."""
        self._sent = {each: ping for each, ping in self._sent.items() if ping[0] is not None}
        self._sent.setdefault(payload, (None, perf_counter()))

    def answer(self, payload: bytes) -> float | None:
        """A pong has come, which answers those before it too. Return the seconds that it took, None if it answers none.

        Measured here, as event loops' own clocks can be coarse.
        """
        if payload not in self._sent:
            return None
        now = perf_counter()
        seconds = now - self._sent[payload][1]
        for each, (pong, sent_at) in list(self._sent.items()):
            del self._sent[each]
            if pong is not None and not pong.done():
                pong.set_result(now - sent_at)
            if each == payload:
                break
        return seconds

    def end(self) -> None:
        """No pong will come any more."""
        for pong, _ in self._sent.values():
            if pong is not None and not pong.done():
                pong.set_result(None)
