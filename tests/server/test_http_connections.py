"""Connections that last for several requests, in order (RFC 9112 section 9)."""

from __future__ import annotations

import asyncio

import pytest
from support.helpers import hello
from support.requests import GET, responder


@pytest.mark.both_loops
async def test_keep_alive(serve, stage, connect):
    client = await connect(await serve(stage))
    for number in (b"1", b"2", b"3"):
        await client.raw(b"GET /%s HTTP/1.1\r\nHost: example.com\r\n\r\n" % number)
        act = await stage.next()
        assert act.scope["raw_path"] == b"/" + number
        assert tuple(act.scope["client"]) == client.address
        await act.answer(number)
        response = await client.response()
        assert response.body == number
        assert response.header("connection") in (None, "keep-alive")


@pytest.mark.parametrize("peer", ["", "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n"])
async def test_each_of_the_same_requests_has_a_scope_of_its_own(serve, stage, connect, peer):
    """Whatever the applications did with those before."""
    client = await connect(await serve(stage))
    head = f"GET /a%20b?c HTTP/1.1\r\nHost: example.com\r\n{peer}Cookie: d=e\r\n\r\n".encode()
    scopes = []
    for _ in range(5):
        await client.raw(head)
        act = await stage.next()
        scopes.append({name: value.copy() if hasattr(value, "copy") else value for name, value in act.scope.items()})
        for name, value in list(act.scope.items()):
            if isinstance(value, dict):
                value["added"] = name
            elif isinstance(value, list):
                value.clear()
            act.scope[name] = "changed"
        act.scope["added"] = True
        await act.answer(b"")
        assert (await client.response()).status == 200
    assert scopes == scopes[:1] * 5
    assert scopes[0]["path"] == "/a b"
    assert (b"cookie", b"d=e") in scopes[0]["headers"]
    assert scopes[0]["scheme"] == ("https" if peer else "http")
    await client.raw(head.replace(b"a%20b", b"other").replace(b"203.0.113.7", b"203.0.113.8"))
    scope = (await stage.next()).scope
    assert (scope["path"], scope["method"], scope["query_string"]) == ("/other", "GET", b"c")
    assert scope["client"][0] == ("203.0.113.8" if peer else client.address[0])


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close"])
async def test_connection_close(serve, connect, value):
    client = await connect(await serve(hello))
    response = await client.get("/", f"Connection: {value}")
    assert response.body == b"hello"
    assert response.header("connection") == "close"
    await client.closed()


async def test_connection_close_by_the_app(serve, connect):
    client = await connect(await serve(responder(200, [(b"Connection", b"close"), (b"content-length", b"0")])))
    assert (await client.get()).header("connection") == "close"
    await client.closed()


async def test_requests_behind_a_close_are_not_served(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + GET)
    await (await stage.next()).answer(b"1")
    assert (await client.response()).body == b"1"
    await client.closed()
    assert len(stage.acts) == 1


@pytest.mark.both_loops
async def test_pipelining_in_order(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
        b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\ntwo"
        b"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nthree\r\n0\r\n\r\n"
        b"GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    for path, body in (("/1", b""), ("/2", b"two"), ("/3", b"three"), ("/4", b"")):
        act = await stage.next()
        assert act.scope["path"] == path
        assert await act.read() == body
        await act.answer(path.encode())
        assert (await client.response()).body == path.encode()
    await client.closed()


async def test_a_thousand_pipelined_requests(serve, connect):
    client = await connect(await serve(hello))
    await client.raw(GET * 1000)
    for _ in range(1000):
        assert (await client.response()).body == b"hello"


async def test_a_pipelined_request_behind_a_body_that_was_not_read(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 22\r\n\r\nGET /evil HTTP/1.1\r\n\r\n" + GET)
    await (await stage.next()).answer(b"1")
    assert (await client.response()).body == b"1"
    act = await stage.next()
    assert act.scope["path"] == "/"
    await act.answer(b"2")
    assert (await client.response()).body == b"2"


async def test_an_answer_before_the_whole_body_came(serve, stage, connect):
    """What follows on the connection is never taken for a request."""
    client = await connect(await serve(stage))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nGET /evil HTTP/1.1\r\n")
    await (await stage.next()).answer(b"too large", 413)
    response = await client.response()
    assert (response.status, response.body) == (413, b"too large")
    await client.dribble(b"Host: a\r\n\r\n")
    client.leave()
    await client.rest()
    assert len(stage.acts) == 1


async def test_http_1_0_closes(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(b"GET / HTTP/1.0\r\n\r\n")
    act = await stage.next()
    assert act.scope["http_version"] == "1.0"
    await act.answer(b"hello")
    response = await client.response()
    assert response.body == b"hello"
    assert response.header("connection") in (None, "close")
    await client.closed()


async def test_http_1_0_keep_alive(serve, connect):
    client = await connect(await serve(hello))
    for _ in range(2):
        await client.raw(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        response = await client.response()
        assert response.body == b"hello"
        assert response.header("connection") == "keep-alive"


@pytest.mark.parametrize("extra", [b"", b"Connection: keep-alive\r\n"])
async def test_http_1_0_never_gets_chunks(serve, connect, extra):
    headers = [(b"Transfer-Encoding", b"chunked")]
    client = await connect(await serve(responder(200, headers, [b"hello", b" ", b"world"])))
    await client.raw(b"GET / HTTP/1.0\r\n" + extra + b"\r\n")
    response = await client.response()
    assert response.header("transfer-encoding") is None
    assert response.header("connection") in (None, "close")
    assert response.body == b"hello world"
    await client.closed()


@pytest.mark.both_loops
async def test_half_closed_client_gets_its_answer(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(GET)
    client.half_close()
    act = await stage.next()
    await act.start()
    await act.body(b"one", more=True)
    await act.body(b"two")
    act.leave()
    response = await client.response()
    assert (response.status, response.body) == (200, b"onetwo")
    await client.closed()


@pytest.mark.both_loops
async def test_half_closed_client_gets_all_its_pipelined_answers(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(GET * 3)
    client.half_close()
    for number in (b"1", b"2", b"3"):
        await (await stage.next()).answer(number)
        assert (await client.response()).body == number
    await client.closed()


@pytest.mark.both_loops
@pytest.mark.parametrize("data", [b"", b"GET / HT", GET], ids=["nothing", "half a head", "a request"])
async def test_half_closed_client_does_not_linger(serve, connect, data):
    client = await connect(await serve(hello))
    await client.raw(data)
    client.half_close()
    rest = await client.rest()
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n") if data == GET else rest[:12] in (b"", b"HTTP/1.1 400")


async def test_keep_alive_ends(serve, connect):
    client = await connect(await serve(hello, timeout_keep_alive=0.2))
    assert (await client.get()).status == 200
    await client.closed()


async def test_keep_alive_does_not_cut_a_request(serve, stage, connect):
    """The timeout is for idle connections, not for slow applications or for the next request."""
    client = await connect(await serve(stage, timeout_keep_alive=0.2))
    for _ in range(2):
        await client.raw(GET)
        act = await stage.next()
        await asyncio.sleep(0.5)  # longer than the timeout: that time is what is tested
        await act.answer(b"late")
        assert (await client.response()).body == b"late"
    await client.closed()
