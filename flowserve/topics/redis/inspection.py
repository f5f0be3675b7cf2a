"""What Redis knows of topics, read without changing anything: SCAN finds the heads, some at a time, so that no other
client waits; GET and LLEN read what is asked of all topics, a script what is asked of few."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import hiredis

from flowserve.errors import TopicsError
from flowserve.topics.names import CONTROL
from flowserve.topics.redis.connect import Connector, is_of_server
from flowserve.topics.redis.link import Link, pack
from flowserve.topics.redis.scripts import PROBE, Keys, escape, keys_of, unescape
from flowserve.topics.redis.url import RedisURL
from flowserve.topics.remote.inspection import Look, TopicDetail, TopicState

MOST_TOPICS = 100_000
"""That are looked at: this command's memory is bounded, whatever Redis has."""
_SCANNED = 200
"""Keys that Redis looks at in one turn."""
_BATCH = 100
"""Topics that are asked for in one write."""
READER_PERMISSIONS = "+get +llen +lrange +evalsha +script|load +time +ping +scan"
"""That a user needs for any Redis."""

_EDGES = b"""
-- KEYS: log. Returns the times of its first and its last message.
local found = {}
for place, at in ipairs({0, -1}) do
  local entry = redis.call('LRANGE', KEYS[1], at, at)[1]
  if entry then found[place] = struct.unpack('>I8', entry) end
end
return found
"""
_EDGES_SHA = hashlib.sha1(_EDGES).hexdigest().encode()


class _Head(NamedTuple):
    epoch: str
    offset: int
    size: int


def _head(answer: Any) -> _Head | None:
    """Return what the key `head` says (`scripts.py`), None if it is gone, or something else."""
    try:
        epoch, offset, _check, _start, size, _first, _age = answer.decode().split(" ")
        return _Head(epoch, int(offset), int(size))
    except (AttributeError, ValueError):
        return None


class Layout:
    """Where the topics of one Redis are, and what asks for their processes."""

    permissions = f"{READER_PERMISSIONS} +select +pubsub|numsub"
    """What it needs to be looked into."""
    count_processes = b"NUMSUB"

    def __init__(self, prefix: str) -> None:
        """`prefix` is that of the URL."""
        self.prefix = prefix

    def keys(self, name: str) -> Keys:
        """Return the keys of a topic."""
        return keys_of(self.prefix, escape(name), "")

    def heads(self, prefix: str) -> bytes:
        """Return the pattern of the heads of topics whose names begin so."""
        return literally(f"{self.prefix}{{{escape(prefix)}") + b"*}:head"

    def name(self, head: bytes) -> str | None:
        """Return the name of a topic that users see, by the key of its head; None for another one."""
        return name_of(head[len(f"{self.prefix}{{") : -len(b"}:head")])


class RedisInspector:
    """An `Inspector` of one Redis, database and prefix."""

    def __init__(self, url: RedisURL, layout: Layout | None = None) -> None:
        self._url = url
        self._layout = layout or Layout(url.prefix)
        self._link: Link

    @property
    def shown(self) -> str:
        return self._url.shown

    @property
    def link(self) -> Link:
        """The connection."""
        return self._link

    async def open(self) -> None:
        self._link = await Connector(self._url).connect_reader((_EDGES,))

    async def close(self) -> None:
        self._link.abort("closed")

    async def round_trip(self) -> float:
        begin = time.perf_counter()
        await self._ask([])
        return time.perf_counter() - begin

    async def look(self, prefix: str) -> Look:
        names, complete = await self._names(prefix)
        found: list[TopicState] = []
        for some in _batches(names):
            keys = [self._layout.keys(name) for name in some]
            answers = await self._ask([c for each in keys for c in ((b"GET", each.head), (b"LLEN", each.log))])
            now = time.monotonic()
            for name, text, length in zip(some, answers[::2], answers[1::2], strict=True):
                head = _head(text)
                if head is not None and isinstance(length, int):
                    size = head.size if length else 0
                    found.append(TopicState(name, head.epoch, head.offset, length, size, now))
        return Look(found, complete)

    async def details(self, topics: Sequence[TopicState]) -> list[TopicDetail]:
        found: list[TopicDetail] = []
        for some in _batches(topics):
            keys = [self._layout.keys(each.name) for each in some]
            await self._load_script()
            edges = await self._ask([(b"EVALSHA", _EDGES_SHA, 1, each.log) for each in keys])
            counting = (b"PUBSUB", self._layout.count_processes, *(each.channel for each in keys))
            clock, numbers = await self._ask([(b"TIME",), counting])
            now = int(clock[0]) + int(clock[1]) / 1e6
            for times, processes in zip(edges, numbers[1::2], strict=True):
                oldest, newest = times if isinstance(times, list) and times else (None, None)
                found.append(TopicDetail(_age(oldest, now), _age(newest, now), processes))
        return found

    async def _load_script(self) -> None:
        answers: list[Any] = []
        self._link.load_scripts(answers.append)
        await self._ask([])
        self._check(answers)

    async def _names(self, prefix: str) -> tuple[list[str], bool]:
        """Return the names of topics that begin so, and whether these are all."""
        pattern = self._layout.heads(prefix)
        names: dict[str, None] = {}
        cursor = b"0"
        while True:
            ((cursor, keys),) = await self._ask([(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", _SCANNED)], strict=True)
            for key in keys:
                name = self._layout.name(key)
                if name is not None:
                    names[name] = None
            if cursor == b"0":
                return list(names)[:MOST_TOPICS], len(names) <= MOST_TOPICS
            if len(names) > MOST_TOPICS:
                return list(names)[:MOST_TOPICS], False

    async def _ask(self, commands: Sequence[tuple[Any, ...]], strict: bool = False) -> list[Any]:
        """Return the answers to commands, those that fail among them. Raises TopicsError if they are not permitted, or
        do not come; with `strict`, too, if one fails."""
        answers: list[Any] = []
        self._link.send([pack(each) for each in commands], [answers.append] * len(commands))
        try:
            answers.append(await asyncio.wait_for(self._link.call("PING"), self._url.timeout))
        except asyncio.TimeoutError:
            text = f"Redis at {self._link.address} has not answered for {self._url.timeout:g} s"
            self._link.abort(text)
            raise TopicsError(text) from None
        except hiredis.ReplyError as error:
            answers.append(error)
        self._check(answers, strict)
        return answers[:-1]

    def _check(self, answers: Sequence[Any], strict: bool = False) -> None:
        for each in answers:
            if isinstance(each, hiredis.ReplyError) and (strict or is_of_server(each)):
                hint = f"; this needs ~{self._url.prefix}* {self._layout.permissions}" if "NOPERM" in str(each) else ""
                raise TopicsError(f"Redis at {self._link.address} answers: {str(each).rstrip('.')}{hint}")


def _age(milliseconds: int | None, now: float) -> float | None:
    return None if milliseconds is None else max(0.0, now - milliseconds / 1000)


def literally(text: str) -> bytes:
    """Return what stands for a text in a pattern of SCAN."""
    return re.sub(rb"([*?\[\]\\])", rb"\\\1", text.encode(errors="surrogatepass"))


def name_of(escaped: bytes) -> str | None:
    """Return the name of a topic that users see, None for another one."""
    try:
        text = escaped.decode(errors="surrogatepass")
    except UnicodeDecodeError:  # another program's
        return None
    return None if text == PROBE or text.startswith(CONTROL) else unescape(text)


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
