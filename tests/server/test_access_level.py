"""Access lines follow the level of their logger, which an application may change at any time."""

from __future__ import annotations

import logging

from support.helpers import echo, until

ACCESS = "flowserve.access"


async def test_a_level_that_is_raised_and_lowered_again(serve, connect, logs):
    logging.getLogger(ACCESS).setLevel(logging.WARNING)
    server = await serve(echo)
    websocket = await connect(server)
    await websocket.upgrade("/ws", "User-Agent: tester/1")
    client = await connect(server)
    await client.get("/unseen")
    assert logs.lines(ACCESS) == []
    logging.getLogger(ACCESS).setLevel(logging.INFO)
    await client.get("/seen")
    websocket.leave()
    await until(lambda: len(logs.lines(ACCESS)) == 2)
    request, closed = logs.lines(ACCESS)
    assert '"GET /seen HTTP/1.1" 200' in request
    assert '"WebSocket /ws" closed 1006' in closed
    [*_, record] = [each for each in logs.records if each.name == ACCESS]
    assert record.msg.user_agent == b"tester/1"
