"""The clients from PyPI. `python client.py websockets|aiohttp|picows|wsproto URL CORPUS IN_FLIGHT`"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Message = str | bytes


@dataclass
class Talk:
    """An open connection; `receive` raises when it ends."""

    extensions: str
    send: Callable[[Message], Awaitable[Any]]
    receive: Callable[[], Awaitable[Message]]


@asynccontextmanager
async def websockets(url: str) -> AsyncIterator[Talk]:
    from websockets.asyncio.client import connect

    async with connect(url, compression="deflate", max_size=None) as socket:
        assert socket.response
        yield Talk(socket.response.headers.get("Sec-WebSocket-Extensions", ""), socket.send, socket.recv)


@asynccontextmanager
async def picows(url: str) -> AsyncIterator[Talk]:
    from picows.websockets.asyncio.client import connect

    async with connect(url, compression="deflate", max_size=None) as socket:
        assert socket.response
        yield Talk(socket.response.headers.get("Sec-WebSocket-Extensions", ""), socket.send, socket.recv)


@asynccontextmanager
async def aiohttp(url: str) -> AsyncIterator[Talk]:
    from aiohttp import ClientSession, WSMsgType

    async with ClientSession() as session, session.ws_connect(url, compress=15, max_msg_size=0) as socket:

        async def send(message: Message) -> None:
            await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))

        async def receive() -> Message:
            got = await socket.receive()
            if got.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                raise ConnectionError(str(got))
            data: Message = got.data
            return data

        headers = socket._response.headers  # there is no public way to them
        yield Talk(headers.get("Sec-WebSocket-Extensions", ""), send, receive)


@asynccontextmanager
async def wsproto(url: str) -> AsyncIterator[Talk]:
    from wsproto import ConnectionType, WSConnection, events
    from wsproto.extensions import PerMessageDeflate

    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    connection = WSConnection(ConnectionType.CLIENT)
    extensions: list[Any] = [PerMessageDeflate()]
    writer.write(connection.send(events.Request(host=place.netloc, target=place.path, extensions=extensions)))
    head = await reader.readuntil(b"\r\n\r\n")
    connection.receive_data(head)
    if not isinstance(next(iter(connection.events())), events.AcceptConnection):
        raise ConnectionError(head.decode())
    lines = [line.partition(":") for line in head.decode().splitlines()]
    answered = [value.strip() for name, _, value in lines if name.lower() == "sec-websocket-extensions"]

    async def send(message: Message) -> None:
        event = events.TextMessage(message) if isinstance(message, str) else events.BytesMessage(message)
        writer.write(connection.send(event))
        await writer.drain()

    async def incoming() -> AsyncIterator[Message]:
        parts: list[Any] = []
        while data := await reader.read(65536):
            connection.receive_data(data)
            for event in connection.events():
                if isinstance(event, events.Ping):
                    writer.write(connection.send(event.response()))
                elif isinstance(event, events.TextMessage | events.BytesMessage):
                    parts.append(event.data)
                    if event.message_finished:
                        yield (b"" if isinstance(event, events.BytesMessage) else "").join(parts)
                        parts.clear()
                else:
                    raise ConnectionError(str(event))
        raise ConnectionError("the connection ended")

    yield Talk(", ".join(answered), send, incoming().__anext__)
    writer.write(connection.send(events.CloseConnection(1000)))
    writer.close()
    await writer.wait_closed()


def messages(path: str) -> list[Message]:
    data, at, found = Path(path).read_bytes(), 0, list[Message]()
    while at < len(data):
        kind, size = struct.unpack_from("!BI", data, at)
        payload, at = data[at + 5 : at + 5 + size], at + 5 + size
        found.append(payload.decode() if kind == 1 else payload)
    return found


async def converse(talk: Talk, corpus: list[Message], in_flight: int) -> dict[str, Any]:
    window, came, changed, started = asyncio.Semaphore(in_flight), 0, 0, time.perf_counter()

    async def send_all() -> None:
        for message in corpus:
            await window.acquire()
            await talk.send(message)

    sending = asyncio.ensure_future(send_all())
    error = ""
    try:
        for message in corpus:
            got = await talk.receive()
            came += 1
            changed += type(got) is not type(message) or got != message
            window.release()
    except Exception as problem:
        error = repr(problem)
    sending.cancel()
    seconds = time.perf_counter() - started
    report = {"extensions": talk.extensions, "came": came, "changed": changed, "seconds": seconds}
    return {**report, "error": error} if error else report


async def main(name: str, url: str, path: str, in_flight: str) -> None:
    clients = {"websockets": websockets, "aiohttp": aiohttp, "picows": picows, "wsproto": wsproto}
    async with clients[name](url) as talk:
        report = await converse(talk, messages(path), int(in_flight))
    print(json.dumps({"version": importlib.metadata.version(name), **report}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
