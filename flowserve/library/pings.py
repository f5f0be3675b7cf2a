"""Pings that have not been answered by a pong yet (RFC 6455 sections 5.5.2 and 5.5.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flowserve.errors import ClientDisconnected

if TYPE_CHECKING:
    from flowserve.session.session import Session


class RoundTrip(float):
    """The seconds between a ping and its pong. Awaiting it returns the same number: `await (await ws.ping())`, as
    programs for the websockets library do."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, float]:
        return float(self)
        yield  # makes this function a generator


class Pings:
    """The unanswered pings of one WebSocket, in the order in which they were sent."""

    __slots__ = ("_sent",)

    def __init__(self) -> None:
        # By payload: the future of its round-trip time, None for a ping of the keepalive, and when it was sent.
        self._sent: dict[bytes, tuple[asyncio.Future[float | None] | None, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._sent)

    async def send_and_wait(self, session: Session, payload: bytes) -> float | None:
        """Send a ping and wait for its pong; return the seconds between, None if the connection ended before. Raises
        ValueError if another unanswered ping has the same payload."""
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
        """Record a ping that the keepalive has sent, in place of its previous one: a pong to it also answers the pings
        sent before it."""
        self._sent = {each: ping for each, ping in self._sent.items() if ping[0] is not None}
        self._sent.setdefault(payload, (None, perf_counter()))

    def answer(self, payload: bytes) -> float | None:
        """Handle a received pong, which also answers all pings sent before the one that it is for (RFC 6455 section
        5.5.3). Return the seconds since that ping, None if there is none with this payload.

        `perf_counter()` measures them, as the clock of an event loop may be coarse.
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
        """Let all waiting `send_and_wait()` calls return None: the connection is lost."""
        for pong, _ in self._sent.values():
            if pong is not None and not pong.done():
                pong.set_result(None)
