"""Servers for tests of presence, and several processes' hubs in this one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.presence import OpenProcesses, Processes
from support.topic_fixtures import open_room, redis, room

__all__ = ["open_room", "redis", "room"]


@pytest.fixture
async def processes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenProcesses]:
    """`one, two = await processes(2, expiry=0.5)`: hubs that share a broker; options as for Limits."""
    made: list[Processes] = []

    async def start(count: int, **limits: Any) -> Any:
        made.append(Processes(monkeypatch, limits))
        await made[-1].open(count)
        return made[-1]

    yield start
    for each in made:
        await each.close()
