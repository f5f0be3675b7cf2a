"""A loop whose time the test moves, and sessions in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from support.sessions import ClockLoop, Make, Wire

from flowserve import Config
from flowserve.asgi.context import Context
from flowserve.session.session import Session
from flowserve.transport.flush_queue import FlushQueue
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import PerMessageDeflate


@pytest.fixture
def loop() -> Iterator[ClockLoop]:
    loop = ClockLoop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: errors.append(context))
    yield loop
    loop.turn()
    left = asyncio.all_tasks(loop)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert not left
    assert errors == []


async def app(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.fixture
def make(loop: ClockLoop) -> Make:
    """`session, wire = make(**options)`; all of a test are one worker's."""
    flush_queue = FlushQueue(loop)

    def make_session(*, deflate: PerMessageDeflate | None = None, **options: Any) -> tuple[Session, Wire]:
        config = Config(app, **options)
        context = Context(app, config, loop, flush_queue)
        wire = Wire(loop)
        connection = Connection(Role.SERVER, config.ws_max_size, config.ws_max_frames_per_message, deflate)
        return Session(connection, wire, context), wire

    return make_session
