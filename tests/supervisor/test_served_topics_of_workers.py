"""Clients that subscribe by themselves, of two workers that share Redis: from end to end, by the real command."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any

import pytest
from support.helpers import until, within
from support.redis_server import redis_needed

from flowserve import topics
from flowserve.errors import RequestRefused
from flowserve.topics.client import Gap, Subscription, connect

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="one process only"), redis_needed]

APP = '''\
import os
from urllib.parse import parse_qs

from flowserve import topics

async def app(scope, receive, send):
    """HTTP: the process. WebSocket: one of ?id=, whose client may use rooms, or what a grant says, and publish as fast
    as ?rate= and ?burst= say."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        await receive()
        await send({"type": "websocket.accept", "subprotocol": topics.SUBPROTOCOL})
        await topics.serve(
            scope,
            receive=receive,
            send=send,
            allow=lambda topic, action: topic.startswith("room:"),
            secret="0123456789abcdef",
            publish_rate=float(query["rate"]),
            publish_burst=int(query["burst"]),
            member=query["id"],
            presence=True,
        )
    else:
        body = f"{os.getpid()} now".encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
'''
NUMBER = 40
SECRET = "0123456789abcdef"


async def collect(subscription: Subscription) -> list[Any]:
    """All numbers until the last one; a gap is None."""
    found: list[Any] = []
    async for item in subscription:
        found.append(None if isinstance(item, Gap) else item.data)
        if found[-1] == NUMBER - 1:
            break
    return found


async def test_clients_of_two_workers(start, redis):
    """A worker is killed while one client publishes and three read: each message comes once, and in order."""
    program = await start(
        *("--workers", "2", "--topics-url", redis.url, "--topics-history", "1000"),
        app="served:app",
        files={"served.py": APP},
    )
    uri = "ws://{}:{}".format(*program.address)
    async with AsyncExitStack() as stack:

        async def client(id: str, rate: float = 10_000, burst: int = 1000, **options: Any) -> Any:
            made = connect(f"{uri}/?id={id}&rate={rate}&burst={burst}", proxy=None, **options)
            return await stack.enter_async_context(made)

        readers = [await client(f"reader{number}") for number in range(3)]
        subscriptions = [each.subscribe("room:1", since=topics.START, presence=True) for each in readers]
        reading = [asyncio.ensure_future(collect(each)) for each in subscriptions]
        writer = await client("writer", grant=lambda: topics.grant(SECRET, ["inbox:1"], ["subscribe", "publish"]))
        inbox = writer.subscribe("inbox:1")
        await writer.publish("inbox:1", "granted")
        assert (await within(anext(inbox))).data == "granted"
        with pytest.raises(RequestRefused) as refused:
            await writer.publish("inbox:2", "x")
        assert refused.value.code == "forbidden"
        hasty = await client("hasty", rate=20, burst=2)
        heard = hasty.subscribe("room:2", since=topics.START)
        await within(asyncio.gather(*(hasty.publish("room:2", json=number) for number in range(6))))
        assert [(await within(anext(heard))).data for _ in range(6)] == list(range(6))
        everyone = {f"reader{number}" for number in range(3)}
        await until(lambda: all(each.present.keys() == everyone for each in subscriptions), 20)
        for number in range(NUMBER):
            await writer.publish("room:1", json=number)
            if number == NUMBER // 2:
                os.kill((await program.identity())[0], signal.SIGKILL)
        assert await within(asyncio.gather(*reading), 20) == [list(range(NUMBER))] * len(readers)
    await program.stop()
