"""Presence between workers of the real command, and between servers that share nothing but Redis."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import pytest
from support.helpers import Client, within
from support.redis_server import redis_needed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process only")

APP = '''\
import json, os
from urllib.parse import parse_qs

from flowserve import topics
from flowserve.topics.presence import tracker

tracker.limits = tracker.limits._replace(interval=0.1, heartbeat=0.3, expiry=2.0)

async def app(scope, receive, send):
    """HTTP: /who says who is in topic t, and how many subscribers it has; anything else the process. WebSocket: a
    member ?id= of it, told of the process and of presence."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        id = parse_qs(scope["query_string"].decode())["id"][0]
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": str(os.getpid())})
        await topics.subscribe(scope, "t", envelope="json", member=id, info={"pid": os.getpid()}, presence=True)
        while (await receive())["type"] != "websocket.disconnect":
            pass
    else:
        body = f"{os.getpid()} now".encode()
        if scope["path"] == "/who":
            found = await topics.presence("t")
            members = {each.id: each.connections for each in found}
            answer = {"members": members, "complete": found.complete, "count": await topics.count("t")}
            body = json.dumps({"pid": os.getpid(), **answer}).encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
'''
FILES = {"here.py": APP}


class Member:
    """A WebSocket, and those of whom it knows."""

    def __init__(self, client: Client, pid: int) -> None:
        self.client = client
        self.pid = pid
        self.known: set[str] = set()

    @classmethod
    async def enter(cls, program: Any, id: str) -> Member:
        client = await program.connect()
        await client.upgrade(f"/?id={id}")
        return cls(client, int(await client.message()))

    async def knows(self, *ids: str) -> None:
        """Read until it knows exactly these."""
        while self.known != set(ids):
            event = json.loads(await self.client.message())
            self.known = {each["id"] for each in event["members"]} if "members" in event else self.known
            self.known |= {each["id"] for each in event.get("joins", ())}
            self.known -= set(event.get("leaves", ()))


async def until_all_say(programs: list[Any], members: dict[str, int], workers: int) -> None:
    """Ask until all processes have the same answer."""

    async def wait() -> None:
        saying: set[int] = set()
        while len(saying) < workers:
            for program in programs:
                answer = json.loads((await program.get("/who")).body)
                right = answer["members"] == members and answer["complete"]
                right = right and answer["count"] == sum(members.values())
                (saying.add if right else saying.discard)(answer["pid"])

    await within(wait(), 20)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_worker_that_is_killed(start, loop: str) -> None:
    program = await start("--workers", "2", "--loop", loop, app="here:app", files=FILES)
    members = [await Member.enter(program, "u0")]
    while len({each.pid for each in members}) < 2 or len(members) < 4:
        members.append(await Member.enter(program, f"u{len(members)}"))
    twice = await Member.enter(program, "u0")
    everyone = [f"u{number}" for number in range(len(members))]
    for each in (*members, twice):
        await each.knows(*everyone)
    await until_all_say([program], {**dict.fromkeys(everyone, 1), "u0": 2}, 2)

    dead = next(each.pid for each in members if each.pid != twice.pid)
    os.kill(dead, signal.SIGKILL)
    left = {id for id, each in zip(everyone, members, strict=True) if each.pid != dead} | {"u0"}
    await twice.knows(*left)
    await program.workers(2, without={dead})
    connections = dict.fromkeys(left, 1)
    connections["u0"] += members[0].pid != dead
    await until_all_say([program], connections, 2)
    await program.stop()


async def test_a_rolling_restart(start) -> None:
    """Who comes back is there; those of the old workers are gone at once, as these say that they end."""
    program = await start("--workers", "2", app="here:app", files=FILES)
    old = await program.workers(2)
    members = [await Member.enter(program, f"old-{number}") for number in range(4)]
    await members[0].knows("old-0", "old-1", "old-2", "old-3")
    program.signal(signal.SIGHUP)
    for each in members:
        await each.client.rest()
    await program.workers(2, without=old)
    member = await Member.enter(program, "new")
    await member.knows("new")
    await until_all_say([program], {"new": 1}, 2)
    await program.stop()


@redis_needed
async def test_two_servers(start, redis) -> None:
    """One ends, and its members are gone; then Redis loses the connections."""
    one = await start("--topics-url", redis.url, app="here:app", files=FILES)
    two = await start("--topics-url", redis.url, app="here:app", files=FILES)
    ada, bob = await Member.enter(one, "ada"), await Member.enter(two, "bob")
    await ada.knows("ada", "bob")
    await bob.knows("ada", "bob")
    await until_all_say([one, two], {"ada": 1, "bob": 1}, 2)
    await redis.call("CLIENT", "KILL", "TYPE", "pubsub")
    cem = await Member.enter(two, "cem")
    await ada.knows("ada", "bob", "cem")
    await cem.client.aclose()
    await ada.knows("ada", "bob")
    await until_all_say([one, two], {"ada": 1, "bob": 1}, 2)
    two.process.kill()
    await ada.knows("ada")
    await until_all_say([one], {"ada": 1}, 1)
    await one.stop()
