"""HTTP/1.1 end to end: what the application is given, and what stands on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from email.utils import parsedate_to_datetime

import pytest
from support.helpers import Act, hello, until, within

GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n"


def responder(status=200, headers=(), bodies=(b"",)):
    """An application that sends what it is told, whatever it is asked."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for number, body in enumerate(bodies, 1):
            await send({"type": "http.response.body", "body": body, "more_body": number < len(bodies)})

    return app


# One request and its response


@pytest.mark.both_loops
async def test_response_on_the_wire(serve, connect):
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"5"), (b"x-a", b"1"), (b"x-a", b"2")]
    server = await serve(responder(200, headers, [b"hello"]), server_header=False, date_header=False)
    client = await connect(server)
    await client.raw(GET)
    await client.expect(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\nx-a: 1\r\nx-a: 2\r\n\r\nhello"
    )


async def test_scope(serve, stage, connect):
    server = await serve(stage)
    client = await connect(server)
    await client.raw(b"GET /a?b=c HTTP/1.1\r\nHOST: example.com\r\nX-One:  1 \r\nx-one: \t2\r\nX-Empty:\r\n\r\n")
    act = await stage.next()
    scope = dict(act.scope)
    assert scope.pop("asgi").items() >= {"version": "3.0"}.items()
    assert scope["type"] == "http"
    assert scope["http_version"] == "1.1"
    assert scope["method"] == "GET"
    assert scope["scheme"] == "http"
    assert scope["path"] == "/a"
    assert scope["raw_path"] == b"/a"
    assert scope["query_string"] == b"b=c"
    assert scope["root_path"] == ""
    assert [tuple(header) for header in scope["headers"]] == [
        (b"host", b"example.com"),
        (b"x-one", b"1"),
        (b"x-one", b"2"),
        (b"x-empty", b""),
    ]
    assert tuple(scope["client"]) == client.address
    assert tuple(scope["server"]) == server.address
    assert isinstance(scope["server"][1], int)
    assert act.scope["asgi"]["spec_version"] in ("2.3", "2.4", "2.5")
    await act.answer()


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        (b"/", "/", b"/", b""),
        (b"/a%20b/%E2%9C%93?x=%20&y", "/a b/\u2713", b"/a%20b/%E2%9C%93", b"x=%20&y"),
        (b"/a%2Fb", "/a/b", b"/a%2Fb", b""),
        (b"/a+b", "/a+b", b"/a+b", b""),
        (b"/?", "/", b"/", b""),
        (b"/?a?b", "/", b"/", b"a?b"),
        (b"//double//slash/", "//double//slash/", b"//double//slash/", b""),
        (b"/a/../b", "/a/../b", b"/a/../b", b""),
        (b"/a:b@c;d=e", "/a:b@c;d=e", b"/a:b@c;d=e", b""),
        (b"http://example.com/x%20y?q=1", "/x y", b"/x%20y", b"q=1"),
        (b"HTTP://example.com:80/x", "/x", b"/x", b""),
        (b"http://example.com", "/", None, b""),
        (b"http://example.com?q=1", "/", None, b"q=1"),
        (b"/http://example.com/x", "/http://example.com/x", b"/http://example.com/x", b""),
    ],
)
async def test_target(serve, stage, connect, target, path, raw_path, query):
    client = await connect(await serve(stage))
    await client.raw(b"GET %s HTTP/1.1\r\nHost: example.com\r\n\r\n" % target)
    act = await stage.next()
    assert act.scope["path"] == path
    assert act.scope["query_string"] == query
    if raw_path is not None:
        assert act.scope["raw_path"] == raw_path
    await act.answer()
    assert (await client.response()).status == 200


async def test_absolute_form_names_the_host(serve, stage, connect):
    """RFC 9112 section 3.2.2: the authority of the target counts, not the Host header."""
    client = await connect(await serve(stage))
    await client.raw(b"GET http://right.example/ HTTP/1.1\r\nHost: wrong.example\r\n\r\n")
    act = await stage.next()
    assert [value for name, value in act.scope["headers"] if name == b"host"] == [b"right.example"]
    await act.answer()


async def test_asterisk_form(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(b"OPTIONS * HTTP/1.1\r\nHost: example.com\r\n\r\n")
    act = await stage.next()
    assert act.scope["method"] == "OPTIONS"
    assert act.scope["path"] == "*"
    await act.answer()
    assert (await client.response()).status == 200


@pytest.mark.parametrize("target", [b"/%FF%FE", b"/%zz", b"/%", b"/%e2%9c", b"/%00"])
async def test_odd_percent_signs_do_no_harm(serve, connect, target):
    client = await connect(await serve(hello))
    await client.raw(b"GET %s HTTP/1.1\r\nHost: example.com\r\n\r\n" % target)
    assert (await client.response()).status in (200, 400)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "PURGE"])
async def test_methods(serve, stage, connect, method):
    client = await connect(await serve(stage))
    await client.raw(f"{method} / HTTP/1.1\r\nHost: example.com\r\n\r\n".encode())
    act = await stage.next()
    assert act.scope["method"] == method
    await act.answer(b"x")
    assert (await client.response(method)).body == b"x"


@pytest.mark.parametrize("line", [b"B" * 65 + b" / HTTP/1.1", b"get / HTTP/1.1", b"CONNECT example.com:443 HTTP/1.1"])
async def test_methods_that_are_not_served_get_an_answer(serve, connect, line):
    client = await connect(await serve(hello))
    await client.raw(line + b"\r\nHost: example.com:443\r\n\r\n")
    assert (await client.response()).status in (400, 405, 501)


async def test_root_path(serve, stage, connect):
    """ASGI: `path` includes `root_path`, whatever proxy took it off."""
    client = await connect(await serve(stage, root_path="/api"))
    await client.raw(b"GET /items%20x?y HTTP/1.1\r\nHost: example.com\r\n\r\n")
    act = await stage.next()
    assert act.scope["root_path"] == "/api"
    assert act.scope["path"] == "/api/items x"
    assert act.scope["query_string"] == b"y"
    await act.answer()


async def test_get_has_an_empty_body(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(GET)
    act = await stage.next()
    message = await act.receive()
    assert message["type"] == "http.request"
    assert message.get("body", b"") == b""
    assert message.get("more_body", False) is False
    await act.answer()


async def test_default_headers(serve, connect):
    server = await serve(hello, headers=(("X-Frame-Options", "DENY"), ("x-b", "2")))
    response = await (await connect(server)).get()
    assert response.header("server") == "flowserve"
    assert response.header("x-frame-options") == "DENY"
    assert response.header("x-b") == "2"
    sent = parsedate_to_datetime(response.header("date"))
    assert abs(sent.timestamp() - time.time()) < 3


async def test_default_headers_off(serve, connect):
    response = await (await connect(await serve(hello, server_header=False, date_header=False))).get()
    assert response.header("server") is None
    assert response.header("date") is None


async def test_default_headers_give_way_to_the_apps(serve, connect):
    app = responder(200, [(b"date", b"yesterday"), (b"server", b"mine"), (b"content-length", b"0")])
    response = await (await connect(await serve(app))).get()
    assert response.all("date") == ["yesterday"]
    assert response.all("server") == ["mine"]


async def test_date_is_refreshed(serve, connect):
    client = await connect(await serve(hello))
    dates = {(await client.get()).header("date")}
    deadline = time.monotonic() + 5
    while len(dates) < 2:
        assert time.monotonic() < deadline, "the date stands still"
        dates.add((await client.get()).header("date"))
        await asyncio.sleep(0.02)
    assert abs(parsedate_to_datetime((await client.get()).header("date")).timestamp() - time.time()) < 3


@pytest.mark.parametrize("status", [200, 201, 299, 404, 418, 500, 599])
async def test_status(serve, connect, status):
    client = await connect(await serve(responder(status, [(b"content-length", b"0")])))
    assert (await client.get()).status == status


async def test_empty_lines_before_the_request(serve, connect):
    """RFC 9112 section 2.2."""
    client = await connect(await serve(hello))
    await client.raw(b"\r\n\r\n" + GET)
    assert (await client.response()).body == b"hello"


async def test_request_in_segments_of_one_byte(serve, stage, connect):
    client = await connect(await serve(stage))
    task = asyncio.ensure_future(
        client.dribble(
            b"POST /a%20b?q=1 HTTP/1.1\r\nHost: example.com\r\nX-Long: some value \r\nContent-Length: 5\r\n\r\nhello"
        )
    )
    act = await stage.next()
    assert act.scope["path"] == "/a b"
    assert act.scope["query_string"] == b"q=1"
    assert (b"x-long", b"some value") in [tuple(header) for header in act.scope["headers"]]
    assert await act.read() == b"hello"
    await act.answer(b"ok")
    assert (await client.response()).body == b"ok"
    await task


# Connections


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
    client = await connect(await serve(hello, timeout_header=0.2, timeout_keep_alive=0.5))
    if before:
        await client.raw(before)
        assert (await client.response()).status == 200
    await client.raw(head)
    answer = await client.rest()
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 "))
    assert answer.endswith(b"\r\n\r\n")
    assert answer.count(b"\r\n\r\n") == 1


async def test_a_head_that_is_too_slow_behind_a_head(serve, connect):
    client = await connect(await serve(hello, timeout_header=0.2))
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


# The client leaves


async def send_until_refused(act: Act) -> OSError:
    """Send parts of a body until that raises: the end of a client's writing says nothing yet of its reading."""
    try:
        while True:
            await act.body(b"x" * 1000, more=True)
            await asyncio.sleep(0)
    except OSError as error:
        return error


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["leave", "reset"])
async def test_disconnect(serve, stage, connect, how):
    """ASGI: http.disconnect, again and again; what is sent then goes nowhere, and is no error: middleware that reports
    errors would report each download that is broken off."""
    client = await connect(await serve(stage))
    await client.raw(GET)
    act = await stage.next()
    assert (await act.receive())["type"] == "http.request"
    getattr(client, how)()
    for _ in range(3):
        assert await act.receive() == {"type": "http.disconnect"}
    await act.start()
    for _ in range(300):
        await act.body(b"x" * 1000, more=True)
    await act.body()
    act.leave()
    await within(act.ended.wait())


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["leave", "reset"])
async def test_an_endless_response_to_a_client_that_left(serve, stage, connect, how):
    """After --timeout-disconnect send raises an OSError, which may escape without an error in the log."""
    client = await connect(await serve(stage, timeout_disconnect=0.2))
    await client.raw(GET)
    act = await stage.next()
    assert (await act.receive())["type"] == "http.request"
    await act.start()
    getattr(client, how)()
    await send_until_refused(act)
    await until(lambda: act.cancelled)


@pytest.mark.both_loops
async def test_an_endless_response_to_a_client_that_left_keeps_no_core_busy(serve, stage, connect):
    """Each send pauses after some time, so that up to --timeout-disconnect there are few of them."""
    client = await connect(await serve(stage, timeout_disconnect=0.5))
    await client.raw(GET)
    act = await stage.next()
    await act.start()
    client.reset()
    while (await act.receive())["type"] != "http.disconnect":
        pass
    count = 0
    with contextlib.suppress(OSError):
        while True:
            await act.raw_send({"type": "http.response.body", "body": b"x", "more_body": True})
            count += 1
    assert 1000 <= count < 1500


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["leave", "reset"])
async def test_app_returns_when_it_learns_that_the_client_left(serve, stage, connect, how):
    """As applications do; that is no error."""
    client = await connect(await serve(stage))
    await client.raw(GET)
    act = await stage.next()
    getattr(client, how)()
    assert await act.disconnected() == {"type": "http.disconnect"}
    act.leave()
    await within(act.ended.wait())


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["leave", "reset"])
async def test_disconnect_in_the_middle_of_a_response(serve, stage, connect, how):
    client = await connect(await serve(stage, timeout_disconnect=0.2))
    await client.raw(GET)
    act = await stage.next()
    await act.start()
    await act.body(b"some", more=True)
    await client.head()
    getattr(client, how)()
    await send_until_refused(act)
    assert await act.disconnected() == {"type": "http.disconnect"}


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["leave", "half_close"])
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 10\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello"]
)
async def test_a_truncated_body_has_no_end(serve, stage, connect, framing, how):
    client = await connect(await serve(stage))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing)
    act = await stage.next()
    assert await act.receive() == {"type": "http.request", "body": b"hello", "more_body": True}
    getattr(client, how)()
    assert await act.receive() == {"type": "http.disconnect"}


async def test_disconnect_after_the_response(serve, stage, connect):
    """ASGI: once the response is sent, receive says http.disconnect, though the connection lives on."""
    client = await connect(await serve(stage))
    await client.raw(GET)
    act = await stage.next()
    await act.start(200, [(b"content-length", b"0")])
    await act.body()
    assert await act.disconnected() == {"type": "http.disconnect"}
    act.leave()
    await client.response()
    await client.raw(GET)
    await (await stage.next()).answer(b"next")
    assert (await client.response()).body == b"next"


async def test_the_app_works_on_after_its_response(serve, stage, connect):
    """As Starlette's background tasks do: the client has its whole answer meanwhile."""
    client = await connect(await serve(stage))
    await client.raw(GET)
    act = await stage.next()
    await act.start(200, [(b"content-length", b"2")])
    await act.body(b"ok")
    assert (await client.response()).body == b"ok"
    act.leave()


# Limits of a request's head


async def test_target_too_long(serve, stage, connect):
    client = await connect(await serve(stage, h1_max_header_size=2048))
    await client.raw(b"GET /" + b"a" * 4000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    response = await client.response()
    assert response.status == 414
    assert response.header("connection") == "close"
    await client.closed()
    assert stage.acts == []


@pytest.mark.parametrize(
    "head",
    [b"X-Large: " + b"a" * 4000 + b"\r\n", b"X-Some: some\r\n" * 300, b"X" * 4000 + b": a\r\n"],
    ids=["value", "many", "name"],
)
async def test_head_too_large(serve, stage, connect, head):
    client = await connect(await serve(stage, h1_max_header_size=2048, h1_max_header_count=1000))
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n")
    assert (await client.response()).status == 431
    await client.closed()
    assert stage.acts == []


@pytest.mark.parametrize(("begin", "status"), [(b"GET /", 414), (b"GET / HTTP/1.1\r\nHost: a\r\nX-Endless: ", 431)])
async def test_endless_heads_are_not_awaited(serve, connect, begin, status):
    """The answer comes at the limit, not at the end of the head."""
    client = await connect(await serve(hello, h1_max_header_size=2048))
    await client.raw(begin + b"a" * 3000)
    assert (await client.response()).status == status
    await client.closed()


async def test_too_many_headers(serve, connect):
    server = await serve(hello, h1_max_header_count=10)
    client = await connect(server)
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 9 + b"\r\n")
    assert (await client.response()).status == 200
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 10 + b"\r\n")
    assert (await client.response()).status == 431
    await client.closed()


async def test_the_limits_count_each_request_by_itself(serve, connect):
    client = await connect(await serve(hello, h1_max_header_size=1024, h1_max_header_count=4))
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 600 + b"\r\n\r\n" + GET * 20)
    for _ in range(21):
        assert (await client.response()).status == 200


async def test_a_body_does_not_count_as_head(serve, stage, connect):
    client = await connect(await serve(stage, h1_max_header_size=1024))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50000)
    act = await stage.next()
    assert len(await act.read()) == 50000
    await act.answer()
    assert (await client.response()).status == 200


async def test_endless_trailers(serve, stage, connect):
    """Ignored, but not for ever."""
    client = await connect(await serve(stage, h1_max_header_size=2048))
    await client.raw(CHUNKED_POST + b"1\r\nx\r\n0\r\n" + b"X-Trailer: some\r\n" * 10_000)
    assert (await client.response()).status in (400, 431)
    await client.closed()


async def test_head_too_slow(serve, stage, connect):
    client = await connect(await serve(stage, timeout_header=0.2))
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n")
    assert (await client.response()).status == 408
    await client.closed()
    assert stage.acts == []


async def test_dripping_does_not_buy_time(serve, connect):
    client = await connect(await serve(hello, timeout_header=0.4))

    async def drip():
        await client.raw(b"GET / HTTP/1.1\r\n")
        while True:
            await client.raw(b"a: b\r\n")
            await asyncio.sleep(0.05)

    dripping = asyncio.ensure_future(drip())
    assert (await client.response()).status == 408
    dripping.cancel()
    await asyncio.wait({dripping})
    if not dripping.cancelled():
        assert isinstance(dripping.exception(), ConnectionError)


async def test_second_head_too_slow(serve, connect):
    client = await connect(await serve(hello, timeout_header=0.2))
    assert (await client.get()).status == 200
    await client.raw(b"GET / HT")
    assert (await client.response()).status == 408
    await client.closed()


async def test_silence_is_not_awaited(serve, connect):
    client = await connect(await serve(hello, timeout_header=0.2, timeout_keep_alive=0.2))
    assert (await client.rest())[:12] in (b"", b"HTTP/1.1 408")


async def test_silent_clients_block_nobody(serve, connect):
    server = await serve(hello)
    for data in (b"", b"G", b"GET / HTTP/1.1\r\n"):
        for _ in range(5):
            await (await connect(server)).raw(data)
    assert (await (await connect(server)).get()).status == 200


async def test_errors_speak_plainly(serve, connect):
    client = await connect(await serve(hello))
    await client.raw(b"nonsense\r\n\r\n")
    response = await client.response()
    assert response.status == 400
    assert response.header("content-type").startswith("text/plain")
    assert response.header("connection") == "close"
    assert response.header("content-length") == str(len(response.body))
    await client.closed()


async def test_an_error_waits_for_its_turn(serve, stage, connect):
    """The answers before it in the pipeline go out first, and in full."""
    client = await connect(await serve(stage))
    await client.raw(GET + GET + b"nonsense\r\n\r\n")
    first = await stage.next()
    await first.start()
    await first.body(b"one", more=True)
    await first.body(b"two")
    first.leave()
    assert (await client.response()).body == b"onetwo"
    await (await stage.next()).answer(b"second")
    assert (await client.response()).body == b"second"
    assert (await client.response()).status == 400
    await client.closed()


# What an application does wrong


@pytest.mark.app_fails
async def test_raise_before_the_response(serve, connect, logs):
    async def app(scope, receive, send):
        raise ValueError("a secret of the application")

    client = await connect(await serve(app))
    response = await client.get()
    assert response.status == 500
    assert b"secret" not in response.body
    assert any(record.exc_info and record.exc_info[0] is ValueError for record in logs.records)


@pytest.mark.app_fails
@pytest.mark.parametrize("headers", [[], [(b"content-length", b"10")]], ids=["chunked", "content-length"])
async def test_raise_in_the_middle(serve, connect, headers):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        raise ValueError("a secret of the application")

    client = await connect(await serve(app))
    await client.raw(GET)
    assert (await client.head()).status == 200
    assert await client.rest() == (b"some" if headers else b"4\r\nsome\r\n")


@pytest.mark.app_fails
async def test_raise_after_start_alone(serve, connect):
    """The start waits for the body in some servers; then a 500 is as good as a cut."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        raise ValueError("a secret of the application")

    client = await connect(await serve(app))
    await client.raw(GET)
    data = await client.rest()
    assert b"secret" not in data
    assert data[:12] in (b"", b"HTTP/1.1 200", b"HTTP/1.1 500")
    assert b"0\r\n\r\n" not in data


@pytest.mark.app_fails
async def test_raise_after_the_response(serve, connect):
    async def app(scope, receive, send):
        await hello(scope, receive, send)
        raise ValueError("too late to tell")

    client = await connect(await serve(app))
    assert (await client.get()).body == b"hello"


@pytest.mark.app_fails
async def test_return_without_a_response(serve, connect):
    async def app(scope, receive, send):
        return

    assert (await (await connect(await serve(app))).get()).status == 500


@pytest.mark.app_fails
async def test_return_in_the_middle(serve, connect):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})

    client = await connect(await serve(app))
    await client.raw(GET)
    assert (await client.head()).status == 200
    assert await client.rest() == b"4\r\nsome\r\n"


EVIL = b"evil"


@pytest.mark.app_fails
@pytest.mark.parametrize(
    "header",
    [
        (b"x-a", b"1\r\nx-evil: 1"),
        (b"x-a", b"1\nx-evil: 1"),
        (b"x-a", b"1\rx-evil: 1"),
        (b"x-a", b"evil\x00"),
        (b"x-a", b"\r\n\r\nevil"),
        (b"x-evil\r\nx-b", b"1"),
        (b"x-evil\n", b"1"),
        (b"x-evil\x00", b"1"),
        (b"x-evil ", b"1"),
        (b"x evil", b"1"),
        (b"x-evil:", b"1"),
        (b"", b"evil"),
        ("x-evil", b"1"),
        (b"x-a", "evil"),
        (b"content-length", b"evil"),
        (b"content-length", b"-1"),
        (b"content-length", b"+5"),
    ],
)
async def test_bad_headers_never_reach_the_wire(serve, connect, header):
    client = await connect(await serve(responder(200, [(b"x-good", b"1"), header], [b"hello"])))
    await client.raw(GET)
    response = await client.response()
    assert response.status == 500
    assert EVIL not in response.body
    assert "x-good" not in [name for name, _ in response.headers]


@pytest.mark.app_fails
@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"5"), (b"content-length", b"6")],
        [(b"content-length", b"5"), (b"Content-Length", b"5"), (b"content-length", b"4")],
        [(b"content-length", b"5, 6")],
    ],
)
async def test_conflicting_lengths_never_reach_the_wire(serve, connect, headers):
    client = await connect(await serve(responder(200, headers, [b"hello"])))
    assert (await client.get()).status == 500


@pytest.mark.app_fails
@pytest.mark.parametrize("status", [None, "200", 99, 1000, -1, 20.5])
async def test_bad_status_never_reaches_the_wire(serve, connect, status):
    client = await connect(await serve(responder(status)))
    assert (await client.get()).status == 500


async def start_with(act: Act, header: tuple[bytes, bytes]) -> None:
    """The start may wait for the first part of the body."""
    await act.start(200, [header])
    await act.body(b"hello")


@pytest.mark.app_fails
async def test_bad_headers_raise_in_the_app(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(GET)
    act = await stage.next()
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        await start_with(act, (b"x-a", b"1\r\nx-evil: 1"))
    act.leave()
    assert (await client.response()).status == 500


@pytest.mark.app_fails
async def test_more_than_the_length(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(GET)
    act = await stage.next()
    await act.start(200, [(b"content-length", b"5")])
    await act.body(b"hel", more=True)
    with pytest.raises(RuntimeError):
        await act.body(b"loEVIL")
    act.leave()
    await client.head()
    data = await client.rest()
    assert b"hello".startswith(data)


@pytest.mark.app_fails
async def test_more_than_the_length_at_once(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(GET)
    act = await stage.next()
    await act.start(200, [(b"content-length", b"5")])
    with pytest.raises(RuntimeError):
        await act.body(b"helloEVIL")
    act.leave()
    data = await client.rest()
    assert b"EVIL" not in data


@pytest.mark.app_fails
async def test_less_than_the_length(serve, connect):
    client = await connect(await serve(responder(200, [(b"content-length", b"10")], [b"he", b"llo"])))
    await client.raw(GET + GET)
    assert (await client.head()).header("content-length") == "10"
    assert b"hello".startswith(await client.rest())


@pytest.mark.app_fails
@pytest.mark.parametrize(
    "message",
    [
        {"type": "http.response.body", "body": b"evil"},
        {"type": "websocket.accept"},
        {"type": "http.response.evil"},
        {"body": b"evil"},
    ],
    ids=["body first", "accept", "unknown", "no type"],
)
async def test_wrong_first_message(serve, connect, message):
    async def app(scope, receive, send):
        await send(message)

    response = await (await connect(await serve(app))).get()
    assert response.status == 500
    assert EVIL not in response.body


async def test_messages_out_of_place_raise(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(GET)
    act = await stage.next()
    with pytest.raises(RuntimeError):
        await act.body(b"evil")
    await act.start(200, [(b"content-length", b"5")])
    with pytest.raises(RuntimeError):
        await act.start()
    await act.body(b"hello")
    with pytest.raises(RuntimeError):
        await act.body(b"evil")
    with pytest.raises(RuntimeError):
        await act.start()
    act.leave()
    assert (await client.response()).body == b"hello"


@pytest.mark.app_fails
async def test_other_connections_survive_a_failing_app(serve, connect):
    async def app(scope, receive, send):
        if scope["path"] == "/fail":
            raise ValueError("as asked")
        await hello(scope, receive, send)

    server = await serve(app)
    good, bad = await connect(server), await connect(server)
    for _ in range(3):
        assert (await bad.get("/fail")).status == 500
        bad = await connect(server)
        assert (await good.get()).body == b"hello"


# --limit-concurrency


async def held(stage, connect, server) -> Act:
    client = await connect(server)
    await client.raw(GET)
    return await stage.next()


async def test_limit_concurrency(serve, stage, connect):
    server = await serve(stage, limit_concurrency=2)
    acts = [await held(stage, connect, server) for _ in range(2)]
    client = await connect(server)
    response = await client.get()
    assert response.status == 503
    assert response.header("content-length") == str(len(response.body))
    assert len(stage.acts) == 2
    for act in acts:
        await act.answer()
    stage_task = asyncio.ensure_future(serve_all(stage))
    await free_again(connect, server)
    stage_task.cancel()


async def serve_all(stage):
    while True:
        act = await stage.next()
        if act.scope["type"] == "http":
            await act.answer(b"free")


async def free_again(connect, server):
    """Ask until a request is served: a place is free a moment after the last answer was read."""
    for _ in range(500):
        client = await connect(server)
        response = await client.get("/", "Connection: close")
        if response.status == 200:
            return
        assert response.status == 503
        await asyncio.sleep(0.01)
    raise AssertionError("no place became free")


async def test_limit_concurrency_counts_websockets(serve, stage, connect):
    """Open WebSockets take places; one too many of either kind gets a 503 and no more."""
    server = await serve(stage, limit_concurrency=1)
    one = await connect(server)
    upgrading = asyncio.ensure_future(one.upgrade())
    act = await stage.next()
    await act.accept()
    await upgrading
    assert (await (await connect(server)).get()).status == 503
    two = await connect(server)
    response = await two.get(
        "/",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    assert response.status == 503
    assert len(stage.acts) == 1
    await one.send_close(1000)
    assert (await act.disconnected())["code"] == 1000
    act.leave()
    stage_task = asyncio.ensure_future(serve_all(stage))
    await free_again(connect, server)
    stage_task.cancel()


# The access log


async def test_access_log(serve, connect, logs):
    client = await connect(await serve(hello))
    await client.get("/a%20b?q=1")
    await until(lambda: bool(logs.lines("flowserve.access")))
    (line,) = logs.lines("flowserve.access")
    for words in (":".join(map(str, client.address)), "GET /a%20b?q=1 HTTP/1.1", "200"):
        assert words in line
    assert [r.levelno for r in logs.records if r.name == "flowserve.access"] == [logging.INFO]


async def test_access_log_off(serve, connect, logs):
    client = await connect(await serve(hello, access_log=False))
    await client.get()
    await client.get()
    assert logs.lines("flowserve.access") == []


async def test_access_log_has_one_line_a_request(serve, connect, logs):
    client = await connect(await serve(hello))
    await client.raw(GET * 5)
    for _ in range(5):
        await client.response()
    await until(lambda: len(logs.lines("flowserve.access")) >= 5)
    assert len(logs.lines("flowserve.access")) == 5
