"""Requests as ASGI scopes (HTTP & WebSocket message format)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from flowserve import Config
from flowserve.asgi.context import Context
from flowserve.asgi.scope import http_scope, websocket_scope
from flowserve.http.messages import RequestHead
from flowserve.transport.interfaces import Peer

PEER = Peer(("192.0.2.1", 50000), ("192.0.2.2", 8000), False)


async def app(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def context(loop: asyncio.AbstractEventLoop, **options: Any) -> Context:
    return Context(app, Config(app, **options), loop, None)


def request(target: bytes = b"/a%20b?c=%20d", version: str = "1.1", method: str = "POST") -> RequestHead:
    return RequestHead(method, target, version, [(b"host", b"a"), (b"x", b"1"), (b"x", b"2")])


def test_http(loop: asyncio.AbstractEventLoop) -> None:
    plain = context(loop)
    assert http_scope(request(), PEER, plain) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"c=%20d",
        "root_path": "",
        "headers": [(b"host", b"a"), (b"x", b"1"), (b"x", b"2")],
        "client": ("192.0.2.1", 50000),
        "server": ("192.0.2.2", 8000),
        "state": {},
    }


def test_websocket(loop: asyncio.AbstractEventLoop) -> None:
    plain = context(loop, ws_per_message_deflate=False)
    assert websocket_scope(request(b"/chat", method="GET"), ["a", "b"], PEER, plain) == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/chat",
        "raw_path": b"/chat",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"a"), (b"x", b"1"), (b"x", b"2")],
        "client": ("192.0.2.1", 50000),
        "server": ("192.0.2.2", 8000),
        "subprotocols": ["a", "b"],
        "state": {},
        "extensions": {"websocket.http.response": {}, "flowserve.draining": {}, "flowserve.topics": None},
    }


def test_compression_is_an_extension(loop: asyncio.AbstractEventLoop) -> None:
    compressing = context(loop, ws_per_message_deflate=True)
    assert websocket_scope(request(), [], PEER, compressing)["extensions"] == {
        "websocket.http.response": {},
        "flowserve.draining": {},
        "flowserve.compress": {},
        "flowserve.topics": None,
    }


def test_secure(loop: asyncio.AbstractEventLoop) -> None:
    peer = PEER._replace(secure=True)
    assert http_scope(request(), peer, context(loop))["scheme"] == "https"
    assert websocket_scope(request(), [], peer, context(loop))["scheme"] == "wss"


@pytest.mark.parametrize("version", ["1.0", "1.1", "2"])
def test_http_version(loop: asyncio.AbstractEventLoop, version: str) -> None:
    assert http_scope(request(version=version), PEER, context(loop))["http_version"] == version


def test_unix_socket(loop: asyncio.AbstractEventLoop) -> None:
    scope = http_scope(request(), Peer(None, ("/run/app.sock", None), False), context(loop))
    assert (scope["client"], scope["server"]) == (None, ("/run/app.sock", None))


def test_root_path_stands_before_the_path(loop: asyncio.AbstractEventLoop) -> None:
    """`path` has it and `raw_path` is what the client sent."""
    for scope in (
        http_scope(request(), PEER, context(loop, root_path="/api/")),
        websocket_scope(request(), [], PEER, context(loop, root_path="/api")),
    ):
        assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/api", "/api/a b", b"/a%20b")


def test_what_an_application_writes_stays_in_its_scope(loop: asyncio.AbstractEventLoop) -> None:
    shared = context(loop)
    shared.state["pool"] = pool = object()
    for make in (
        lambda: http_scope(request(), PEER, shared),
        lambda: websocket_scope(request(), [], PEER, shared),
    ):
        first = make()
        asgi = dict(first["asgi"])
        assert first["state"]["pool"] is pool
        first["state"]["mine"] = 1
        first["asgi"]["mine"] = 1
        first.get("extensions", {})["mine"] = 1
        second = make()
        assert second["state"] == {"pool": pool}
        assert second["asgi"] == asgi
        assert "mine" not in second.get("extensions", {})
    assert shared.state == {"pool": pool}


def test_types(loop: asyncio.AbstractEventLoop) -> None:
    scope = http_scope(request(), PEER, context(loop))
    assert type(scope["path"]) is type(scope["root_path"]) is type(scope["scheme"]) is str
    assert type(scope["raw_path"]) is type(scope["query_string"]) is bytes
    assert all(type(part) is bytes for field in scope["headers"] for part in field)


def test_what_many_clients_send_alike_is_held_once(loop: asyncio.AbstractEventLoop) -> None:
    def headers() -> Any:
        fields = [(b"host", b"a" * 9), (b"cookie", b"b" * 9), (b"user-agent", b"c" * 300), (b"x", b"1" * 9)]
        return websocket_scope(
            RequestHead("GET", b"/", "1.1", [(name, bytes(bytearray(value))) for name, value in fields]),
            [],
            PEER,
            plain,
        )["headers"]

    plain = context(loop)
    one, other = headers(), headers()
    assert one == other
    assert [mine is yours for mine, yours in zip(one, other, strict=True)] == [True, False, False, False]


def test_what_a_peer_is_called() -> None:
    assert str(Peer(("127.0.0.1", 80), None, False)) == "127.0.0.1:80"
    assert str(Peer(("::1", 80), None, False)) == "[::1]:80"
    assert str(Peer(None, ("/tmp/socket", None), False)) == "unix"
    assert str(Peer(None, ("127.0.0.1", 8000), False)) == "unknown"  # it has left already
