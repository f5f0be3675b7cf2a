"""Fixtures of the tests that use topics: servers, Redis, NATS, and machines that share one. For a conftest.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.helpers import Stage
from support.machines import Machines, machines
from support.nats_server import NATSServer
from support.redis_server import RedisServer
from support.topic_rooms import OpenRoom, Room


@pytest.fixture
async def open_room(serve: Any, stage: Stage, connect: Any) -> OpenRoom:
    """`room = await open_room(topics_history=10)`: options as for Config."""

    async def start(**options: Any) -> Room:
        return Room(await serve(stage, **options), stage, connect)

    return start


@pytest.fixture
async def room(open_room: OpenRoom) -> Room:
    return await open_room()


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    """A server that keeps nothing over a restart."""
    server = RedisServer()
    try:
        await server.start()
        yield server
    finally:
        await server.close()


@pytest.fixture
async def nats() -> AsyncIterator[NATSServer]:
    """A server with JetStream."""
    server = NATSServer()
    try:
        await server.start()
        yield server
    finally:
        await server.close()


@pytest.fixture
async def machine(logs: Any) -> AsyncIterator[Machines]:
    """`hub = machine(redis.url)`: one of several that use the same server."""
    async with machines() as make:
        yield make
