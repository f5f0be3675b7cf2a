"""The two ends of a WebSocket, in two tasks."""

from __future__ import annotations

import asyncio

import pytest
from support.ends import open_ends
from support.helpers import CONTINUATION, PING, PONG, TEXT, Frame, within

from flowserve.library.websocket import Reader, Writer


@pytest.mark.parametrize("role", ["client", "server"])
async def test_one_receives_while_the_other_sends(role):
    async with open_ends(role) as (ws, peer):
        reader, writer = ws.split()
        assert isinstance(reader, Reader)
        assert isinstance(writer, Writer)
        assert reader.websocket is writer.websocket is ws

        async def read() -> list:
            first, second = await reader.receive(), await reader.recv(decode=False)
            pieces = [piece async for piece in reader.receive_fragments()]
            return [first, second, pieces, [message async for message in reader]]

        reading = asyncio.get_running_loop().create_task(read())
        await writer.send("a")
        await writer.send_fragmented(["b"])
        assert [await peer.frame() for _ in range(3)] == [
            Frame(TEXT, b"a"), Frame(TEXT, b"b", False), Frame(CONTINUATION, b""),
        ]  # fmt: skip
        for text in ("1", "2", "3", "4", "5"):
            await peer.send_text(text) if role == "server" else await peer.send_frame(TEXT, text.encode())
        pinging = asyncio.get_running_loop().create_task(writer.ping(b"p"))
        assert await peer.frame() == Frame(PING, b"p")
        await peer.send_frame(PONG, b"p")
        assert await within(pinging) > 0
        assert not reader.closed
        assert reader.close_code is writer.close_reason is None
        closing = asyncio.get_running_loop().create_task(writer.close(1001, "bye"))
        assert await peer.close_frame() == (1001, "bye")
        await peer.send_close(1001, "and you")
        peer.writer.close()
        await within(closing)
        assert await within(reading) == ["1", b"2", ["3"], ["4", "5"]]
        await within(reader.wait_closed())
        assert reader.closed
        assert (reader.close_code, writer.close_code, reader.close_reason) == (1001, 1001, "and you")
