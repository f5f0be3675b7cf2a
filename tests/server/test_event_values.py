"""The values of ASGI events as applications make them: subclasses of what the specification names, and other buffers.

Django's SafeString, FastHTML's strings, HTTPStatus and the like must work as the types do that they are.
"""

from __future__ import annotations

import array
import enum
import http
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from support.helpers import UPGRADE


class Str(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not what it holds"


class Kind(str, enum.Enum):
    """As some applications name events."""

    START = "http.response.start"
    BODY = "http.response.body"
    ACCEPT = "websocket.accept"
    SEND = "websocket.send"
    CLOSE = "websocket.close"
    DENIAL_START = "websocket.http.response.start"
    DENIAL_BODY = "websocket.http.response.body"


class Bytes(bytes):
    __slots__ = ()

    def __bytes__(self) -> bytes:
        return b"not what it holds"


def octets(data: bytes) -> Any:
    return array.array("B", data)


class Array(bytearray):
    __slots__ = ()


class Event(dict[str, Any]):
    __slots__ = ()


class Pairs(list[Any]):
    __slots__ = ()


class Code(enum.IntEnum):
    BYE = 4001


def scattered(data: bytes) -> memoryview:
    """`data` as every other byte of a larger buffer."""
    return memoryview(bytes(byte for each in data for byte in (each, 0)))[::2]


def words(data: bytes) -> memoryview:
    """`data`, of four bytes or eight, as items of four bytes."""
    return memoryview(array.array("I", data))


BUFFERS: list[Callable[[bytes], Any]] = [bytes, Bytes, bytearray, Array, memoryview, scattered, words, octets]
EVENTS: list[Callable[[dict[str, Any]], Any]] = [dict, Event, OrderedDict]
pytestmark = pytest.mark.both_loops


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("kind", [str, Str, Kind])
async def test_the_event_itself(serve, connect, event, kind):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send(event({"type": kind("http.response.start"), "status": 200, "headers": []}))
            await send(event({"type": kind("http.response.body"), "body": b"hello"}))
            return
        await receive()
        if scope["path"] == "/denied":
            await send(event({"type": kind("websocket.http.response.start"), "status": 403, "headers": []}))
            await send(event({"type": kind("websocket.http.response.body"), "body": b"no"}))
            return
        await send(event({"type": kind("websocket.accept")}))
        await send(event({"type": kind("websocket.send"), "text": "hello"}))
        await send(event({"type": kind("websocket.close"), "code": 4001}))

    server = await serve(app)
    client = await connect(server)
    assert (await client.get()).body == b"hello"
    await client.raw(UPGRADE.replace(b" / ", b" /denied "))
    assert (await client.response()).body == b"no"
    client = await connect(server)
    await client.upgrade()
    assert await client.message() == "hello"
    assert await client.close_frame() == (4001, "")


@pytest.mark.parametrize("status", [201, http.HTTPStatus.CREATED])
@pytest.mark.parametrize("make", BUFFERS)
@pytest.mark.parametrize("pairs", [list, Pairs, tuple, iter])
async def test_a_response(serve, connect, status, make, pairs):
    async def app(scope, receive, send):
        headers = pairs(
            [(make(b"x-an-id"), make(b"12345678")) if make is not words else (b"x-an-id", words(b"12345678"))]
        )
        start = {"status": status, "headers": headers}
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.http.response.start", **start})
            await send({"type": "websocket.http.response.body", "body": make(b"some"), "more_body": 1})
            await send({"type": "websocket.http.response.body", "body": make(b"body")})
        else:
            await send({"type": "http.response.start", **start})
            await send({"type": "http.response.body", "body": make(b"some"), "more_body": 1})
            await send({"type": "http.response.body", "body": make(b"body")})

    client = await connect(await serve(app))
    for request in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", UPGRADE):
        await client.raw(request)
        response = await client.response()
        assert response.status == 201
        assert response.body == b"somebody"
        assert response.header("x-an-id") == "12345678"


@pytest.mark.parametrize("compression", [True, False])
@pytest.mark.parametrize("make", BUFFERS)
@pytest.mark.parametrize("text", [str, Str])
@pytest.mark.parametrize("code", [4001, Code.BYE])
async def test_a_websocket(serve, connect, make, text, code, compression):
    async def app(scope, receive, send):
        await receive()
        headers = [[make(b"x-id"), make(b"1234")]]
        await send({"type": "websocket.accept", "subprotocol": text("chat"), "headers": headers})
        await send({"type": "websocket.send", "text": text("hello")})
        await send({"type": "websocket.send", "bytes": make(b"some"), "text": None})
        await send({"type": "websocket.send", "bytes": make(b"more" * 30000)})
        await send({"type": "websocket.close", "code": code, "reason": text("bye")})

    client = await connect(await serve(app, ws_per_message_deflate=compression))
    head = await client.upgrade("/", "Sec-WebSocket-Protocol: chat")
    assert head.header("sec-websocket-protocol") == "chat"
    assert head.header("x-id") == "1234"
    assert [await client.message() for _ in range(3)] == ["hello", b"some", b"more" * 30000]
    assert await client.close_frame() == (4001, "bye")


# What can't be sent raises at the send that has it, and names it


WRONG_STARTS = [
    ({}, "status"),
    ({"status": "200"}, "status"),
    ({"status": None}, "status"),
    ({"status": 99}, "status"),
    ({"status": 200.0}, "status"),
    ({"status": 200, "headers": [("a", "b")]}, "'a' must be bytes|name must be bytes"),
    ({"status": 200, "headers": [(b"a", "b")]}, "value must be bytes"),
    ({"status": 200, "headers": [(b"a",)]}, "pairs of bytes"),
    ({"status": 200, "headers": 5}, "pairs of bytes"),
    ({"status": 200, "headers": [(b"a b", b"c")]}, "a b"),
    ({"status": 200, "headers": [(b"content-length", b"x")]}, "content-length"),
]


@pytest.mark.parametrize(("fields", "words"), WRONG_STARTS)
@pytest.mark.parametrize("request_", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", UPGRADE], ids=["http", "denial"])
async def test_a_wrong_start_raises_at_once(serve, connect, fields, words, request_):
    """And the application can still send another."""

    async def app(scope, receive, send):
        prefix = "websocket.http" if scope["type"] == "websocket" else "http"
        with pytest.raises(RuntimeError, match=words):
            await send({"type": f"{prefix}.response.start", **fields})
        await send({"type": f"{prefix}.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": f"{prefix}.response.body", "body": b"fine"})

    client = await connect(await serve(app))
    await client.raw(request_)
    assert (await client.response()).body == b"fine"


WRONG_CODES = [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 70000, "1000", [1000], 1000.0]


@pytest.mark.parametrize("code", [*WRONG_CODES, None])
@pytest.mark.parametrize("reason", ["fine", None, ["a", "list"], 5, "\ud800", "long" * 100])
async def test_a_close_before_accept_is_a_403(serve, connect, code, reason):
    """ASGI specification, Close: neither reaches the client. FastAPI's own handler sends a list as reason."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.close", "code": code, "reason": reason})

    client = await connect(await serve(app))
    await client.raw(UPGRADE)
    assert (await client.response()).status == 403


@pytest.mark.parametrize("code", WRONG_CODES)
async def test_a_wrong_code_after_accept_is_an_error(serve, connect, code):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        with pytest.raises(RuntimeError, match="close frame"):
            await send({"type": "websocket.close", "code": code})
        await send({"type": "websocket.close", "code": None, "reason": None})

    client = await connect(await serve(app))
    await client.upgrade()
    assert await client.close_frame() == (1000, "")
