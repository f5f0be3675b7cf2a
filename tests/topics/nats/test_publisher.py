"""Publishing to JetStream where that answers what it never should."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.helpers import within
from support.nats_server import nats_needed

from flowserve.errors import TopicsError
from flowserve.topics.message import Kind
from flowserve.topics.settings import Retention

pytestmark = nats_needed


class StrangeLog:
    """An empty log, in which batches are stored without a sequence number."""

    async def raise_age(self, age: float) -> None:
        pass

    async def last(self, topic: str) -> None:
        pass

    async def store(self, topic: str, batch: bytes, expected: int, id: str | None) -> None:
        raise KeyError("seq")


async def test_an_answer_that_is_none_keeps_nobody_waiting_and_takes_no_memory(caplog: Any) -> None:
    from flowserve.topics.nats.publisher import Publisher

    async def connected() -> Any:
        return StrangeLog()

    publisher = Publisher(connected)
    retention = Retention(100, 1000, 60.0)
    publishing = [
        asyncio.ensure_future(publisher.publish("t", b"x", Kind.TEXT, f"{number}", "", retention))
        for number in range(2)
    ]
    with pytest.raises(TopicsError, match="unknown whether it was published"):
        await within(publishing[0])
    assert await within(publishing[1]) is None  # it was not sent
    assert not publisher._size
    assert not publisher._lanes
    assert "publishing to the topic 't' in NATS failed" in caplog.text
    await publisher.close()
