"""Topics between workers: messages cross, the history outlives a worker, a worker that hangs delays nobody for long."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import pytest
from support.helpers import Client, until, within
from support.redis_server import redis_needed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process only")

APP = '''\
import asyncio, os
from urllib.parse import parse_qs

from flowserve import topics

tasks = []

async def answer(begun):
    """Writes a stream until it is cancelled, which it tells in topic t."""
    async with topics.stream("answer:1") as stream:
        await stream.write("token")
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await topics.publish("t", "cancelled")

async def app(scope, receive, send):
    """HTTP: /publish?text= publishes, /events is a stream, /ask begins another, which
    /answer reads and /end ends; anything else says the process. WebSocket: the process, then topic t
    since ?since=, in the envelope "json"."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        subscription = await topics.subscribe(scope, "t", since=query.get("since"), envelope="json")
        await send({"type": "websocket.send", "text": str(os.getpid())})
        while (event := await receive())["type"] == "websocket.receive":
            await topics.publish("t", event["text"], exclude=scope if event["text"] == "not me" else None)
        return
    if scope["path"] == "/events":
        await topics.event_source(scope, "t")(scope, receive, send)
        return
    if scope["path"] == "/answer":
        await topics.event_source(scope, "answer:1", since=topics.START)(scope, receive, send)
        return
    if scope["path"] == "/ask":
        asking = asyncio.Event()
        tasks.append(asyncio.create_task(answer(asking)))
        await asking.wait()
    body = f"{os.getpid()} now"
    if scope["path"] == "/end":
        await topics.stream("answer:1").end("the writer died")
    if scope["path"] == "/publish":
        body = await topics.publish("t", query["text"], key=query.get("key"))
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
'''
NUMBER = 150
FILES = {"chat.py": APP}


async def publish(program: Any, text: str, key: str = "") -> str:
    response = await program.get(f"/publish?text={text}" + (f"&key={key}" if key else ""))
    assert response.status == 200
    return str(response.body.decode())


async def join(program: Any, since: str | None = None) -> tuple[Client, int]:
    """A WebSocket that is subscribed, and the process that holds it; with `since` the latter is 0."""
    client = await program.connect()
    await client.upgrade("/" if since is None else f"/?since={since}")
    return client, int(await client.message()) if since is None else 0


async def one_each(program: Any) -> dict[int, Client]:
    """Subscribed WebSockets of two workers, by process."""
    found: dict[int, Client] = {}
    while len(found) < 2:
        client, pid = await join(program)
        found.setdefault(pid, client)
    return found


async def data_of(client: Client) -> str:
    """The next message of the topic."""
    return str(json.loads(await client.message())["data"])


async def read_all(client: Client) -> list[int]:
    return [int(await data_of(client)) for _ in range(NUMBER)]


async def talk(client: Client) -> None:
    """Publish NUMBER messages of 100 kB, and read them."""
    reading = asyncio.ensure_future(read_all(client))
    for number in range(NUMBER):
        await client.send_text(str(number).ljust(100_000))
    assert await within(reading, 40) == list(range(NUMBER))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_messages_cross_in_one_order(start, loop: str) -> None:
    """Promises 1 and 2: both workers' clients see all messages of publishers on both, in the same order."""
    program = await start("--workers", "2", "--loop", loop, app="chat:app", files=FILES)
    clients = list((await one_each(program)).values())
    for number in range(50):
        await asyncio.gather(*(client.send_text(f"{name}:{number}") for name, client in enumerate(clients)))
    seen = [[await data_of(client) for _ in range(100)] for client in clients]
    assert seen[0] == seen[1]
    for name in (0, 1):
        assert [text for text in seen[0] if text.startswith(f"{name}:")] == [f"{name}:{each}" for each in range(50)]
    await clients[0].send_text("not me")
    assert await data_of(clients[1]) == "not me"
    await publish(program, "all")
    assert [await data_of(client) for client in clients] == ["all", "all"]
    assert len({await publish(program, "once", "key") for _ in range(8)}) == 1, "a key holds for all workers"
    await program.stop()


async def test_a_worker_that_is_killed(start) -> None:
    """The subscribers of the other go on, and those of the dead one resume on whatever worker they come to."""
    program = await start("--workers", "2", app="chat:app", files=FILES)
    workers = await one_each(program)
    dead, alive = workers
    position = await publish(program, "1")
    assert [await data_of(client) for client in workers.values()] == ["1", "1"]
    os.kill(dead, signal.SIGKILL)
    await workers[dead].rest()
    for number in (2, 3, 4):
        await workers[alive].send_text(str(number))
    assert [await data_of(workers[alive]) for _ in range(3)] == ["2", "3", "4"]
    await program.workers(2, without={dead})
    for _ in range(4):  # both workers, with high probability
        client, _ = await join(program, since=position)
        got = [json.loads(await client.message()) for _ in range(4)]
        assert sorted(each["data"] for each in got if isinstance(each, dict)) == ["2", "3", "4"]
    await publish(program, "5")
    assert await data_of(workers[alive]) == "5"
    await program.stop()


async def test_a_worker_that_hangs_stops_nobody_and_gets_what_it_missed(start) -> None:
    """15 MB are published while one worker is stopped; nothing waits for it longer than a second."""
    options = ("--topics-history", "5000", "--topics-history-size", "100MiB", "--timeout-worker-healthcheck", "60s")
    program = await start("--workers", "2", *options, app="chat:app", files=FILES)
    workers = await one_each(program)
    stopped, running = workers
    os.kill(stopped, signal.SIGSTOP)
    try:
        await talk(workers[running])
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert await within(read_all(workers[stopped]), 40) == list(range(NUMBER))
    await program.stop()


async def test_a_worker_that_hangs_beyond_the_history_is_told(start) -> None:
    program = await start("--workers", "2", "--timeout-worker-healthcheck", "60s", app="chat:app", files=FILES)
    workers = await one_each(program)
    stopped, running = workers
    os.kill(stopped, signal.SIGSTOP)
    try:
        await talk(workers[running])
    finally:
        os.kill(stopped, signal.SIGCONT)
    last: int | None = -1
    gaps = 0
    while last != NUMBER - 1:
        event = json.loads(await workers[stopped].message())
        if "gap" in event:
            gaps, last = gaps + 1, None
        else:
            number = int(event["data"])
            assert last is None or number == last + 1
            last = number
    assert gaps
    await program.stop()


async def test_a_rolling_restart_keeps_history_and_ends_streams(start) -> None:
    program = await start("--workers", "2", app="chat:app", files=FILES)
    old = await program.workers(2)
    position = await publish(program, "1")
    await publish(program, "2")
    client = await program.connect()
    await client.raw(b"GET /events HTTP/1.1\r\nHost: a.example\r\n\r\n")
    assert (await client.head()).status == 200
    program.signal(signal.SIGHUP)
    assert b"retry: 3000\n\n" in b"".join([chunk async for chunk in client.chunks()])
    await program.workers(2, without=old)
    client, _ = await join(program, since=position)
    assert await data_of(client) == "2"
    await program.stop()


@pytest.mark.parametrize("backplane", ["broker", pytest.param("redis", marks=redis_needed)])
async def test_a_rolling_restart_ends_the_streams_of_its_tasks(start, redis, backplane: str) -> None:
    """What the application's tasks publish when they are cancelled at the end still goes out."""
    options = ("--topics-url", redis.url) if backplane == "redis" else ()
    program = await start("--workers", "2", *options, app="chat:app", files=FILES)
    old = await program.workers(2)
    position = await publish(program, "1")
    assert (await program.get("/ask")).status == 200
    program.signal(signal.SIGHUP)
    await program.workers(2, without=old)
    got = b"".join([chunk async for chunk in (await answer(program)).chunks()])
    while b"event: end\ndata: failed\n" not in got:  # a reader on the old workers comes back
        got = b"".join([chunk async for chunk in (await answer(program)).chunks()])
    assert b"data: token\n" in got
    client, _ = await join(program, since=position)
    assert await data_of(client) == "cancelled"
    await program.stop()


async def test_another_worker_ends_the_stream_of_one_that_is_killed(start) -> None:
    program = await start("--workers", "2", app="chat:app", files=FILES)
    await program.workers(2)
    writer = int((await program.get("/ask")).body.split()[0])
    os.kill(writer, signal.SIGKILL)
    await program.workers(2, without={writer})
    reader = await answer(program)
    assert (await program.get("/end")).status == 200
    got = b"".join([chunk async for chunk in reader.chunks()])
    assert b"data: token\n" in got
    assert b"event: end\ndata: the writer died\n" in got
    await program.stop()


async def answer(program: Any) -> Client:
    """A client that reads the stream."""
    client = await program.connect()
    await client.raw(b"GET /answer HTTP/1.1\r\nHost: a.example\r\n\r\n")
    assert (await client.head()).status == 200
    return client


async def test_the_brokers_socket_is_removed_and_private(start, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = await start("--workers", "2", app="chat:app", files=FILES)
    (folder,) = tmp_path.glob("flowserve-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "topics.sock").is_socket()
    await program.stop()
    await until(lambda: not folder.exists())


async def test_without_a_temporary_folder(start, tmp_path, monkeypatch) -> None:
    """The workers serve all the same; the log says what does not work."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    program = await start("--workers", "2", app="chat:app", files=FILES)
    await program.logged("Topics do not reach other workers: no UNIX socket in a temporary folder: ")
    await join(program)
    await publish(program, "here")
    await program.stop()
