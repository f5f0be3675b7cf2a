"""`flowserve topics`: what it shows of real servers, Redis and NATS; and that it changes nothing there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.forks import COMMAND, Forks
from support.helpers import within
from support.nats_server import NATSServer, nats_needed
from support.redis_cluster import RedisCluster, cluster_needed, topics_of_all_nodes
from support.redis_server import RedisServer, redis_needed
from support.terminal import ENVIRONMENT, flowserve
from support.topic_rooms import OpenRoom

from flowserve import topics
from flowserve.commands.topics import Listing, Row, as_text
from flowserve.topics.hub.open import open_inspector
from flowserve.topics.nats import inspection as nats_inspection
from flowserve.topics.redis import inspection as redis_inspection
from flowserve.topics.redis.slots import PARTITIONS
from flowserve.topics.remote.inspection import TopicState
from flowserve.topics.settings import Settings

STRANGE = ["a}b%c", "[x]*?\\", "r\x1b[31m", "über:\u2028", "%7D", "%25"]


async def listing(url: str, *options: str) -> dict[str, Any]:
    status, out, err = await flowserve("topics", url, "--interval", "100ms", "--json", *options)
    assert (status, err) == (0, ""), err
    (line,) = out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


async def names(url: str, *options: str) -> list[str]:
    return [each["name"] for each in (await listing(url, *options, "--no-subscribers"))["topics"]]


@asynccontextmanager
async def publishing(url: str, topic: str) -> AsyncIterator[None]:
    """Somebody publishes all the time."""

    async def publish() -> None:
        async with topics.connect(url) as connection:
            while True:
                await connection.publish(topic, "hello")
                await asyncio.sleep(0.01)

    task = asyncio.ensure_future(publish())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def publish(url: str, *names: str, count: int = 1, **options: Any) -> None:
    async with topics.connect(url, **options) as connection:
        for name in names:
            for number in range(count):
                await connection.publish(name, f"message {number}")


# What it shows


@pytest.fixture(params=[pytest.param("redis", marks=redis_needed), pytest.param("nats", marks=nats_needed)])
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The URL of a Redis, or of a NATS."""
    server: Any = {"redis": RedisServer, "nats": NATSServer}[request.param]()
    try:
        await server.start()
        yield server.url
    finally:
        await server.close()


async def test_subscribers_rates_and_histories(open_room: OpenRoom, url: str) -> None:
    room = await open_room(topics_url=url)
    for names in (["busy"], ["busy", "quiet"], ["silent"]):
        await room.guest(*names)
    await publish(url, "quiet", count=3)
    async with publishing(url, "busy"):
        found = await within(_listing_with_subscribers(url))
    assert (found["found"], found["complete"], 0 < found["answers_in"] < 5) == (3, True, True)
    rows = {each.pop("name"): each for each in found["topics"]}
    busy, quiet, silent = (rows[name] for name in ("busy", "quiet", "silent"))
    assert next(iter(rows)) == "busy"
    assert (busy["subscribers"], quiet["subscribers"], silent["subscribers"]) == (2, 1, 1)
    assert 0 < busy["rate"] < 1000
    assert (quiet["rate"], quiet["published"], quiet["messages"]) == (0, 3, 3)
    assert quiet["bytes"] >= 3 * len("message 0")
    assert 0 <= quiet["newest"] <= quiet["oldest"] < 60
    assert (silent["published"], silent["messages"], silent["oldest"], silent["newest"]) == (0, 0, None, None)
    expected = None if url.startswith("nats") else 1
    assert {each["processes"] for each in rows.values()} == {expected}


async def _listing_with_subscribers(url: str, *options: str) -> dict[str, Any]:
    """Servers that are busy say later how many they have."""
    while True:
        found = await listing(url, *options)
        if all(each["subscribers"] for each in found["topics"]):
            return found


async def test_nothing_is_there(url: str) -> None:
    found = await listing(url)
    assert (found["found"], found["topics"]) == (0, [])
    status, out, err = await flowserve("topics", url, "--interval", "100ms")
    assert (status, err) == (0, "")
    assert re.fullmatch(r"\S+ answers in [\d.]+m?s: 0 topics\n", out)


async def test_names_of_all_sorts(url: str) -> None:
    await publish(url, *STRANGE)
    assert await names(url) == sorted(STRANGE)
    for name in STRANGE:
        assert await names(url, "--prefix", name[:2]) == sorted(each for each in STRANGE if each.startswith(name[:2]))
    status, out, err = await flowserve("topics", url, "--interval", "100ms")
    assert (status, err, out.isascii()) == (0, "", False)
    assert "\x1b" not in out
    assert "r\\x1b[31m" in out
    assert len(out.splitlines()) == 3 + len(STRANGE)


async def test_some_are_shown(url: str) -> None:
    for count, name in enumerate(["c", "a", "b"], 1):
        await publish(url, name, count=count)
    assert await names(url) == ["a", "b", "c"], "none has a rate"
    assert await names(url, "--sort", "messages") == await names(url, "--sort", "published") == ["b", "a", "c"]
    assert await names(url, "--sort", "bytes", "--limit", "2") == ["b", "a"]
    assert await names(url, "--sort", "name", "--limit", "1") == ["a"]
    _, out, _ = await flowserve("topics", url, "--interval", "100ms", "--limit", "2")
    assert ": 3 topics, 2 shown\n" in out


async def test_there_are_too_many(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (redis_inspection, nats_inspection):
        monkeypatch.setattr(each, "MOST_TOPICS", 3)
    await publish(url, *"abcd")
    inspector = open_inspector(url)
    await inspector.open()
    look = await inspector.look("")
    assert (len(look.topics), look.complete) == (3, False)
    await inspector.close()


@redis_needed
async def test_history_that_is_not_kept(redis: RedisServer) -> None:
    """What is published counts, and what is kept is as the publisher says."""
    await publish(redis.url, "none", count=3, history=0)
    await publish(redis.url, "some", count=7, history=2)
    await publish(redis.url, "old", count=2, history_age=0.05)
    rows = {each["name"]: each for each in (await listing(redis.url, "--interval", "200ms"))["topics"]}
    assert {name: (each["published"], each["messages"]) for name, each in rows.items()} == {
        "none": (3, 0),
        "some": (7, 2),
        "old": (2, 0),
    }
    assert (rows["old"]["bytes"], rows["old"]["oldest"]) == (0, None)


@nats_needed
async def test_a_place_that_is_kept_without_messages(nats: NATSServer) -> None:
    """A batch of NATS without messages is none."""
    await publish(nats.url, "t", count=2)
    inspector: Any = open_inspector(nats.url)
    await inspector.open()
    log = inspector._log
    await log.keep("t", (await log.last("t")).tail, Settings().retention)
    (state,) = (await inspector.look("")).topics
    (detail,) = await inspector.details([state])
    assert (state.messages, detail.oldest is not None, detail.newest is not None) == (2, True, True)
    await inspector.close()


def test_the_table() -> None:
    rows = [
        Row("a", 12_345, 2, 8.25, 10**7, 100, 25_600, 299.0, 0.02),
        Row("b" * 70, None, None, 0, 0, 0, 0, None, None),
    ]
    lines = as_text(Listing("redis://***@host", 0.0004, 100_000, False, rows)).splitlines()
    assert lines[:3] == [
        "redis://***@host answers in 0.4ms: 100,000 or more topics, 2 shown",
        "only 100,000 topics were looked at; --prefix says which",
        "",
    ]
    assert lines[3].split() == [
        *("topic", "subscribers", "processes", "msg/s", "published", "kept", "bytes", "oldest", "newest")
    ]
    assert " ".join(lines[4].split()) == "a 12k 2 8.2 10M 100 26kB 5m 20ms"
    assert " ".join(lines[5].split()) == "b" * 57 + "... - - 0 0 0 0B - -"
    assert len({len(line) for line in lines[3:]}) == 1


def test_rates() -> None:
    state = TopicState("t", "e", 30, 0, 0, 12.0)
    assert state.rate(TopicState("t", "e", 10, 0, 0, 10.0)) == 10
    assert state.rate(TopicState("t", "before", 1000, 0, 0, 10.0)) == 15, "a log that was lost begins anew"
    assert state.rate(TopicState("t", "e", 40, 0, 0, 10.0)) == 0, "a log that was rolled back"
    assert state.rate(None) == state.rate(state) == 0


# What it does there


@redis_needed
async def test_it_only_reads_in_redis(redis: RedisServer) -> None:
    await publish(redis.url, "a", "b")
    before = await redis.call("DBSIZE")
    await redis.call("CONFIG", "RESETSTAT")
    assert await names(redis.url) == ["a", "b"]
    used = set(re.findall(r"cmdstat_([^:]+):", str(await redis.call("INFO", "commandstats"))))
    assert used - {"info", "config|resetstat"} == {
        *("hello", "ping", "scan", "get", "llen", "script|load", "evalsha", "lrange", "time", "pubsub|numsub")
    }
    assert await redis.call("DBSIZE") == before


@nats_needed
async def test_it_makes_no_stream(nats: NATSServer) -> None:
    await listing(nats.url)
    assert (await nats.call("STREAM.NAMES"))["total"] == 0


@nats_needed
async def test_it_changes_nothing_of_the_stream(nats: NATSServer) -> None:
    await publish(nats.url, "a", history_age=70.0)
    before = (await nats.call("STREAM.INFO.flowserve"))["config"]
    assert (await listing(nats.url))["topics"][0]["subscribers"] == 0
    assert (await nats.call("STREAM.INFO.flowserve"))["config"] == before


@redis_needed
async def test_what_others_have_in_redis(redis: RedisServer) -> None:
    """Keys that look like those of topics are passed over."""
    await publish(redis.url, "mine")
    for key in ("flowserve:{other}:head", "flowserve:{more}:head", "other:{mine}:head"):
        await redis.call("SET", key, "1 2 3")
    await redis.call("RPUSH", "flowserve:{list}:head", "x")
    await redis.call("SET", "flowserve:{mine2}:log", "x")
    assert await names(redis.url) == ["mine"]


@redis_needed
async def test_what_a_user_of_redis_needs(redis: RedisServer) -> None:
    await publish(redis.url, "t")
    rules = ("on", ">secret", "~flowserve:*", "resetchannels")
    await redis.call("ACL", "SETUSER", "me", *rules, "+ping", "+get", "+llen")
    url = f"redis+unix://me:secret@{redis.socket}"
    status, out, err = await flowserve("topics", url, "--no-subscribers")
    assert (status, out, "secret" in err) == (1, "", False)
    needed = re.search(r"this needs ~flowserve:\* (.*)", err)
    assert needed is not None, err
    await redis.call("ACL", "SETUSER", "me", *needed[1].split())
    assert await names(url) == ["t"]
    assert "secret" not in json.dumps(await listing(url, "--no-subscribers"))


@redis_needed
@cluster_needed
async def test_a_cluster(open_room: OpenRoom) -> None:
    """All of its masters are looked into, also when slots have moved meanwhile, and nothing is changed."""
    cluster = RedisCluster()
    try:
        await cluster.start()
        every = topics_of_all_nodes()
        room = await open_room(topics_url=cluster.url)
        await room.guest(every[0], every[-1])
        async with topics.connect(cluster.url) as connection:
            await asyncio.gather(*(connection.publish(name, "hello") for name in (*every, *STRANGE)))
            inspector = open_inspector(cluster.url)
            await inspector.open()
            await cluster.move(await cluster.slot_of(every[0]), cluster.masters[1])
            look = await inspector.look("")
            assert (sorted(each.name for each in look.topics), look.complete) == (sorted([*every, *STRANGE]), True)
            assert [each.processes for each in await inspector.details(look.topics)].count(1) == 2
            await inspector.close()
        await cluster.masters[0].call("SET", "flowserve:{7}{t}:head", "1 2 3 4 5 6 7")  # another's
        (found,) = (await listing(cluster.url, "--prefix", STRANGE[1]))["topics"]
        assert (found["name"], found["messages"], found["published"]) == (STRANGE[1], 1, 1)
        await within(_listing_with_subscribers(cluster.url, "--prefix", every[0], "--limit", "1"))
        await _looks_with_what_it_says_it_needs(cluster)
    finally:
        await cluster.close()


async def _looks_with_what_it_says_it_needs(cluster: RedisCluster) -> None:
    url = cluster.url.replace("//", "//me:secret@")
    rules = ["on", ">secret", "~flowserve:*", "resetchannels", "+ping", "+cluster|slots", "+cluster|info"]
    for _ in range(2):
        for node in cluster.masters:
            await node.call("ACL", "SETUSER", "me", *rules)
        status, out, err = await flowserve("topics", url, "--no-subscribers", "--interval", "100ms")
        needed = re.search(r"this needs ~flowserve:\* (.*)", err)
        rules = [] if needed is None else needed[1].split()
    assert (status, err) == (0, "")
    assert f"{PARTITIONS + len(STRANGE)} topics" in out


# Again and again


@redis_needed
async def test_it_goes_on_when_redis_comes_back(redis: RedisServer) -> None:
    await publish(redis.url, "t")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flowserve", "topics", redis.url, "--watch", "--json", "--interval", "100ms"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        for _ in range(2):
            assert json.loads(await within(process.stdout.readline()))["found"] == 1
        await redis.kill()
        error = b""
        while not (error.startswith(b"flowserve: ") and error.endswith(b"; trying again\n")):
            error = await within(process.stderr.readline())
            assert error
        await redis.start()

        async def empty() -> None:
            while json.loads(await process.stdout.readline())["found"]:  # type: ignore[union-attr]
                pass

        await within(empty())
        process.send_signal(signal.SIGINT)
        await within(process.communicate())
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


# What is wrong

WRONG: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no URL": ((), 2, "Missing argument 'URL'"),
    "this process alone": (("memory:",), 2, "memory: can't be looked into; write redis:"),
    "no backplane": (("kafka://u:secret@host",), 2, "kafka: can't be looked into"),
    "no cluster there": (("redis+cluster://:secret@127.0.0.1:1",), 1, "no node of the Redis cluster says"),
    "a wrong URL": (("redis://:secret@host/x/y",), 2, "is wrong"),
    "nobody there": (("redis://:secret@127.0.0.1:1",), 1, "Redis at 127.0.0.1:1 can't be reached"),
    "no NATS there": (("nats://u:secret@127.0.0.1:1",), 1, "NATS at 127.0.0.1:1 can't be reached"),
    "nobody there, again and again": (("redis://127.0.0.1:1", "--watch"), 1, "can't be reached"),
    "a limit": (("redis://host", "--limit", "0"), 2, "--limit"),
    "an order": (("redis://host", "--sort", "age"), 2, "--sort"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_usage(kind: str, forks: Forks, tmp_path: Path) -> None:
    """One line that says what is wrong, without a password that stands in the URL."""
    arguments, status, says = WRONG[kind]
    run = forks.run(COMMAND, "topics", *arguments, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (status, "")
    assert run.stderr.startswith("flowserve: error: ")
    assert run.stderr.count("\n") == 1
    assert says in run.stderr
    assert "secret" not in run.stderr


def test_the_environment_has_the_url(forks: Forks, tmp_path: Path) -> None:
    environment = os.environ | {"FLOWSERVE_TOPICS_URL": "memory:"}
    run = forks.run(COMMAND, "topics", cwd=tmp_path, env=environment)
    assert (run.returncode, "memory: can't be looked into" in run.stderr) == (2, True)
