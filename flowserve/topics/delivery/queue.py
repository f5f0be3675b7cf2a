"""A queue of messages as a subscriber: for the application itself, event streams, and other servers."""

from __future__ import annotations

import asyncio
from collections import deque

from flowserve.errors import ClientDisconnected
from flowserve.topics.counts import TopicCounts
from flowserve.topics.delivery.members import Subscriber
from flowserve.topics.message import Envelope, Gap, Message
from flowserve.topics.position import Place
from flowserve.transport.waiters import add_waiter, wake


class QueueSubscriber(Subscriber):
    """A `Subscriber`. `get()` returns what was delivered, in order."""

    def __init__(self, max_pending: int, drops: bool = False, conflates: bool = False) -> None:
        """From `max_pending` bytes on it takes no more, and the subscription falls behind."""
        self.session = None
        self.first = None
        self.envelope: Envelope | None = None
        self._drops = drops
        self._conflates = conflates
        self._max_pending = max_pending
        self._items: deque[Message | Gap] = deque()
        self._size = 0
        self._closed = False
        self._getters: list[asyncio.Future[None]] | None = None
        self._putters: list[asyncio.Future[None]] | None = None

    @property
    def owner(self) -> object:
        return self

    @property
    def drops(self) -> bool:
        return self._drops

    @property
    def conflates(self) -> bool:
        return self._conflates

    @property
    def closed(self) -> bool:
        return self._closed

    def deliver(self, message: Message, counts: TopicCounts) -> bool:
        if self._closed:
            return True
        if self._size >= self._max_pending:
            return False
        self._items.append(message)
        self._size += message.cost
        counts.delivered += 1
        self._wake_getters()
        return True

    def tell_gap(self, topic: str, head: Place | None, counts: TopicCounts) -> bool:
        if not self._closed:
            self._items.append(Gap(topic, head))
            counts.gaps += 1
            self._wake_getters()
        return True

    def fail(self) -> None:
        self.close()

    async def writable(self) -> None:
        while self._size > self._max_pending // 2 and not self._closed:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._putters = add_waiter(self._putters, waiter)
            await waiter
        if self._closed:
            raise ClientDisconnected("the subscription has ended")

    async def get(self, timeout: float | None = None) -> Message | Gap | None:
        """Return the next item, None after `close()`. Cancelling this loses nothing. Raises TimeoutError if none came
        for `timeout` seconds."""
        while not self._items:
            if self._closed:
                return None
            await self._wait(timeout)
        item = self._items.popleft()
        if isinstance(item, Message):
            self._size -= item.cost
            if self._putters is not None and self._size <= self._max_pending // 2:
                self._wake_putters()
        return item

    async def _wait(self, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._getters = add_waiter(self._getters, waiter)
        timer = None if timeout is None else loop.call_later(timeout, _time_out, waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """Take nothing more; what was taken can still be got."""
        self._closed = True
        self._wake_getters()
        self._wake_putters()

    def _wake_putters(self) -> None:
        putters, self._putters = self._putters, None
        wake(putters)

    def _wake_getters(self) -> None:
        getters, self._getters = self._getters, None
        wake(getters)


def _time_out(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
