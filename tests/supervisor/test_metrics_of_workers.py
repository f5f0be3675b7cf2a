"""The metrics of several workers: one page, whose sums are what the clients counted, whatever becomes of workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from typing import Any

import pytest
from support.helpers import Client, within
from support.scraping import Figures, scrape

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process only")


async def page(folder: Any) -> Figures:
    return await scrape(str(folder / "m.sock"), family=socket.AF_UNIX)


async def until_page(folder: Any, condition: Any) -> Figures:
    deadline = time.monotonic() + 20
    while not condition(figures := await page(folder)):
        assert time.monotonic() < deadline, "the figures never came true"
        await asyncio.sleep(0.02)
    return figures


def names(figures: Figures) -> set[str]:
    return set(figures.labelled("worker_start_time_seconds", "worker"))


def restarts(figures: Figures) -> float:
    return sum(figures.labelled("worker_restarts_total", "reason").values())


async def talk(program: Any, messages: int) -> tuple[Client, int]:
    """A WebSocket that has sent and got back so many messages of 100 bytes, and its worker's process."""
    client, pid = await program.open_ws()
    for _ in range(messages):
        await client.send_text("m" * 100)
        assert await client.message() == "m" * 100
    return client, pid


async def leave(client: Client) -> None:
    await client.send_close(1000)
    await client.rest()


async def test_the_sums_of_two_workers_are_what_the_clients_counted(start, tmp_path):
    program = await start("--workers", "2", "--metrics", "unix:m.sock")
    before = await page(tmp_path)
    assert before.value("workers") == 2
    clients: list[Client] = []
    pids: set[int] = set()
    while len(pids) < 2 or len(clients) < 8:  # the kernel spreads them as it likes
        client, pid = await talk(program, 5)
        clients.append(client)
        pids.add(pid)
    for _ in range(7):
        assert (await program.get()).status == 200
    figures = await page(tmp_path)
    count = len(clients)
    assert figures.grown(before, "websocket_messages_received_total", type="text") == 5 * count
    assert figures.grown(before, "websocket_received_bytes_total", type="text") == 500 * count
    assert figures.grown(before, "websocket_messages_sent_total", type="text") == 6 * count
    assert figures.value("websocket_message_size_bytes_count", direction="in", type="text") == 5 * count
    assert figures.value("open_connections", kind="websocket") == count
    assert figures.grown(before, "http_requests_total", method="GET", status="200") == 7
    each = figures.labelled("worker_websocket_messages_total", "worker")
    assert set(each) == {"1", "2"}
    assert all(each.values())
    assert sum(each.values()) == 11 * count
    for client in clients:
        await leave(client)
    await until_page(tmp_path, lambda f: f.labelled("websocket_closes_total", "code") == {"1000": count})


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_what_an_ended_worker_has_counted_stays(start, tmp_path, end):
    program = await start("--workers", "2", "--metrics", "unix:m.sock")
    client, pid = await talk(program, 9)
    before = await page(tmp_path)
    assert before.value("websocket_messages_received_total", type="text") == 9
    assert before.value("open_connections", kind="websocket") == 1
    os.kill(pid, end)
    if end == signal.SIGTERM:
        assert (await client.close_frame())[0] == 1012
        await client.send_close(1012)
    await client.rest()
    figures = await until_page(tmp_path, lambda f: names(f) == {"1", "2"} and restarts(f) == 1)
    assert figures.value("open_connections", kind="websocket") == 0
    assert figures.value("websocket_messages_received_total", type="text") == 9
    assert figures.value("websocket_message_size_bytes_sum", direction="in", type="text") == 900
    assert figures.value("websocket_closes_total", code="1012") == (end == signal.SIGTERM)
    assert sum(figures.labelled("worker_websocket_messages_total", "worker").values()) == 0, "the new one's"


async def test_a_restart_keeps_the_sums_and_the_names(start, tmp_path):
    program = await start("--workers", "2", "--metrics", "unix:m.sock")
    client, _ = await talk(program, 3)
    program.signal(signal.SIGHUP)
    assert (await client.close_frame())[0] == 1012
    await client.send_close(1012)
    await client.rest()
    await program.logged("All workers are new")
    figures = await until_page(tmp_path, lambda f: f.value("websocket_closes_total", code="1012") == 1)
    assert figures.value("websocket_messages_received_total", type="text") == 3
    assert figures.value("worker_restarts_total", reason="restart") == 2
    await until_page(tmp_path, lambda f: names(f) == {"1", "2"})


async def test_the_page_answers_while_a_worker_is_stuck(start, tmp_path):
    program = await start("--workers", "2", "--metrics", "unix:m.sock")
    client, pid = await talk(program, 4)
    assert (await page(tmp_path)).value("workers") == 2
    os.kill(pid, signal.SIGSTOP)
    try:
        figures = await within(page(tmp_path))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert figures.value("workers") == 1
    assert figures.value("websocket_messages_received_total", type="text") == 4, "what it said before"
    await until_page(tmp_path, lambda f: f.value("workers") == 2)
    await leave(client)


async def test_with_reload_the_sums_go_on(start, tmp_path):
    program = await start("--reload", "--metrics", "unix:m.sock")
    client, _ = await talk(program, 2)
    assert (await page(tmp_path)).value("websocket_messages_received_total", type="text") == 2
    program.signal(signal.SIGHUP)
    await client.rest()
    figures = await until_page(tmp_path, lambda f: names(f) == {"1"} and f.value("workers") == 1)
    assert figures.value("open_connections", kind="websocket") == 0
    assert figures.value("websocket_messages_received_total", type="text") == 2
    assert (await program.get()).status == 200
    assert (await page(tmp_path)).value("http_requests_total", method="GET", status="200") == 1
    await program.stop()
    assert not (tmp_path / "m.sock").exists()


TOPICS_APP = '''\
import os
from urllib.parse import parse_qs

from flowserve import topics

async def app(scope, receive, send):
    """HTTP: /?topic=&count= publishes; says the process. WebSocket: the process, then topic room:1, of which it is a
    member, and answers to requests."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await topics.subscribe(scope, "room:1", since=topics.OLDEST, member="somebody")
        await send({"type": "websocket.send", "text": str(os.getpid())})
        await topics.serve(scope, receive=receive, send=send, allow=["room:1"])
    else:
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        for number in range(int(query.get("count", "0"))):
            await topics.publish(query["topic"].format(pid=os.getpid(), number=number), "text")
        if "present" in query:
            assert (await topics.presence(query["present"])).complete
        body = f"{os.getpid()} now".encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
'''
WITH_TOPICS: dict[str, Any] = {"app": "rooms:app", "files": {"rooms.py": TOPICS_APP}}


async def test_the_topics_of_two_workers(start, tmp_path):
    program = await start("--workers", "2", "--metrics", "unix:m.sock", **WITH_TOPICS)
    clients: dict[int, list[Client]] = {}
    while len(clients) < 2:
        client, pid = await program.open_ws()
        clients.setdefault(pid, []).append(client)
    everyone = [each for some in clients.values() for each in some]
    assert (await program.get("/?topic=room:1&count=20")).status == 200
    for client in everyone:
        assert [await client.message() for _ in range(20)] == ["text"] * 20
    for each in everyone:
        await each.send_text('{"id": 1, "type": "ping"}')
        assert json.loads(await each.message()) == {"id": 1}
    assert (await program.get("/?present=room:1")).status == 200
    figures = await page(tmp_path)
    assert figures.value("topics_members", topic="room") == len(everyone), "as many connections, though one member"
    assert figures.value("topics_clients") == len(everyone)
    assert figures.value("topics_client_requests_total", type="ping", result="ok") == len(everyone)
    told = figures.labelled("topics_presence_messages_total", "direction")
    assert 0 < told["in"] <= told["out"]
    assert figures.value("topics_subscribers", topic="room") == len(everyone)
    assert figures.value("topics_published_total", topic="room") == 20
    assert figures.value("topics_delivered_total", topic="room") == 20 * len(everyone)
    assert figures.value("topics_resumes_total", topic="room", recovered="true") == len(everyone)
    assert figures.value("topics_backplane_lag_seconds_count") == 40, "once a worker"
    assert 0 < figures.value("topics_backplane_lag_seconds_sum") < 40 * 20
    assert figures.labelled("topics_backplane_connected", "worker") == {"1": 1, "2": 1}
    dead, alive = clients
    os.kill(dead, signal.SIGKILL)
    figures = await until_page(tmp_path, lambda f: names(f) == {"1", "2"} and restarts(f) == 1)
    assert figures.value("topics_subscribers", topic="room") == len(clients[alive])
    assert figures.value("topics_members", topic="room") == figures.value("topics_clients") == len(clients[alive])
    assert figures.value("topics_member_changes_total", topic="room", change="joined") == len(everyone)
    assert figures.value("topics_client_requests_total", type="ping", result="ok") == len(everyone)
    assert figures.value("topics_delivered_total", topic="room") == 20 * len(everyone)
    await program.stop()


async def test_topics_of_workers_that_come_and_go_have_few_labels(start, tmp_path):
    """Each worker publishes to a thousand topics of its own."""
    program = await start("--workers", "2", "--metrics", "unix:m.sock", **WITH_TOPICS)
    asked = 0
    for generation in range(2):
        seen: set[str] = set()
        while len(seen) < 2:
            seen.add((await program.get("/?topic={pid}-{number}:x&count=1000")).body.decode())
            asked += 1
        if not generation:
            program.signal(signal.SIGHUP)
            await program.logged("All workers are new")
    figures = await until_page(tmp_path, lambda f: names(f) == {"1", "2"})
    found = figures.labelled("topics_published_total", "topic")
    assert sum(found.values()) == 1000 * asked
    assert len(found) == 101
    assert len(figures.labelled("topics_resumes_total", "topic")) == 101
    await program.stop()
