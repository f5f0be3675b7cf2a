"""Streams: topics with a beginning and an end, which says whether they are complete."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
from typing import Any

import anyio
import pytest
from support.helpers import within
from support.redis_server import RedisServer, redis_needed
from support.topic_rooms import OpenRoom

from flowserve import topics
from flowserve.topics.envelopes import JSON
from flowserve.topics.message import Kind, Message

SCOPE = {"type": "http", "headers": []}


async def events(name: str) -> bytes:
    """Return a whole stream as server-sent events, without their ids."""
    got = b"".join([each async for each in topics.event_source(SCOPE, name, since=topics.START)])
    return b"".join(line for line in got.splitlines(keepends=True) if not line.startswith((b"id:", b"retry:")))


async def test_a_stream_is_read_as_often_as_wanted() -> None:
    async with topics.stream("t") as stream:
        await stream.write("a")
        await stream.write("b\n")
    for _ in range(2):
        assert [each.text async for each in topics.listen("t", since=topics.START)] == ["a", "b\n"]
        assert await events("t") == b"\ndata: a\n\ndata: b\ndata: \n\nevent: end\ndata: \n\n"


async def fail(name: str) -> None:
    async with topics.stream(name) as stream:
        await stream.write("a")
        raise ZeroDivisionError


async def test_a_stream_that_fails_is_not_taken_for_a_complete_one() -> None:
    with pytest.raises(ZeroDivisionError):
        await fail("t")
    assert await events("t") == b"\ndata: a\n\nevent: end\ndata: failed\n\n"


async def test_the_end_of_several_streams_says_what_failed() -> None:
    await topics.stream("a").end()
    await topics.stream("b").end("the model is gone")
    got = b"".join(
        [each async for each in topics.event_source(SCOPE, "a", "b", since=dict.fromkeys("ab", topics.START))]
    )
    assert got.endswith(b"event: end\ndata: the model is gone\n\n")


def test_the_end_in_json() -> None:
    for failure, said in (("", {}), ("gone", {"failure": "gone"})):
        message = Message("t", failure.encode(), Kind.END, None, "")
        assert json.loads(JSON(message)) == {"topic": "t", "position": None, "end": True, **said}


async def test_a_topic_that_is_named_twice_is_one() -> None:
    """And its end is the end."""
    async with topics.stream("t") as stream:
        await stream.write("a")
    assert [each.text async for each in topics.listen("t", "t", since=topics.START)] == ["a"]
    got = [each async for each in topics.event_source(SCOPE, "t", "t", since=topics.START)]
    assert got[-1] == b"event: end\ndata: \n\n"


def test_no_topic() -> None:
    for call in (topics.listen, lambda: topics.event_source(SCOPE)):
        with pytest.raises(TypeError, match="name a topic"):
            call()


async def cancelled_again_and_again(name: str) -> None:
    """Write a stream that AnyIO cancels in each iteration of the event loop until its block is left."""
    with anyio.CancelScope() as scope:
        async with topics.stream(name) as stream:
            await stream.write("a")
            scope.cancel()
            await asyncio.sleep(0)


ENDED = b"\ndata: a\n\nevent: end\ndata: failed\n\n"


async def test_the_end_of_a_writer_that_is_cancelled_again_and_again() -> None:
    await cancelled_again_and_again("t")
    assert await within(events("t")) == ENDED


@redis_needed
async def test_the_end_of_a_cancelled_writer_reaches_redis(open_room: OpenRoom, redis: RedisServer) -> None:
    room = await open_room(topics_url=redis.url)
    await room.run(cancelled_again_and_again("t"))
    assert await room.run(events("t")) == ENDED


@redis_needed
async def test_closing_waits_for_an_end_that_is_on_its_way(open_room: OpenRoom, redis: RedisServer) -> None:
    room, other = await open_room(topics_url=redis.url), await open_room(topics_url=redis.url)
    await room.run(cancelled_again_and_again("t"))
    await room.server.server._running.topics.close()
    assert await other.run(events("t")) == ENDED


@redis_needed
async def test_the_end_of_a_writer_in_a_thread_whose_loop_is_cancelled(open_room: OpenRoom, redis: RedisServer) -> None:
    room = await open_room(topics_url=redis.url)
    context = room.server.server._running.context.variables.copy()
    thread = threading.Thread(target=context.run, args=(asyncio.run, cancelled_again_and_again("t")))
    await asyncio.to_thread(lambda: (thread.start(), thread.join()))
    assert await room.run(events("t")) == ENDED


async def test_an_end_that_reaches_nobody_else_is_logged(open_room: OpenRoom, tmp_path: Any, caplog: Any) -> None:
    room = await open_room(topics_url=f"redis+unix://{tmp_path}/nobody.sock")
    with caplog.at_level(logging.WARNING, "flowserve"):
        with pytest.raises(ZeroDivisionError):
            await room.run(fail("answer:1"))
        assert "the end of the stream 'answer:1' was published in this process only" in caplog.text


async def test_an_end_that_fails_hides_no_exception_of_the_writer(open_room: OpenRoom, caplog: Any) -> None:
    async def fail_at_once() -> None:
        async with topics.stream("x" * 201):
            raise ZeroDivisionError

    room = await open_room()
    with pytest.raises(ZeroDivisionError):
        await room.run(fail_at_once())
    assert "may have no end: a topic's name has 1 to 200 characters, not 201" in caplog.text
    with pytest.raises(topics.TopicsError):
        await room.run(topics.stream("x" * 201).end())


async def test_a_writer_that_goes_on_behind_the_end_is_told() -> None:
    """Readers end there, and would never see it."""
    async with topics.stream("s") as writer:
        await writer.write("a")
        await writer.end()
        for call in (lambda: writer.write("b"), writer.end):
            with pytest.raises(RuntimeError, match="the stream 's' has ended"):
                await call()
    assert [each.text async for each in topics.listen("s", since=topics.START)] == ["a"]


@pytest.mark.parametrize("limits", [{"ttl": math.inf}, {"ttl": math.nan}, {"ttl": -1}, {"ttl": 1e10}, {"max_size": -1}])
def test_limits_that_are_none(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="that is kept is from 0 to"):
        topics.stream("s", **limits)


@pytest.mark.parametrize("limits", [{"ttl": None}, {"ttl": "600"}, {"ttl": True}, {"max_size": 1.5}])
def test_limits_of_the_wrong_type(limits: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="that is kept can't be"):
        topics.stream("s", **limits)


@pytest.mark.parametrize("text", [b"a", 1, None])
async def test_a_part_that_is_no_text(text: Any) -> None:
    with pytest.raises(TypeError, match="a stream is written as str, not"):
        await topics.stream("s").write(text)
