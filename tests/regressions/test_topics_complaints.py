"""What users of others have lost with publish and subscribe, and what they may not lose here; each line is a test.

Many of these lines are held by tests elsewhere, in tests/topics/ where nothing else is said:

    what was lost, and with what                              test
    --------------------------------------------------------  ---------------------------------------------------------
    a queue in Redis grew without a bound                     test_redis_scripts.py
      channels_redis#96                                         test_the_number_of_messages_is_limited,
                                                                test_redis_backplane.py test_everything_expires
    a client that left stayed in memory                       test_direct.py, test_event_source.py
      channels_redis#212                                        test_a_client_that_leaves_leaves_nothing_behind
    the listener ended with the last unsubscription           test_redis_backplane.py
      broadcaster#133, #121                                     test_unsubscribing_and_subscribing_in_one_iteration
    a connection on which nothing had come could not recover  test_store.py
      socket.io-redis-streams-adapter#48                        test_without_a_history_the_last_place_is_still_known,
                                                                test_redis_backplane.py test_everything_expires
    messages during an outage of Redis, without a word        test_redis_faults.py
      aspnetcore#38944                                          test_a_server_that_is_stopped_is_noticed,
                                                                test_a_log_that_does_not_reach_back
    offsets went back after a restart, and messages were      test_redis_faults.py
      taken for known ones                                      test_a_server_that_was_rolled_back,
      SignalR#3091, centrifugo#664                              test_redis_sentinel.py
                                                                test_a_failover_that_loses_the_last_messages
    messages between the replay and what is live              test_direct.py test_resuming_while_others_publish
      mercure#178, #1382
    an unknown id left the client without anything            test_event_source.py test_a_gap_is_an_event
      mercure#704
    messages to a slow client, without a word, in test_direct.py
      uWebSockets.js#499, #1079                       test_messages_of_a_slow_client_are_dropped_and_it_is_told
    subscriptions after a lost connection, or a failover      test_redis_faults.py
      redis-py#2089, #2921, #3225                               test_connections_that_are_killed_cost_nothing,
                                                                test_redis_sentinel.py test_a_failover_in_good_order
    tokens of an answer, when the page came back              test_event_source.py
      LibreChat#10926, assistant-ui#4840                        test_a_stream_of_tokens_is_read_whole_by_all
    half of the events, to another reader                     tests/examples/test_topics_tokens_page.py
      AutoGPT#11877                                             test_a_stream_is_read_whole_by_three_readers
    the events of another worker                              tests/examples/test_topics_tokens_page.py
      MCP python-sdk#880                                        test_a_page_reads_on_from_another_worker
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support.helpers import until, within
from support.redis_server import RedisServer, redis_needed, until_channels
from support.topic_rooms import OpenRoom
from support.topics_app import Visitor, push_to

from flowserve import topics

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process only")

TESTS = Path(__file__).parents[1]
MEMBERS = 400

either = pytest.mark.parametrize("store", ["supervisor", pytest.param("redis", marks=redis_needed)], indirect=True)


@pytest.mark.parametrize("name", sorted({*re.findall(r"\b(test_\w+)(?!\w*\.py)\b", __doc__ or "")}))
def test_the_tests_that_are_named_are_there(name: str) -> None:
    assert any(re.search(rf"def {name}\(", path.read_text("utf-8")) for path in TESTS.rglob("test_*.py"))


@pytest.fixture
async def serving(command: Any) -> AsyncIterator[Callable[..., Any]]:
    """`address = await serving("--workers", "2")`: that of a server with support.topics_app. It ends well."""
    started: list[Any] = []

    async def start(*options: str) -> Any:
        started.append(await command("support.topics_app:app", "--no-access-log", *options))
        return started[-1]

    yield start
    for each in started:
        if each.process.returncode is None:
            each.signal(signal.SIGTERM)
        status, _, log = await each.wait()
        assert status in (0, -signal.SIGKILL), log
        assert not re.search("ERROR|Traceback", log), log


@pytest.fixture
async def store(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, ...]]:
    """The options for what has the histories: the supervisor, or Redis."""
    if request.param == "supervisor":
        yield ()
        return
    redis = RedisServer()
    try:
        await redis.start()
        yield "--topics-url", redis.url
    finally:
        await redis.close()


@pytest.fixture
async def two_workers(store: tuple[str, ...], serving: Any) -> Any:
    """The address of a server with two workers."""
    return (await serving("--workers", "2", *store)).address


@pytest.fixture
async def enter() -> AsyncIterator[Callable[..., Any]]:
    """`visitor = await enter(address)`, as Visitor.enter(); they leave at the end."""
    visitors: list[Visitor] = []

    async def open_one(*arguments: Any, **options: Any) -> Visitor:
        visitors.append(await Visitor.enter(*arguments, **options))
        return visitors[-1]

    yield open_one
    for each in visitors:
        await each.client.aclose()


async def one_each(enter: Any, address: Any, workers: int) -> list[Visitor]:
    """Visitors of all workers."""
    found: dict[int, Visitor] = {}
    while len(found) < workers:
        visitor = await enter(address)
        found.setdefault(visitor.worker, visitor)
    return list(found.values())


# What was lost among many


@either
async def test_half_of_what_is_said_to_a_group_of_400(two_workers: Any, enter: Any) -> None:
    """channels_redis#62, channels#763"""
    members = await one_each(enter, two_workers, 2)  # so that both have started
    while len(members) < MEMBERS:
        members += await asyncio.gather(*(enter(two_workers) for _ in range(min(MEMBERS - len(members), 50))))
    expected = [str(number) for number in range(6)]
    for text in expected:
        await members[int(text)].client.send_text(text)
    heard = await asyncio.gather(*(member.heard(6) for member in members))
    assert sorted(heard[0]) == sorted(expected)
    assert all(each == heard[0] for each in heard)


@redis_needed
async def test_what_comes_after_100_messages_to_a_lone_member(open_room: OpenRoom, redis: RedisServer) -> None:
    """channels_redis#131, #109: the member is the one that publishes, too."""
    room = await open_room(topics_url=redis.url)
    guest = await room.guest("t")

    async def answer() -> None:
        assert (await guest.act.raw_receive())["text"] == "search"
        for number in range(500):
            await topics.publish("t", str(number))
        await topics.publish("t", "done")

    await guest.client.send_text("search")
    await room.run(answer())
    assert [await guest.client.message() for _ in range(501)] == [*(str(number) for number in range(500)), "done"]


async def test_three_quarters_of_broadcasts_with_four_workers(serving: Any, enter: Any) -> None:
    """fastapi#258, #4199, #2672: what one worker is told over HTTP reaches the clients of all."""
    address = (await serving("--workers", "4")).address
    visitors = await one_each(enter, address, 4)
    pushed: list[str] = []
    workers = set()
    while len(pushed) < 20 or len(workers) < 2:
        pushed.append(str(len(pushed)))
        workers.add((await push_to(address, pushed[-1]))["worker"])
    for visitor in visitors:
        assert await visitor.heard(len(pushed)) == pushed


# What it cost


@redis_needed
async def test_connections_to_redis_and_memory(open_room: OpenRoom, redis: RedisServer) -> None:
    """channels_redis#279, #100: a worker has one connection, whoever comes and goes."""
    room = await open_room(topics_url=redis.url)
    for _ in range(4):
        guests = [await room.guest("t", f"own:{number}") for number in range(50)]
        await room.publish("t", "x")
        for guest in guests:
            guest.client.reset()
        await room.left()
    await until_channels(redis, [])
    clients = (await redis.call("CLIENT", "LIST")).splitlines()
    assert len([client for client in clients if "name=flowserve" in client]) == 1
    (channel,) = room.hub._backplane._subscriptions._by_channel  # type: ignore[attr-defined]
    assert b"presence" in channel, "which every worker hears as long as it lives"


@redis_needed
async def test_the_time_for_a_message_to_a_large_group(open_room: OpenRoom, redis: RedisServer) -> None:
    """channels_redis#83: Redis has one call to do for a message, not one for each member."""
    room = await open_room(topics_url=redis.url)
    guests = [await room.guest("t") for _ in range(200)]
    await redis.call("CONFIG", "RESETSTAT")
    for number in range(10):
        await room.publish("t", str(number))
    calls = dict(re.findall(r"cmdstat_(\w+):calls=(\d+)", await redis.call("INFO", "commandstats")))
    assert (calls["evalsha"], calls["publish"]) == ("10", "10")
    for guest in guests:
        assert [await guest.client.message() for _ in range(10)] == [str(number) for number in range(10)]


# What was lost with Redis


@redis_needed
async def test_a_listener_after_redis_was_lost(redis: RedisServer) -> None:
    """broadcaster#144: it hung. It is told that messages are missing, as nothing was saved, and gets what comes."""
    heard: list[str] = []

    async def listen(connection: topics.Connection) -> None:
        since: str | None = topics.START
        while True:
            try:
                async for message in connection.listen("t", since=since):
                    since = message.position
                    heard.append(message.text)
                return
            except topics.MissedMessages as missed:
                since = missed.position or None
                heard.append("gap")

    async with topics.connect(redis.url) as here, topics.connect(redis.url) as there:
        listening = asyncio.ensure_future(listen(here))
        await there.publish("t", "before")
        await until(lambda: heard == ["before"])
        await redis.kill()
        await redis.start()
        while not await there.publish("t", "after"):  # it stayed in `there` while that had no connection
            pass
        await until(lambda: heard[-1] == "after")
    await within(listening)
    assert heard == ["before", "gap", "after"]


@redis_needed
async def test_recovery_when_a_server_dies(serving: Any, enter: Any, redis: RedisServer) -> None:
    """socket.io-redis-streams-adapter#27"""
    servers = [await serving("--topics-url", redis.url) for _ in range(2)]
    visitor = await enter(servers[0].address)
    first = await push_to(servers[1].address, "1")
    assert await visitor.heard(1) == ["1"]
    servers[0].signal(signal.SIGKILL)
    await visitor.client.rest()
    await push_to(servers[1].address, "2")
    again = await enter(servers[1].address, since=visitor.position)
    assert visitor.position == first["position"]
    assert again.opening["recovered"] is True
    assert [each["data"] for each in again.missed] == ["2"]


# What was lost, or came twice, when clients came back


@either
async def test_recovery_right_after_connecting(two_workers: Any, enter: Any) -> None:
    """socket.io-redis-streams-adapter#26: at once, and before any message; it is not that it mostly works."""
    await push_to(two_workers, "before")
    position = (await enter(two_workers)).position
    for _ in range(30):
        visitor = await enter(two_workers, since=position)
        assert (visitor.opening["recovered"], visitor.missed) == (True, [])
        assert visitor.position == position
        visitor.client.reset()
    visitor = await enter(two_workers, since=position)
    await push_to(two_workers, "after")
    assert await visitor.heard(1) == ["after"]


@either
async def test_what_was_recovered_comes_again(two_workers: Any, enter: Any) -> None:
    """socket.io-redis-streams-adapter#39, socket.io#5419: the messages that are recovered have positions, too."""
    position = (await enter(two_workers)).position
    expected = [str(number) for number in range(3)]
    for text in expected:
        await push_to(two_workers, text)
    again = await enter(two_workers, since=position)
    assert [each["data"] for each in again.missed] == expected
    for _ in range(3):
        again = await enter(two_workers, since=again.missed[-1]["position"] if again.missed else again.position)
        assert (again.opening["recovered"], again.missed) == (True, [])


# What was lost in the same moment


@either
async def test_a_message_right_before_the_subscription_ends(two_workers: Any, enter: Any) -> None:
    """uWebSockets#1673: a host says that all leave, and leaves."""
    for number in range(50):
        visitor = await enter(two_workers, f"r{number}")
        await visitor.client.send_text("leave")
        assert await visitor.heard(1) == ["bye"]
        assert await visitor.client.message() == "left"


async def test_pongs_and_the_close_of_a_slow_client(open_room: OpenRoom) -> None:
    """uWebSockets#1876: only messages are dropped."""
    room = await open_room(ws_slow_consumer_mark="64KiB")
    client, act = await room.open(receive_buffer=4096)
    await room.subscribe(act.scope, "t", envelope="json", policy="drop")
    receiving = asyncio.ensure_future(act.raw_receive())

    async def flood() -> None:
        for _ in range(1000):
            await topics.publish("t", "x" * 10_000)
            await asyncio.sleep(0)

    await room.run(flood())
    await client.send_frame(0x9, b"still there?")
    await client.send_close(1000, "goodbye")
    assert (await within(receiving))["type"] == "websocket.disconnect"
    opcodes = []
    while (got := await client.frame()).opcode != 0x8:
        opcodes.append(got.opcode)
        if got.opcode == 0xA:
            assert got.payload == b"still there?"
    assert opcodes.count(0xA) == 1
    assert got.payload == b"\x03\xe8goodbye"
