"""Keeps one connection to a server outside, such as Redis, and tells who uses it when it comes and goes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from flowserve.errors import TopicsError
from flowserve.logs.loggers import logger
from flowserve.topics.remote.errors import AttemptLog, Unreachable
from flowserve.transport.waiters import add_waiter, wake

GRACE = 2.0
"""Seconds without a connection for which calls wait for the next one."""
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
"""Seconds until the connection is tried again, at most: at first, and ever."""


class RemoteLink(Protocol):
    """A connection to a server."""

    @property
    def address(self) -> str:
        """Of the server."""

    @property
    def is_lost(self) -> bool:
        """Whether nothing comes or goes on it any more."""

    @property
    def reason(self) -> str:
        """Why it was lost."""

    def abort(self, reason: str) -> None:
        """End it at once."""

    async def ended(self) -> None:
        """Return when it is lost."""


L = TypeVar("L", bound=RemoteLink)
L_contra = TypeVar("L_contra", contravariant=True)


class LinkUser(Protocol[L_contra]):
    """Whoever uses the connection."""

    def up(self, link: L_contra) -> None:
        """Go on with a new connection."""

    def down(self) -> None:
        """Wait for the next connection."""

    def give_up(self) -> None:
        """Let nobody wait, until there is a connection."""


class Reconnector(Generic[L]):
    """Opens a connection again whenever it is lost, after random delays that grow."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Awaitable[L]],
        watch: Callable[[L], Awaitable[None]],
        users: Sequence[LinkUser[L]],
    ) -> None:
        """`name` is that of the server in the log. `connect()` raises Unreachable or Refused. `watch()` sees to it that
        a loss is noticed, and returns then. The first of `users` is told first."""
        self._name = name
        self._connect = connect
        self._watch = watch
        self._users = users
        self._waiters: list[asyncio.Future[None]] | None = None  # of those who wait for a connection
        self._given_up = False
        self._giving_up: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.link: L | None = None
        self.reconnects = 0

    async def open(self) -> None:
        """Connect. While the server can't be reached, go on trying in the background. Raises Refused."""
        link = None
        try:
            link = await self._connect()
        except Unreachable as error:
            logger.warning("Topics: %s; until it can be, messages stay within this process", error)
            self._give_up()
        else:
            self._up(link)
        self._task = asyncio.get_running_loop().create_task(self._run(link))

    def start(self) -> None:
        """As `open()`, without waiting; what is refused is logged, and tried again."""
        self._task = asyncio.get_running_loop().create_task(self._run(None))

    async def close(self) -> None:
        """End the connection."""
        task, self._task = self._task, None
        if task is None:
            return
        link = self.link
        if link is not None:
            link.abort("closed")  # first, as what waits for the server may not notice that it is cancelled
        task.cancel()
        await asyncio.wait([task])
        if link is not None:
            self._down()
            await link.ended()
        self._give_up()

    async def connected(self) -> L:
        """Return the connection, or the next one. Raises TopicsError if there is none for long."""
        while self.link is None or self.link.is_lost:
            if self._given_up:
                raise TopicsError(f"{self._name} can't be reached")
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters = add_waiter(self._waiters, waiter)
            await waiter
        return self.link

    async def _run(self, link: L | None) -> None:
        """Keep a connection, for ever."""
        loop = asyncio.get_running_loop()
        lost_at = loop.time()
        while True:
            if link is None:
                link = await self._connect_again()
                if self._task is None:
                    link.abort("closed")  # likewise
                    await link.ended()
                    return
                self.reconnects += 1
                logger.info("Topics: %s at %s is there after %.1f s", self._name, link.address, loop.time() - lost_at)
                self._up(link)
            await self._watch(link)
            if self._task is None:
                return  # closed
            lost_at = loop.time()
            logger.warning("Topics: %s at %s is lost: %s", self._name, link.address, link.reason)
            self._down()
            link = None

    def _up(self, link: L) -> None:
        self._cancel_giving_up()
        self.link = link
        self._given_up = False
        for user in self._users:
            user.up(link)
        self._wake()

    def _down(self) -> None:
        self.link = None
        for user in self._users:
            user.down()
        self._giving_up = asyncio.get_running_loop().call_later(GRACE, self._give_up)

    def _give_up(self) -> None:
        """Let nobody wait for a connection."""
        self._cancel_giving_up()
        self._given_up = True
        for user in self._users:
            user.give_up()
        self._wake()

    def _cancel_giving_up(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        wake(waiters)

    async def _connect_again(self) -> L:
        delay, failures = _FIRST_DELAY, AttemptLog()
        while True:
            await asyncio.sleep(random.uniform(0, delay))
            delay = min(2 * delay, _LONGEST_DELAY)
            try:
                return await self._connect()
            except Exception as error:  # whatever it is must not end this
                failures.add(error, f"connecting to {self._name}")
            if self._task is None:
                raise asyncio.CancelledError  # by close(), while a library had an error that it raised instead
