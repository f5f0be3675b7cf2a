"""HTTP/1.1 end to end: what the application is given, and what stands on the wire."""

from __future__ import annotations

import asyncio
import logging
import time
from email.utils import parsedate_to_datetime

import pytest
from support.helpers import hello, until
from support.requests import GET, responder

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
