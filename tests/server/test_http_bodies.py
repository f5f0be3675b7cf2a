"""The bodies of requests and responses (RFC 9112 sections 6 and 7)."""

from __future__ import annotations

import asyncio

import pytest
from support.helpers import hello, within
from support.requests import CHUNKED_POST, GET, responder

# Request bodies


@pytest.mark.both_loops
async def test_streamed_request_body(serve, stage, connect):
    """Parts reach the application as they come."""
    client = await connect(await serve(stage))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
    act = await stage.next()
    await client.raw(b"hello")
    assert await act.receive() == {"type": "http.request", "body": b"hello", "more_body": True}
    await client.raw(b"world")
    got, more = b"", True
    while more:
        message = await act.receive()
        got, more = got + message["body"], message["more_body"]
    assert got == b"world"
    await act.answer()


@pytest.mark.parametrize(
    "chunks",
    [
        b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        b"00000b\r\nhello world\r\n000\r\n\r\n",
        b"B;name=value\r\nhello world\r\n0;last\r\n\r\n",
        b'b;q="a;b c"\r\nhello world\r\n0\r\n\r\n',
        b"b\r\nhello world\r\n0\r\nX-Trailer: v\r\nY: w\r\n\r\n",
    ],
    ids=["plain", "leading zeros", "extensions", "quoted extension", "trailers"],
)
@pytest.mark.parametrize("bytewise", [False, True])
async def test_chunked_request_body(serve, stage, connect, chunks, bytewise):
    client = await connect(await serve(stage))
    task = asyncio.ensure_future((client.dribble if bytewise else client.raw)(CHUNKED_POST + chunks + GET))
    act = await stage.next()
    assert await act.read() == b"hello world"
    await act.answer(b"ok")
    assert (await client.response()).body == b"ok"
    following = await stage.next()
    assert [name for name, _ in following.scope["headers"]] == [b"host"]
    await following.answer(b"next")
    assert (await client.response()).body == b"next"
    await task


async def test_trailers_are_ignored(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(CHUNKED_POST + b"1\r\nx\r\n0\r\nContent-Length: 7\r\nHost: evil\r\nTransfer-Encoding: x\r\n\r\n")
    act = await stage.next()
    assert await act.read() == b"x"
    assert (b"host", b"evil") not in [tuple(header) for header in act.scope["headers"]]
    await act.answer()
    assert (await client.response()).status == 200
    await client.raw(GET)
    await (await stage.next()).answer(b"in step")
    assert (await client.response()).body == b"in step"


async def test_transfer_encoding_in_any_case(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-ENCODING: ChUnKeD\r\n\r\n1\r\nx\r\n0\r\n\r\n")
    act = await stage.next()
    assert await act.read() == b"x"
    await act.answer()


async def test_a_hundred_thousand_tiny_chunks(serve, stage, connect):
    client = await connect(await serve(stage))
    task = asyncio.ensure_future(client.raw(CHUNKED_POST + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"))
    act = await stage.next()
    assert await act.read() == b"x" * 100_000
    await act.answer(b"ok")
    assert (await client.response()).body == b"ok"
    await task


@pytest.mark.both_loops
async def test_continue_is_sent_when_the_app_reads(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n")
    act = await stage.next()
    reading = asyncio.ensure_future(act.read())
    await client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
    await client.raw(b"hello")
    assert await within(reading) == b"hello"
    await act.answer(b"thanks")
    assert (await client.response()).body == b"thanks"


async def test_continue_is_sent_once(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    act = await stage.next()
    reading = asyncio.ensure_future(act.receive())
    await client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
    await client.raw(b"he")
    assert (await within(reading))["body"] == b"he"
    reading = asyncio.ensure_future(act.receive())
    await client.raw(b"ll")
    await within(reading)
    await act.answer()
    assert (await client.response()).status == 200


async def test_continue_is_not_sent_when_the_app_answers_unread(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    await (await stage.next()).answer(b"no", 417)
    assert (await client.response()).status == 417


async def test_continue_is_not_sent_after_the_response_began(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    act = await stage.next()
    await act.start()
    reading = asyncio.ensure_future(act.read())
    await client.raw(b"hello")
    assert await within(reading) == b"hello"
    await act.body(b"done")
    act.leave()
    assert (await client.response()).body == b"done"


async def test_continue_is_not_sent_to_http_1_0(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    act = await stage.next()
    reading = asyncio.ensure_future(act.read())
    await client.raw(b"hello")
    assert await within(reading) == b"hello"
    await act.answer()
    assert (await client.response()).status == 200


# Response bodies


async def test_chunked_response_on_the_wire(serve, connect):
    app = responder(200, [], [b"hello", b"", b" world, at length", b""])
    client = await connect(await serve(app, server_header=False, date_header=False))
    await client.raw(GET)
    head = await client.head()
    assert [(name.lower(), value) for name, value in head.headers] == [("transfer-encoding", "chunked")]
    assert [chunk async for chunk in client.chunks()] == [b"hello", b" world, at length"]
    await client.raw(GET)
    assert (await client.response()).body == b"hello world, at length"


async def test_chunked_by_the_app_is_not_chunked_twice(serve, connect):
    client = await connect(await serve(responder(200, [(b"Transfer-Encoding", b"chunked")], [b"hello", b" world"])))
    assert (await client.get()).body == b"hello world"


async def test_streamed_response(serve, stage, connect):
    """Each part leaves when the application sends it."""
    client = await connect(await serve(stage))
    await client.raw(GET)
    act = await stage.next()
    await act.start()
    await act.body(b"one", more=True)
    await client.head()
    await client.expect(b"3\r\none\r\n")
    await act.body(b"two", more=True)
    await client.expect(b"3\r\ntwo\r\n")
    await act.body()
    act.leave()
    await client.expect(b"0\r\n\r\n")


async def test_large_response(serve, connect):
    data = bytes(range(256)) * 16384
    client = await connect(await serve(responder(200, [(b"content-length", b"%d" % len(data))], [data])))
    assert (await client.get()).body == data


@pytest.mark.parametrize("headers", [[(b"content-length", b"5")], []], ids=["content-length", "chunked"])
async def test_head(serve, connect, headers):
    client = await connect(await serve(responder(200, headers, [b"he", b"llo"])))
    for _ in range(2):
        await client.raw(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        response = await client.response("HEAD")
        assert response.status == 200
        if headers:
            assert response.header("content-length") == "5"
    await client.raw(GET)
    assert (await client.response()).body == b"hello"


@pytest.mark.parametrize("pipelined", [False, True])
async def test_what_is_refused_behind_a_head_has_its_body(serve, connect, pipelined):
    client = await connect(await serve(hello))
    await client.raw(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + (b"nonsense\r\n\r\n" if pipelined else b""))
    assert (await client.response("HEAD")).status == 200
    if not pipelined:
        await client.raw(b"nonsense\r\n\r\n")
    refusal = await client.response()
    assert (refusal.status, refusal.body[:11]) == (400, b"Bad request")
    await client.closed()


@pytest.mark.parametrize(
    "head",
    [
        b"HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nno field\r\n\r\n",
        b"\r\nHEAD /#a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\n",  # and no more: 408
    ],
)
@pytest.mark.parametrize("before", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
async def test_a_head_request_that_is_refused_for_its_own_head(serve, connect, before, head):
    """RFC 9110 section 9.3.2: the answer has no content, whatever it is."""
    # A busy machine may be late with a whole head.
    patience = {} if head.endswith(b"\r\n\r\n") else {"timeout_header": 1}
    client = await connect(await serve(hello, **patience))
    if before:
        await client.raw(before)
        assert (await client.response()).status == 200
    await client.raw(head)
    answer = await client.rest()
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 "))
    assert answer.endswith(b"\r\n\r\n")
    assert answer.count(b"\r\n\r\n") == 1


async def test_a_head_that_is_too_slow_behind_a_head(serve, connect):
    client = await connect(await serve(hello, timeout_header=1))
    await client.raw(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.response("HEAD")).status == 200
    await client.raw(b"GET /")
    refusal = await client.response()
    assert (refusal.status, bool(refusal.body)) == (408, True)
    await client.closed()


async def test_a_refused_head_has_no_body(serve, connect):
    client = await connect(await serve(hello, allowed_hosts=["b"]))
    await client.raw(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.response("HEAD")).status == 400
    await client.closed()


async def test_head_without_the_body_that_its_length_promises(serve, connect):
    client = await connect(await serve(responder(200, [(b"content-length", b"5")], [b""])))
    for _ in range(2):
        await client.raw(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.response("HEAD")).header("content-length") == "5"


@pytest.mark.parametrize("status", [204, 304])
async def test_no_body(serve, connect, status):
    """RFC 9110 section 8.6 and RFC 9112 section 6.1: 204 has neither length nor encoding, 304 no body."""
    client = await connect(await serve(responder(status)))
    for _ in range(2):
        response = await client.get()
        assert response.status == status
        assert response.header("transfer-encoding") is None
        if status == 204:
            assert response.header("content-length") is None


async def test_304_with_the_length_of_what_was_not_sent(serve, connect):
    client = await connect(await serve(responder(304, [(b"content-length", b"5"), (b"etag", b'"x"')])))
    for _ in range(2):
        assert (await client.get()).header("etag") == '"x"'


@pytest.mark.parametrize("body", [bytearray(b"hello"), memoryview(b"hello")], ids=["bytearray", "memoryview"])
async def test_bytes_likes_in_a_body(serve, connect, body):
    client = await connect(await serve(responder(200, [(b"content-length", b"5")], [body])))
    assert (await client.get()).body == b"hello"
    client = await connect(await serve(responder(200, [], [body, body])))
    assert (await client.get()).body == b"hellohello"


async def test_body_key_may_be_missing(serve, connect):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    client = await connect(await serve(app))
    assert (await client.get()).body == b""
