"""Programs that are not served, and the topics of servers."""

from __future__ import annotations

import asyncio

import pytest
from support.helpers import until, within
from support.redis_server import RedisServer
from support.terminal import flowserve
from support.topic_rooms import OpenRoom

from flowserve import ConfigError, topics


@pytest.mark.parametrize("url", ["memory:", "broker:/tmp/x", "", "kafka://host"])
async def test_urls_that_reach_no_other_process(url: str) -> None:
    with pytest.raises(ConfigError, match="reaches no other process; write redis:"):
        await topics.connect(url).__aenter__()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1?foo=1", "redis://host:port", "nats://127.0.0.1:1?foo=1"])
async def test_a_mistake_in_the_url_does_not_pass(url: str) -> None:
    with pytest.raises(ConfigError, match="is wrong") as raised:
        await topics.connect(url).__aenter__()
    assert not isinstance(raised.value, topics.TopicsError)


async def test_presence_with_redis(open_room: OpenRoom, redis: RedisServer) -> None:
    """A program sees who is on the servers, and counts as a subscriber where it listens."""
    room = await open_room(topics_url=redis.url)
    await room.guest("t", member="ada", info={"name": "Ada"})
    async with topics.connect(redis.url) as connection:
        (ada,) = await within(connection.presence("t"))
        assert (ada.id, ada.info) == ("ada", {"name": "Ada"})
        changes = connection.listen("t", presence=True)
        assert [each["id"] for each in (await within(anext(changes))).json()["members"]] == ["ada"]
        assert await within(connection.count("t")) == 2
        await changes.aclose()


async def test_with_redis(open_room: OpenRoom, redis: RedisServer) -> None:
    """A program and a server publish to each other; the end of the connection ends what it listens to."""
    room = await open_room(topics_url=redis.url)
    guest = await room.guest("t")
    heard: list[str] = []

    async def listen(connection: topics.Connection) -> None:
        async for message in connection.listen("t", since=topics.START):
            heard.append(message.text)

    async with topics.connect(redis.url) as connection:
        first = await connection.publish("t", json={"from": "a script"}, key="k")
        assert await connection.publish("t", json={"from": "a script"}, key="k") == first
        listening = asyncio.ensure_future(listen(connection))
        await until(lambda: len(heard) == 1)
        await room.publish("t", "from the server")
        await until(lambda: len(heard) == 2)
    await within(listening)
    status, out, err = await flowserve("publish", "t", "--topics-url", redis.url, stdin=b"one\ntwo")
    assert (status, len(out.splitlines()), err) == (0, 2, "")
    expected = ['{"from":"a script"}', "from the server", "one", "two"]
    assert [await guest.client.message() for _ in range(4)] == expected
    assert heard == expected[:2]
