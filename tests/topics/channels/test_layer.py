"""The specification of Channels' layers, in one process: channels, groups, capacities, expiry, flush."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import subprocess
import sys
import threading

import pytest
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull, MessageTooLarge
from support.helpers import until, within

from flowserve.errors import ConfigError
from flowserve.topics import ChannelLayer


async def received(layer: ChannelLayer, channel: str, count: int) -> list[str]:
    """The types of the next messages."""
    return [(await within(layer.receive(channel)))["type"] for _ in range(count)]


async def nothing(layer: ChannelLayer, channel: str, seconds: float = 0.1) -> bool:
    """Whether nothing comes on a channel."""
    try:
        await asyncio.wait_for(layer.receive(channel), seconds)
    except asyncio.TimeoutError:
        return True
    return False


MESSAGE = {
    "type": "all",
    "text": "\N{WAVING HAND SIGN}",
    "bytes": b"\x00\xff",
    "numbers": [1, -(2**63), 2**63 - 1, 0.5],
    "nested": {"a": {"b": [None, True, False]}},
}


@pytest.mark.parametrize("kind", ["normal", "specific", "group"])
async def test_a_message_arrives_as_it_was(layer, kind: str) -> None:
    channel = "tasks" if kind == "normal" else await layer.new_channel()
    if kind == "group":
        await layer.group_add("room", channel)
        await layer.group_send("room", MESSAGE)
    else:
        await layer.send(channel, MESSAGE)
    assert await within(layer.receive(channel)) == MESSAGE


async def test_receivers_do_not_share_a_message(layer) -> None:
    """What one consumer does to its message, another does not see."""
    channels = [await layer.new_channel() for _ in range(2)]
    for channel in channels:
        await layer.group_add("room", channel)
    await layer.group_send("room", {"type": "m", "list": []})
    (await within(layer.receive(channels[0])))["list"].append(1)
    assert (await within(layer.receive(channels[1])))["list"] == []


@pytest.mark.parametrize("message", ["text", ["list"], None])
async def test_what_is_no_message(layer, message: object) -> None:
    with pytest.raises(TypeError, match="a message is a dict"):
        await layer.send("tasks", message)
    with pytest.raises(TypeError, match="a message is a dict"):
        await layer.group_send("room", message)


async def test_what_a_message_can_not_hold_is_told_to_the_sender(layer) -> None:
    with pytest.raises(TypeError):
        await layer.send("tasks", {"type": object()})
    with pytest.raises(OverflowError):
        await layer.send("tasks", {"type": 2**64})
    with pytest.raises(ValueError):
        await layer.send("tasks", {"type": "\ud800"})
    with pytest.raises(MessageTooLarge, match="bytes"):
        await layer.group_send("room", {"type": "x" * (1 << 20)})
    with pytest.raises(MessageTooLarge, match="bytes"):
        await layer.send("tasks", {"type": "x" * (1 << 20)})
    await layer.send("tasks", {"type": "x" * (1_000_000)})
    assert len((await within(layer.receive("tasks")))["type"]) == 1_000_000


@pytest.mark.parametrize("name", ["=+135!", "¯\\_(ツ)_/¯", "n" * 100, "", "two!words!", 17])
async def test_names_that_are_none(layer, name: str) -> None:
    for call in (layer.send(name, {"type": "m"}), layer.receive(name), layer.group_add("room", name)):
        with pytest.raises(TypeError):
            await call
    with pytest.raises(TypeError):
        await layer.group_discard("room", name)
    if "!" not in str(name) or name == "=+135!":
        with pytest.raises(TypeError):
            await layer.group_send(name, {"type": "m"})


async def test_a_channel_of_another_process(layer) -> None:
    with pytest.raises(ValueError, match="is of another process"):
        await layer.receive("specific.0123456789abcdef!abc")


async def test_messages_keep_their_order(layer) -> None:
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    for number in range(200):
        await layer.group_send("room", {"type": str(number)})
        await layer.send("tasks", {"type": str(number)})
    assert await received(layer, channel, 200) == [str(number) for number in range(200)]
    assert await received(layer, "tasks", 200) == [str(number) for number in range(200)]


async def test_a_group(layer) -> None:
    one, other, left = [await layer.new_channel(prefix=f"p-{number}") for number in range(3)]
    for channel in (one, one, other, left):  # twice is once
        await layer.group_add("room", channel)
    await layer.group_discard("room", left)
    await layer.group_discard("room", left)  # does nothing
    await layer.group_discard("another", one)
    await layer.group_send("room", {"type": "m"})
    await layer.group_send("nobody", {"type": "m"})
    assert await received(layer, one, 1) == await received(layer, other, 1) == ["m"]
    assert await nothing(layer, one)
    assert await nothing(layer, left)


async def test_a_channel_is_in_more_groups_than_a_connection_may_have_topics(layer) -> None:
    channel = await layer.new_channel()
    for number in range(150):
        await layer.group_add(f"room-{number}", channel)
    await layer.group_send("room-149", {"type": "m"})
    assert await received(layer, channel, 1) == ["m"]


async def test_normal_channels_in_a_group(layer) -> None:
    for name in ("one", "other", "left"):
        await layer.group_add("room", name)
    await layer.group_discard("room", "left")
    await layer.group_send("room", {"type": "m"})
    assert await received(layer, "one", 1) == await received(layer, "other", 1) == ["m"]
    assert await nothing(layer, "one")
    assert await nothing(layer, "left")
    await layer.group_add("room", "left")  # again, after it has left
    await layer.group_send("room", {"type": "n"})
    assert await received(layer, "left", 1) == ["n"]


# Capacity


async def test_capacity(make_layer) -> None:
    layer = make_layer(capacity=3, channel_capacity={"t*y": 1})
    for channel, capacity in (("tasks", 3), ("tiny", 1), (await layer.new_channel(), 3)):
        for _ in range(capacity):
            await layer.send(channel, {"type": "m"})
        with pytest.raises(ChannelFull):
            await layer.send(channel, {"type": "m"})
        assert await received(layer, channel, 1) == ["m"]
        await layer.send(channel, {"type": "m"})


async def test_a_group_with_a_full_channel(make_layer, caplog) -> None:
    """The others get all; what is dropped is logged, once."""
    layer = make_layer(capacity=3)
    full, other = await layer.new_channel(), await layer.new_channel()
    for channel in (full, other):
        await layer.group_add("room", channel)
    await layer.send(full, {"type": "first"})
    for number in range(5):
        await layer.group_send("room", {"type": str(number)})
        assert await received(layer, other, 1) == [str(number)]
    assert await received(layer, full, 3) == ["first", "0", "1"]
    assert await nothing(layer, full)
    lines = [each.message for each in caplog.records if "is dropped" in each.message]
    assert len(lines) == 1
    assert "3 messages wait, which is its capacity" in lines[0]


async def test_thousands_wait_by_default(layer) -> None:
    """For a channel, more than its memory holds are read from the history later, or kept as references."""
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    for number in range(6000):
        await layer.group_send("room", {"type": str(number)})
    assert await received(layer, channel, 6000) == [str(number) for number in range(6000)]


async def test_memory_is_bounded_and_a_loss_is_told(make_layer, caplog) -> None:
    layer = make_layer(gap_type="room.gap")
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    for number in range(40):  # of 100 kB
        await layer.group_send("room", {"type": str(number), "text": "x" * 100_000})
    got = [await within(layer.receive(channel)) for _ in range(14)]
    at = [each["type"] for each in got].index("room.gap")
    assert got[at] == {"type": "room.gap", "group": "room"}
    assert [each["type"] for each in got[:at]] == [str(number) for number in range(at)]
    assert got[-1]["type"] == "39"
    assert [each for each in caplog.records if "are missing" in each.message]


async def test_a_loss_without_a_message_for_it(layer, caplog) -> None:
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    for number in range(40):
        await layer.group_send("room", {"type": str(number), "text": "x" * 100_000})
    got = []
    while not got or got[-1] != "39":
        got += await received(layer, channel, 1)
    assert got == sorted(got, key=int)
    assert len(got) < 40
    assert len([each for each in caplog.records if "are missing" in each.message]) == 1


async def test_sending_to_a_full_channel_without_a_capacity(layer) -> None:
    for channel in (await layer.new_channel(), "tasks"):
        big = {"type": "m", "bytes": bytes(100_000)}
        with pytest.raises(ChannelFull):
            await asyncio.gather(*(layer.send(channel, big) for _ in range(200)))


@pytest.mark.parametrize("options", [{"capacity": 0}, {"expiry": 0}, {"expiry": -1}])
def test_limits_that_let_nothing_pass(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        ChannelLayer(**options)


# Expiry


async def test_expiry(make_layer, caplog) -> None:
    layer = make_layer(expiry=0.2)
    for channel in (await layer.new_channel(), "tasks"):
        await layer.send(channel, {"type": "old"})
        await asyncio.sleep(0.3)
        await layer.send(channel, {"type": "new"})
        assert await received(layer, channel, 1) == ["new"]
        assert await nothing(layer, channel)
    assert [each for each in caplog.records if "not received for 0.2 s" in each.message]


async def test_attributes() -> None:
    layer = ChannelLayer()
    assert (layer.extensions, layer.expiry, layer.capacity, layer.group_expiry) == (
        ["groups", "flush"],
        60,
        None,
        86400,
    )
    layer = ChannelLayer(expiry=5, capacity=7, group_expiry=9, channel_capacity={"http.*": 3})
    assert (layer.expiry, layer.capacity, layer.group_expiry) == (5, 7, 9)
    assert (layer.get_capacity("http.request"), layer.get_capacity("other")) == (3, 7)


# The life of a channel


async def test_a_channel_ends_with_its_consumer(layer) -> None:
    """Nothing tells a layer that a consumer has ended, but that it keeps the name no more."""
    channel, other = await layer.new_channel(), await layer.new_channel()
    for each in (channel, other):
        await layer.group_add("room", each)
    plain = str(channel)
    router = layer._routers[layer._own]
    assert plain in router._channels
    del channel, each
    gc.collect()
    await until(lambda: plain not in router._channels)
    await layer.group_send("room", {"type": "m"})
    assert await received(layer, other, 1) == ["m"]
    await layer.send(plain, {"type": "m"})  # nobody is there: it goes nowhere
    await layer.group_add("room", plain)
    await layer.group_discard("room", plain)
    assert plain not in router._channels


async def test_a_channel_ends_with_the_task_of_its_consumer(make_layer) -> None:
    """That has failed: its name is kept by the exception, which somebody keeps. One that is received from lives on."""
    layer = make_layer(expiry=0.1)

    async def consumer() -> str:
        channel = await layer.new_channel()
        await layer.group_add("room", channel)
        return channel

    failed, used, idle = [await asyncio.create_task(consumer()) for _ in range(3)]
    router = layer._routers[layer._own]
    waiting = asyncio.ensure_future(layer.receive(idle))
    deadline = asyncio.get_running_loop().time() + 0.5
    while failed in router._channels or asyncio.get_running_loop().time() < deadline:
        receiving = asyncio.ensure_future(received(layer, used, 1))
        await asyncio.sleep(0)  # so that it waits before the message comes, which would expire on a busy machine
        await layer.send(used, {"type": "m"})
        assert await receiving == ["m"]
    assert {used, idle} <= router._channels.keys()
    receiving = asyncio.ensure_future(received(layer, used, 1))
    await asyncio.sleep(0)
    await layer.group_send("room", {"type": "n"})
    assert (await within(waiting))["type"] == "n"
    assert await receiving == ["n"]


async def test_a_name_can_be_stored(layer) -> None:
    channel = await layer.new_channel()
    for stored in (pickle.loads(pickle.dumps(channel)), copy.deepcopy(channel), str(channel), f"{channel}"):
        assert (stored, type(stored)) == (channel, str)
        await layer.send(stored, {"type": "m"})
        assert await received(layer, channel, 1) == ["m"]


async def test_a_channel_that_ends_while_it_is_received(layer) -> None:
    """By somebody who has only a copy of its name."""
    channel = await layer.new_channel()
    receiving = asyncio.ensure_future(layer.receive(str(channel)))
    await asyncio.sleep(0.05)
    del channel
    gc.collect()
    with pytest.raises(RuntimeError, match="has ended"):
        await within(receiving)


async def test_cancelling_receive_loses_nothing(layer) -> None:
    """With delays from nothing to longer than a message takes, so that some of it comes in the same moment."""
    channel = await layer.new_channel()
    got: list[str] = []
    for number in range(200):
        receiving = asyncio.ensure_future(layer.receive(channel))
        await layer.send(channel, {"type": str(number)})
        await asyncio.sleep(number % 20 / 10_000)
        receiving.cancel()
        try:
            got.append((await receiving)["type"])
        except asyncio.CancelledError:
            pass
    await layer.send(channel, {"type": "end"})
    while got[-1:] != ["end"]:
        got += await received(layer, channel, 1)
    assert sorted(got[:-1], key=int) == [str(number) for number in range(200)]


async def test_flush(layer) -> None:
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    await layer.group_add("room", "tasks")
    for name in (channel, "tasks"):
        await layer.send(name, {"type": "m"})
    await layer.flush()
    await layer.group_send("room", {"type": "m"})
    assert await nothing(layer, channel)
    assert await nothing(layer, "tasks")
    for name in (channel, "tasks"):
        await layer.send(name, {"type": "after"})
        assert await received(layer, name, 1) == ["after"]


# Event loops


def test_in_event_loops_that_end() -> None:
    """As async_to_sync() makes them: a channel outlives the loop that has made it."""
    layer = ChannelLayer(capacity=3)
    one, other = async_to_sync(layer.new_channel)(), async_to_sync(layer.new_channel)()
    for channel in (one, other):
        async_to_sync(layer.group_add)("room", channel)
    async_to_sync(layer.group_send)("room", {"type": "m"})
    assert async_to_sync(layer.receive)(other) == async_to_sync(layer.receive)(one) == {"type": "m"}
    async_to_sync(layer.close)()
    async_to_sync(layer.close)()


def test_in_threads() -> None:
    """Each with an event loop of its own: all get what one sends."""
    layer = ChannelLayer()
    barrier = threading.Barrier(9)
    got: list[list[str]] = []

    async def listen() -> None:
        channel = await layer.new_channel()
        await layer.group_add("room", channel)
        barrier.wait(10)
        got.append(await received(layer, channel, 100))

    async def speak() -> None:
        for number in range(100):
            await layer.group_send("room", {"type": str(number)})

    threads = [threading.Thread(target=asyncio.run, args=(listen(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    barrier.wait(10)
    asyncio.run(speak())
    for thread in threads:
        thread.join(20)
    assert got == [[str(number) for number in range(100)]] * 8
    async_to_sync(layer.close)()


def test_it_says_that_nobody_else_is_reached() -> None:
    script = (
        "from asgiref.sync import async_to_sync\n"
        "from flowserve.topics import ChannelLayer\n"
        "async_to_sync(ChannelLayer().group_send)('room', {'type': 'm'})\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "messages stay in it" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_channels_an_error_says_what_to_install(tmp_path) -> None:
    (tmp_path / "channels.py").write_text("raise ModuleNotFoundError('No module named channels', name='channels')")
    script = "from flowserve import topics; topics.publish; from flowserve.topics import ChannelLayer"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)}
    )
    assert "needs channels: pip install 'flowserve[channels]'" in ended.stderr
    assert ended.returncode == 1


@pytest.mark.parametrize("url", ["memory:", "http://host"])
def test_urls_that_reach_nobody(url: str) -> None:
    with pytest.raises(ConfigError, match="reaches no other process"):
        ChannelLayer(url)
