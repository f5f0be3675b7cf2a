"""Machines that publish and read without a pause, each in a thread of its own, while their server is tampered with."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from flowserve.errors import TopicsError
from flowserve.topics.message import Gap, Message
from flowserve.topics.position import Position
from support.helpers import until, within
from support.machines import Machine, Reader

T = TypeVar("T")

TOPIC = "t"
_PAUSE = 0.0005
"""Seconds between messages, so that the threads share the machine with that server."""


class Party:
    """A machine with one publisher and one reader."""

    def __init__(self, name: str, url: str, new_loop: Callable[[], asyncio.AbstractEventLoop], **settings: Any) -> None:
        self.name = name
        self.placed: dict[str, Position] = {}  # what was published, and where
        self.local: set[str] = set()  # what reached only this machine
        self.unknown: set[str] = set()  # what may have been published
        self.got: list[Message | Gap] = []
        self.machine: Machine
        self._reader: Reader
        self._url = url
        self._settings = settings
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in its event loop."""
        return await within(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop)))

    async def start(self) -> None:
        self._thread.start()
        await self.run(self._start())

    async def _start(self) -> None:
        self.machine = Machine(self._url, **self._settings)
        self._reader = await self.machine.reader(TOPIC)
        self._tasks = [self._loop.create_task(self._read())]

    async def begin(self) -> None:
        """Publish, from now on."""
        self._tasks.append(self._loop.create_task(self._publish()))

    async def _publish(self) -> None:
        number = 0
        while not self._stopping:
            number += 1
            await self._publish_one(f"{self.name} {number}")
            await asyncio.sleep(_PAUSE)
        while self._end not in self.placed:
            await self._publish_one(self._end)
            await asyncio.sleep(_PAUSE)

    @property
    def _end(self) -> str:
        return f"{self.name} {10**9}"

    async def _publish_one(self, text: str) -> None:
        try:
            position = await self.machine.publish(TOPIC, text)
        except TopicsError:
            self.unknown.add(text)
            return
        if position:
            self.placed[text] = position
        else:
            self.local.add(text)

    async def _read(self) -> None:
        while (item := await self._reader.queue.get()) is not None:
            self.got.append(item)

    async def stop(self, parties: Sequence[Party]) -> None:
        """Publish a last message, and read up to those of all parties."""
        self._stopping = True
        ends = {each._end for each in parties}
        await until(lambda: ends <= {each.text for each in self.got[-1000:] if isinstance(each, Message)}, 20)

    async def close(self) -> None:
        """End its thread, with no task left."""
        if self._thread.is_alive():
            await self.run(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        self._loop.close()

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.machine.hub.close()
        left = asyncio.all_tasks() - {asyncio.current_task(), *self._tasks}
        assert not left, left

    @property
    def gaps(self) -> int:
        return sum(isinstance(item, Gap) for item in self.got)


@asynccontextmanager
async def traffic(url: str, **settings: Any) -> AsyncIterator[tuple[Party, Party]]:
    """Two parties, on asyncio's event loop and on uvloop. At the end the promise is checked."""
    import uvloop

    parties = Party("a", url, asyncio.new_event_loop, **settings), Party("b", url, uvloop.new_event_loop, **settings)
    try:
        for party in parties:
            await party.start()
        for party in parties:
            await party.run(party.begin())
        yield parties
        await asyncio.gather(*(party.stop(parties) for party in parties))
    finally:
        for party in parties:
            await party.close()
    for party in parties:
        check(party, parties)


async def flows(parties: Sequence[Party], count: int = 100) -> None:
    """Wait until each party has published and read some more messages."""
    before = [(len(party.placed), len(party.got)) for party in parties]
    await until(
        lambda: all(
            len(party.placed) >= placed + count and len(party.got) >= got + 2 * count
            for party, (placed, got) in zip(parties, before, strict=True)
        ),
        20,
    )


def check(party: Party, parties: Sequence[Party]) -> None:
    """Each message once and in order, or a gap was told."""
    placed = {text: position for each in parties for text, position in each.placed.items()}
    unknown = set[str]().union(*(each.unknown for each in parties))
    allowed = unknown.union(placed, party.local)
    gaps, after_gap, lossy = 0, False, party.gaps > 0
    seen: dict[str, int] = {}  # and how many gaps there were before
    numbers: dict[str, int] = {}  # of the last message, by publisher
    offset: int | None = None
    for item in party.got:
        if isinstance(item, Gap):
            gaps, after_gap = gaps + 1, True
            numbers.clear()  # after a failover, what was published again may come again
            continue
        assert item.text in allowed, f"{party.name}: {item.text} was not published"
        assert seen.get(item.text, -1) < gaps, f"{party.name}: {item.text} came twice"
        seen[item.text] = gaps
        publisher, number = item.text.split(" ")
        if item.text not in unknown:  # that may come late, when its publisher has given it up
            assert after_gap or int(number) > numbers.get(publisher, 0), f"{party.name}: {item.text} came too late"
            numbers[publisher] = int(number)
        if item.place is None:
            assert item.text in party.local
            continue
        assert lossy or item.text in unknown or placed[item.text] == item.position
        if offset is not None and not after_gap:
            assert item.place.offset == offset + 1, f"{party.name}: {item.text} follows a hole"
        offset, after_gap = item.place.offset, False
    missing = set(placed).union(*(each.local for each in parties)) - set(seen)
    assert gaps or not missing, f"{party.name}: never came, without a gap: {sorted(missing)[:10]}"
