"""The application: WebSockets that are subscribed to topics, and publishing over HTTP and WebSocket."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from flowserve import topics

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await over_http(receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await (subscriber if scope["path"] == "/subscribe" else publisher)(scope, receive, send)


async def subscriber(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Subscribe as the query says; tell where the topics stand, and whether they were recovered."""
    query = json.loads(parse_qs(scope["query_string"].decode())["q"][0])
    found = await topics.subscribe(scope, *query["topics"], since=query["since"], envelope="json")
    told = {"subscribed": found.position, "recovered": found.recovered, "worker": os.getpid()}
    await send({"type": "websocket.send", "text": json.dumps(told)})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def publisher(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Publish each message that comes, and answer with its position."""
    try:
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": await publish(event["text"])})
    except topics.TopicsError:
        await send({"type": "websocket.close", "code": 1013})


async def over_http(receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    status, answer = 503, b""
    with suppress(topics.TopicsError):
        status, answer = 200, (await publish(body.decode())).encode()
    headers = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def publish(request: str) -> str:
    """Publish `{"topic", "json", "key"}`; return its position, empty if it reached this machine alone. Raises
    TopicsError."""
    wanted = json.loads(request)
    return await topics.publish(wanted["topic"], json=wanted["json"], key=wanted["key"])
