"""What processes tell each other of presence, through Redis, NATS or the supervisor: messages, one a line.

- Nothing is raised, neither by reading a message nor by what is done with it, asked of it, or told to clients.
- What is understood is the same when it is sent again.
- What clients are told is JSON, and who is listed has the types that `topics.presence()` says.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Coroutine
from typing import Any
from unittest.mock import patch

from compliance.fuzz.findings import require
from flowserve.topics.counts import TopicCounts
from flowserve.topics.message import Kind, Message
from flowserve.topics.names import CONTROL, ChangesName
from flowserve.topics.position import Place
from flowserve.topics.presence import tracker as tracker_module
from flowserve.topics.presence.entries import Presence
from flowserve.topics.presence.limits import Limits
from flowserve.topics.presence.protocol import decode, encode
from flowserve.topics.settings import Settings

MAX_LEN = 4000
_TOPIC = "t"
_NAME = "me"
_HEAD = Place("0123456789", 0, "89abcdef")
_LIMITS = Limits(listed=5, held=8, answer=0.0, discovery=0.0)
"""Nobody is waited for."""
_LOOP = asyncio.new_event_loop()


class _Backplane:
    """Reaches nobody."""

    connected = True

    async def subscribe(self, topics: Any) -> list[Place]:
        return [_HEAD] * len(topics)

    async def publish(self, *of: Any) -> None:
        return None


class _Host:
    """Stands for a hub. `told` is what clients get."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.told: list[Message] = []

    async def open(self) -> None:
        pass

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return _LOOP.create_task(work)

    def subscribers(self, topic: str) -> int:
        return 1

    def counts_of(self, topic: str) -> TopicCounts:
        return TopicCounts()

    def deliver_changes(self, name: ChangesName, message: Message) -> None:
        self.told.append(message)


def observe(data: bytes) -> Any:
    lines = data.split(b"\n")
    for line in lines:
        packet = decode(line)
        if packet is not None:
            require(decode(encode(packet)) == packet, "what is sent again is another message", line)
    return _LOOP.run_until_complete(_talk(lines))


async def _talk(lines: list[bytes]) -> Any:
    host = _Host()
    with patch.object(tracker_module, "limits", _LIMITS):
        tracker: Any = tracker_module.Tracker(_NAME, _Backplane(), host)  # type: ignore[arg-type]
    await tracker.subscribe([ChangesName.of(_TOPIC)])
    tracker.join(_TOPIC, "a connection", "own", "{}", 1.0)
    try:
        for offset, line in enumerate(lines, 1):
            tracker.exchange.received(Message(CONTROL, line, Kind.BINARY, _HEAD._replace(offset=offset)))
        tracker._deliver_changes()
        host.told.append(tracker.all_members(ChangesName.of(_TOPIC)))
        told = [json.loads(each.data, parse_constant=_no_constant) for each in host.told]
        for each in tracker.exchange._outgoing.take([_TOPIC]):
            require(decode(encode(each)) == each, "what is said is not understood", each)
        present, count = await tracker.presence(_TOPIC), await tracker.count(_TOPIC)
    finally:
        await _end(tracker)
    _check(present, count)
    return sorted(each.id for each in present), present.complete, present.connections, count, len(told)


async def _end(tracker: Any) -> None:
    for timer in (tracker._timer, tracker.exchange._timer):
        if timer is not None:
            timer.cancel()
    if tracker.exchange._sending is not None:
        await tracker.exchange._sending


def _check(present: Presence, count: int) -> None:
    require(type(count) is int and count >= 1, "a count that can't be", count)
    require(len(present) <= 5, "more are listed than can be", len(present))
    require("own" in present or len(present) == 5, "its own member is missing")
    for each in present:
        times = isinstance(each.since, (int, float)) and math.isfinite(each.since)
        require(isinstance(each.id, str) and times and type(each.connections) is int, "a member that can't be", each)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
