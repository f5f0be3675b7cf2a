"""What NATS knows of topics, read without changing anything: the subjects of the stream, and the first and the last
batch of each."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from flowserve.topics.names import CONTROL
from flowserve.topics.nats.batch import Batch, seq_of, topic_of
from flowserve.topics.nats.connect import Connector
from flowserve.topics.nats.link import Answered
from flowserve.topics.nats.log import NO_STREAM, Log
from flowserve.topics.nats.url import NATSURL
from flowserve.topics.remote.inspection import NO_DETAIL, Look, TopicDetail, TopicState
from flowserve.topics.settings import Settings

T = TypeVar("T")
R = TypeVar("R")

MOST_TOPICS = 10_000
"""That are looked at: each takes two requests."""
_AT_ONCE = 50
"""Topics that are asked for at once."""


class NATSInspector:
    """An `Inspector` of one stream of JetStream."""

    def __init__(self, url: NATSURL) -> None:
        self._url = url
        self._connector = Connector(url, Settings())
        self._log: Log

    @property
    def shown(self) -> str:
        return self._url.shown

    async def open(self) -> None:
        self._log = await self._connector.connect_reader()

    async def close(self) -> None:
        self._log.abort("closed")
        await self._log.ended()

    async def round_trip(self) -> float:
        begin = time.perf_counter()
        await self._log.link.call("$JS.API.INFO")
        return time.perf_counter() - begin

    async def look(self, prefix: str) -> Look:
        names = await self._names(prefix)
        states = await _each(names[:MOST_TOPICS], self._state)
        return Look([each for each in states if each is not None], len(names) <= MOST_TOPICS)

    async def details(self, topics: Sequence[TopicState]) -> list[TopicDetail]:
        return await _each([each.name for each in topics], self._detail)

    async def _names(self, prefix: str) -> list[str]:
        """Return the names of topics that begin so, in order."""
        name, found, seen = self._url.prefix, [], 0
        while True:
            request = {"subjects_filter": f"{name}.log.*", "offset": seen}
            try:
                info = await self._log.link.call(f"$JS.API.STREAM.INFO.{name}", json.dumps(request).encode())
            except Answered as error:
                if error.code == NO_STREAM:
                    return []
                raise
            subjects = info["state"].get("subjects") or {}
            found += [topic_of(each.rpartition(".")[2]) for each in subjects]
            seen += len(subjects)
            if not subjects or seen >= info.get("total", 0):
                break
        return sorted(each for each in found if each and each.startswith(prefix) and not each.startswith(CONTROL))

    async def _edges(self, name: str) -> tuple[Batch, Batch] | None:
        """Return the first and the last batch of a topic, None if it is gone, or another program's."""
        try:
            last = await self._log.last(name)
            first = await self._log.next(name, 1)
        except Answered:
            if self._log.link.denied:
                raise
            return None
        return None if first is None or last is None else (first, last)

    async def _state(self, name: str) -> TopicState | None:
        edges = await self._edges(name)
        if edges is None:
            return None
        first, last = edges
        tail, now = last.tail, time.monotonic()
        messages = max(0, tail.place.offset - first.before.offset)
        size = max(0, tail.size - first.before_size)
        return TopicState(name, tail.place.epoch, tail.place.offset, messages, size, now)

    async def _detail(self, name: str) -> TopicDetail:
        edges = await self._edges(name)
        if edges is None:
            return NO_DETAIL
        first, last = edges
        oldest = await self._with_messages(name, first, last)
        newest: Batch | None = last
        if last.tail.place == last.before:  # it keeps the topic's place
            seq = seq_of(last.before)
            newest = await self._log.at(seq) if seq else None
        if oldest is None or newest is None:
            return NO_DETAIL
        now = time.time()
        return TopicDetail(max(0.0, now - oldest.published_at), max(0.0, now - newest.published_at), None)

    async def _with_messages(self, name: str, first: Batch, last: Batch) -> Batch | None:
        """Return the first batch that has messages."""
        batch: Batch | None = first
        while batch is not None and batch.tail.place == batch.before:
            batch = await self._log.next(name, batch.seq + 1) if batch.seq < last.seq else None
        return batch


async def _each(items: Sequence[T], work: Callable[[T], Coroutine[Any, Any, R]]) -> list[R]:
    found: list[R] = []
    for start in range(0, len(items), _AT_ONCE):
        found += await asyncio.gather(*(work(each) for each in items[start : start + _AT_ONCE]))
    return found
