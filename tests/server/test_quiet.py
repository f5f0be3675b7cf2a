"""What the command says of clients that scan, send nonsense or vanish: nothing but an access line where one is due."""

from __future__ import annotations

import re

import pytest
from support.helpers import TEXT, frame, within
from support.programs import messages

REQUEST = b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n"
UPLOAD = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhello"
NOTHING_TO_SAY = [
    *(
        b"",
        b"\r\n",
        b"\0" * 64,
        b"SSH-2.0-scan\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost",
    ),
    *(b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET http:// HTTP/1.1\r\nHost: \x01\r\n\r\n"),
]
LEAVES = ["reset", "half_close", "leave"]


async def leave(client, how):
    getattr(client, how)()
    if how == "half_close":
        await client.rest()  # until the server has ended its side too


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_clients_that_vanish_leave_no_noise(command, connect, loop):
    server = await command("support.helpers:echo", "--loop", loop, "--ws-close-timeout", "1s", "--lifespan", "off")
    await server.logged("Listening")
    for how in LEAVES:
        for data in NOTHING_TO_SAY:
            stranger = await connect(server)
            await stranger.raw(data)
            await leave(stranger, how)
        uploader = await connect(server)
        await uploader.raw(UPLOAD)
        await uploader.head()
        await leave(uploader, how)
        for data in (b"", frame(TEXT, b"hello")[:7], frame(TEXT, b"hello", fin=False)):
            websocket = await connect(server)
            await websocket.upgrade("/ws")
            await websocket.raw(data)
            await leave(websocket, how)
    access = b""
    while access.count(b"closed 1006") < 3 * len(LEAVES):
        line = await within(server.process.stdout.readline())
        assert line, access
        access += line
    last = await connect(server)
    await last.raw(REQUEST)
    await last.response()
    server.signal(15)
    status, rest, err = await server.wait()
    assert status == 0
    *foreign, stopping, stopped = messages(err)
    assert [stopping, stopped] == ["SIGTERM: shutting down", "Stopped"]
    assert {re.search(r"speaks ([\w/]+)", line)[1] for line in foreign} == {"TLS", "HTTP/2"}  # what may be a mistake
    assert len(foreign) == 2  # of many
    lines = [re.sub(r"^127\.0\.0\.1:\d+ - ", "", line) for line in messages(access.decode() + rest)]
    said = {re.sub(r" after .*| [\d.]+m?s$", "", line) for line in lines}
    assert said == {
        '"POST /upload HTTP/1.1" 200',
        '"WebSocket /ws" accepted',
        '"WebSocket /ws" closed 1006',
        '"GET /plain HTTP/1.1" 200',
    }
