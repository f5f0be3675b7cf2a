"""One read of the history for all who ask in the same event loop iteration."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from flowserve.topics.backplane import Reading
from flowserve.topics.position import BEGINNING, Place

Read = Callable[[Place], Awaitable[Reading]]
_Waiter = tuple[Place, "asyncio.Future[Reading]"]


class SharedReads:
    """The reads of one topic's history: a thousand clients that reconnect at once cost one."""

    __slots__ = ("_read", "_reading", "_waiters")

    def __init__(self, read: Read) -> None:
        """`read` reads after a place, as `Backplane.read()`."""
        self._read = read
        self._reading: asyncio.Future[None] | None = None
        self._waiters: list[_Waiter] = []

    async def read(self, after: Place, epoch: str) -> Reading:
        """Return the messages after a place. `epoch` is that of the topic, as far as it is known. Raises what the
        backplane raises."""
        future: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()
        self._waiters.append((after, future))
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._run(epoch))  # in a task, as each caller may be cancelled
        return await future

    async def _run(self, epoch: str) -> None:
        """Read until nobody waits, once at a time: a history may be large."""
        try:
            await asyncio.sleep(0)
            while self._waiters:
                waiters, self._waiters = self._waiters, []
                # Apart from those that are of another log, or that a client has made up: a reading from one of them
                # says nothing of the places in this log.
                known = (epoch, BEGINNING.epoch)
                if ours := [waiter for waiter in waiters if waiter[0].epoch in known]:
                    await self._read_for(ours, min((place for place, _ in ours), key=lambda place: place.offset))
                if others := [waiter for waiter in waiters if waiter[0].epoch not in known]:
                    await self._read_for(others, others[0][0] if len(dict(others)) == 1 else BEGINNING)
        finally:
            self._reading = None

    async def _read_for(self, waiters: list[_Waiter], first: Place) -> None:
        """Read after `first` for all of them."""
        try:
            reading = await self._read(first)
        except Exception as error:
            for _, future in waiters:
                if not future.done():
                    future.set_exception(error)
            return
        places = {each.place: number for number, each in enumerate(reading.messages, 1)}
        for place, future in waiters:
            if not future.done():
                future.set_result(_part(reading, first, place, places))


def _part(reading: Reading, first: Place, after: Place, places: dict[Place | None, int]) -> Reading:
    """Return what a reading after `first` says of what is after `after`."""
    if after == first:
        return reading
    if after == reading.head:
        return Reading(True, (), reading.head, after)
    start = reading.start
    if start is not None and (after == start or (after == BEGINNING and not start.offset)):
        return Reading(True, reading.messages, reading.head, after)
    known = places.get(after)
    if known is None:  # in a log that was rolled back, the reader may have had messages up to its offset
        later = [each for each in reading.messages if each.place and _is_later(each.place, after)]
        start = reading.start if len(later) == len(reading.messages) else None
        return Reading(False, later, reading.head, start if later else reading.head)
    return Reading(True, reading.messages[known:], reading.head, after)


def _is_later(place: Place, after: Place) -> bool:
    return place.epoch != after.epoch or place.offset > after.offset
