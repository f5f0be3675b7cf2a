"""The trace: what an application and the server say to each other."""

from __future__ import annotations

import pytest

from flowserve.logs.trace import trace


async def test_trace(streams):
    _, err = streams(log_level="trace")
    calls = []

    async def app(scope, receive, send):
        calls.append((scope, await receive()))
        await send({"type": "websocket.send", "text": "secret"})
        await send({"type": "websocket.send", "bytes": memoryview(b"secret")})

    async def receive():
        return {"type": "websocket.receive", "text": None, "bytes": b"secret"}

    async def send(message):
        calls.append(message)

    scope = {"type": "websocket", "path": "\n", "headers": [(b"cookie", b"secret")], "state": {"k": "secret"}}
    await trace(app)(scope, receive, send)
    assert calls[0] == (scope, {"type": "websocket.receive", "text": None, "bytes": b"secret"})
    assert calls[1]["text"] == "secret"
    lines = err.getvalue().splitlines()
    assert lines == [
        "TRACE:    websocket #1 begins {'type': 'websocket', 'path': '\\n', 'headers': '<1 headers>', 'state': '<k>'}",
        "TRACE:    websocket #1 receive {'type': 'websocket.receive', 'text': None, 'bytes': '<6 bytes>'}",
        "TRACE:    websocket #1 send {'type': 'websocket.send', 'text': '<6 characters>'}",
        "TRACE:    websocket #1 send {'type': 'websocket.send', 'bytes': '<6 bytes>'}",
        "TRACE:    websocket #1 returned",
    ]


async def test_trace_shows_what_the_application_raises(streams):
    _, err = streams(log_level="trace")

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": iter([])})
        await send({"type": "http.response.body", "body": b"secret", "more_body": True})
        raise KeyError("mine")

    async def nothing(*message): ...

    traced = trace(app)
    with pytest.raises(KeyError, match="mine"):
        await traced({"type": "http"}, nothing, nothing)
    with pytest.raises(KeyError, match="mine"):
        await traced({"type": "http"}, nothing, nothing)
    lines = err.getvalue().splitlines()
    assert lines[1] == "TRACE:    http #1 send {'type': 'http.response.start', 'status': 200, 'headers': '<headers>'}"
    assert lines[2] == "TRACE:    http #1 send {'type': 'http.response.body', 'body': '<6 bytes>', 'more_body': True}"
    assert lines[3] == "TRACE:    http #1 raised KeyError"
    assert lines[4].startswith("TRACE:    http #2 begins ")
