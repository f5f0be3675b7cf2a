"""Normal channels: each message goes to one of all receivers, in whatever process; over Redis."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from channels.exceptions import ChannelFull
from support.helpers import until, within
from support.redis_server import redis_needed

from flowserve.errors import TopicsError
from flowserve.topics import ChannelLayer, connect

pytestmark = redis_needed


@asynccontextmanager
async def workers(layers: list[ChannelLayer], got: list[tuple[int, Any]]) -> AsyncIterator[None]:
    """Receive from "tasks" on all layers; `got` has which one got what."""

    async def work(number: int, layer: ChannelLayer) -> None:
        while True:
            got.append((number, (await layer.receive("tasks"))["number"]))

    tasks = [asyncio.ensure_future(work(number, layer)) for number, layer in enumerate(layers)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_each_message_once(redis, make_layer) -> None:
    """Four processes receive, three send."""
    layers = [make_layer(redis.url) for _ in range(4)]
    got: list[tuple[int, Any]] = []
    async with workers(layers, got):
        for number in range(300):
            await layers[number % 3].send("tasks", {"type": "m", "number": number})
        await until(lambda: len(got) >= 300)
    assert sorted(number for _, number in got) == list(range(300))
    assert len({worker for worker, _ in got}) > 1, "one did all"


async def test_messages_wait_for_a_receiver_that_comes_later(redis, make_layer) -> None:
    sender = make_layer(redis.url, capacity=10)
    for number in range(10):
        await sender.send("tasks", {"type": "m", "number": number})
    with pytest.raises(ChannelFull):
        await sender.send("tasks", {"type": "m", "number": 10})
    receiver = make_layer(redis.url, capacity=10)
    for number in range(10):
        assert (await within(receiver.receive("tasks")))["number"] == number
    await sender.send("tasks", {"type": "m", "number": 11})
    late = make_layer(redis.url, capacity=10)  # sees what was sent and received before it came
    assert (await within(late.receive("tasks")))["number"] == 11


async def test_receivers_that_are_cancelled_lose_nothing(redis, make_layer) -> None:
    layers = [make_layer(redis.url) for _ in range(2)]
    got: list[Any] = []

    async def impatient(layer: ChannelLayer, delay: float) -> None:
        with suppress(asyncio.TimeoutError):
            got.append((await asyncio.wait_for(layer.receive("tasks"), delay))["number"])

    for number in range(100):
        await layers[0].send("tasks", {"type": "m", "number": number})
        await asyncio.gather(*(impatient(layer, number % 10 / 1000) for layer in layers))
    async with workers(layers, rest := []):
        await until(lambda: len(got) + len(rest) >= 100)
    assert sorted([*got, *(number for _, number in rest)]) == list(range(100))


async def test_two_groups_of_receivers_in_one_process(redis, make_layer) -> None:
    layer = make_layer(redis.url)
    got: list[tuple[int, Any]] = []
    async with workers([layer] * 5, got):
        for number in range(100):
            await layer.send("tasks", {"type": "m", "number": number})
        await until(lambda: len(got) >= 100)
    assert sorted(number for _, number in got) == list(range(100))


async def test_a_group_forwards_once_whoever_has_added_the_channel(redis, make_layer) -> None:
    layers = [make_layer(redis.url) for _ in range(3)]
    for layer in layers:
        await layer.group_add("room", "tasks")
    got: list[tuple[int, Any]] = []
    async with workers(layers, got):
        for number in range(50):
            await layers[0].group_send("room", {"type": "m", "number": number})
        await until(lambda: len(got) >= 50)
        await layers[1].group_discard("room", "tasks")
        await layers[0].group_send("room", {"type": "m", "number": 50})
        await layers[0].send("tasks", {"type": "m", "number": 51})
        await until(lambda: 51 in [number for _, number in got])
    assert Counter(number for _, number in got) == Counter([*range(50), 51])


async def test_redis_is_away_for_a_moment(redis, make_layer) -> None:
    """It stands still, and goes on: what was sent meanwhile is there, once."""
    layers = [make_layer(redis.url) for _ in range(2)]
    got: list[tuple[int, Any]] = []
    async with workers(layers, got):
        await layers[0].send("tasks", {"type": "m", "number": 0})
        await until(lambda: len(got) == 1)
        redis.pause()
        sending = [asyncio.ensure_future(layers[0].send("tasks", {"type": "m", "number": n})) for n in range(1, 50)]
        await asyncio.sleep(0.3)
        redis.resume()
        await within(asyncio.gather(*sending))
        await until(lambda: len(got) >= 50)
    assert sorted(number for _, number in got) == list(range(50))


async def test_redis_is_lost(redis, make_layer, caplog) -> None:
    """Who sends while it is away is told so; when it is back, empty, messages that waited are gone, which is logged."""
    sender, receiver = make_layer(redis.url), make_layer(redis.url)
    await sender.send("tasks", {"type": "m", "number": 0})
    await redis.kill()
    with pytest.raises(TopicsError):
        await within(sender.send("tasks", {"type": "m", "number": 1}), 20)
    with pytest.raises(TopicsError, match="reached only this process"):
        await within(sender.group_send("room", {"type": "m"}), 20)
    await redis.start()
    got: list[tuple[int, Any]] = []
    async with workers([receiver], got):

        async def send() -> None:
            while True:
                with suppress(TopicsError):
                    return await sender.send("tasks", {"type": "m", "number": 2})
                await asyncio.sleep(0.1)

        await within(send(), 20)
        await until(lambda: got == [(0, 2)], 20)
    assert [each for each in caplog.records if "are missing" in each.message]


async def test_what_another_program_publishes_there(redis, make_layer, caplog) -> None:
    layer = make_layer(redis.url)
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    async with connect(redis.url) as connection:
        for data in (b"\xc1", b"\x01", b""):
            await connection.publish("channels.group:room", data=data)
            await connection.publish("channels.process:" + layer._routers[layer._own].client, data=data)
            await connection.publish("channels.queue:tasks", data=data)
        await connection.publish("channels.process:" + layer._routers[layer._own].client, json={"number": 1})
        await connection.publish("channels.queue:tasks", text="no claim")
    await layer.group_send("room", {"type": "m"})
    assert await within(layer.receive(channel)) == {"type": "m"}
    await layer.send("tasks", {"type": "m"})
    assert await within(layer.receive("tasks")) == {"type": "m"}
    assert len([each for each in caplog.records if "is no message" in each.message]) >= 9
    assert not [each for each in caplog.records if each.exc_info]


async def test_a_queue_that_nobody_uses_is_forgotten(make_layer: Callable[..., ChannelLayer]) -> None:
    """Else names that are used once would grow memory without bound."""
    layer = make_layer(expiry=0.05)
    for number in range(20):
        await layer.send(f"tasks-{number}", {"type": "m"})
        await within(layer.receive(f"tasks-{number}"))
    router = layer._routers[layer._own]
    await until(lambda: not router._queues)
    assert not router.hub._topics
    await layer.send("tasks-1", {"type": "again"})
    assert await within(layer.receive("tasks-1")) == {"type": "again"}


async def test_a_receiver_that_hangs_takes_nothing_from_others(redis, make_layer) -> None:
    """A process that has received, and does something else, claims nothing more."""
    busy, idle = make_layer(redis.url), make_layer(redis.url)
    await busy.send("tasks", {"type": "m", "number": 0})
    await within(busy.receive("tasks"))
    for number in range(20):
        await busy.send("tasks", {"type": "m", "number": number})
    assert [(await within(idle.receive("tasks")))["number"] for _ in range(20)] == list(range(20))
