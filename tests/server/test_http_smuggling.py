"""Requests that two parsers could read in two ways: 400 and close, at once and byte by byte, and the rest never runs.

After RFC 9112 sections 2.2, 3.2, 5.1, 5.2, 6.1 to 6.3, 7.1 and 11.2.
"""

from __future__ import annotations

import asyncio
import logging
import ssl

import pytest

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Reading:
    """An application that reads the whole body and answers with it, and notes what it was asked."""

    def __init__(self):
        self.asked = []

    async def __call__(self, scope, receive, send):
        self.asked.append(scope["path"])
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: a", *lines, b"", b""]) + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


FRAMING = {
    "length repeated": post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "length conflicting": post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"),
    "length zero and other": post(b"Content-Length: 0", b"Content-Length: 5", body=b"hello"),
    "length list": post(b"Content-Length: 5, 5", body=b"hello"),
    "length list conflicting": post(b"Content-Length: 5, 6", body=b"hello!"),
    "length plus": post(b"Content-Length: +5", body=b"hello"),
    "length minus": post(b"Content-Length: -5", body=b"hello"),
    "length hexadecimal": post(b"Content-Length: 0x5", body=b"hello"),
    "length underscore": post(b"Content-Length: 1_0", body=b"hellohello"),
    "length with a space inside": post(b"Content-Length: 1 0", body=b"hellohello"),
    "length empty": post(b"Content-Length:", body=b"hello"),
    "length word": post(b"Content-Length: five", body=b"hello"),
    "length fraction": post(b"Content-Length: 5.0", body=b"hello"),
    "length over 64 bits": post(b"Content-Length: 18446744073709551621", body=b"hello"),
    "length of many digits": post(b"Content-Length: " + b"9" * 100, body=b"hello"),
    "length of foreign digits": post("Content-Length: \u0665".encode(), body=b"hello"),
    "length with a control character": post(b"Content-Length: \x0b5", body=b"hello"),
    "length and chunked": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunked and length": post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    "length zero and chunked": post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "chunked on two lines": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunked then identity": post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "chunked then identity, lines": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
    "chunked not last": post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"),
    "chunked with a control character": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}

CODINGS = {
    "identity": post(b"Transfer-Encoding: identity", body=b"hello"),
    "gzip": post(b"Transfer-Encoding: gzip", body=b"hello"),
    "gzip, chunked": post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "xchunked": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "chunked with parameter": post(b"Transfer-Encoding: chunked;x=y", body=b"0\r\n\r\n"),
    "chunked quoted": post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
    "chunked with a comma before": post(b"Transfer-Encoding: ,chunked", body=b"0\r\n\r\n"),
    "empty": post(b"Transfer-Encoding:", body=b"hello"),
}

CHUNKS = {
    "size word": chunked(b"g\r\nhello\r\n0\r\n\r\n"),
    "size minus": chunked(b"-1\r\nhello\r\n0\r\n\r\n"),
    "size plus": chunked(b"+5\r\nhello\r\n0\r\n\r\n"),
    "size 0x": chunked(b"0x5\r\nhello\r\n0\r\n\r\n"),
    "size underscore": chunked(b"1_0\r\nhellohellohello!\r\n0\r\n\r\n"),
    "size empty": chunked(b"\r\nhello\r\n0\r\n\r\n"),
    "size over 64 bits": chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "size of many digits": chunked(b"f" * 40 + b"\r\nhello\r\n0\r\n\r\n"),
    "space before the size": chunked(b" 5\r\nhello\r\n0\r\n\r\n"),
    "space after the size": chunked(b"5 \r\nhello\r\n0\r\n\r\n"),
    "bare LF after the size": chunked(b"5\nhello\r\n0\r\n\r\n"),
    "bare CR after the size": chunked(b"5\rhello\r\n0\r\n\r\n"),
    "bare LF in an extension": chunked(b"5;a\nhello\r\n0\r\n\r\n"),
    "bare CR in an extension": chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    "extension without a name": chunked(b"5;\r\nhello\r\n0\r\n\r\n"),
    "extension that does not end": chunked(b'5;a="b\r\nhello\r\n0\r\n\r\n'),
    "extension of two words": chunked(b"5;a b\r\nhello\r\n0\r\n\r\n"),
    "NUL in an extension": chunked(b"5;a\x00b\r\nhello\r\n0\r\n\r\n"),
    "bare LF after the data": chunked(b"5\r\nhello\n0\r\n\r\n"),
    "nothing after the data": chunked(b"5\r\nhello0\r\n\r\n"),
    "more data than the size": chunked(b"5\r\nhello!\r\n0\r\n\r\n"),
    "bare LF at the end": chunked(b"0\n\n"),
    "bare LF in the trailers": chunked(b"0\r\nA: b\nC: d\r\n\r\n"),
    "space before a trailer's colon": chunked(b"0\r\nA : b\r\n\r\n"),
    "folded trailer": chunked(b"0\r\nA: b\r\n c\r\n\r\n"),
}

LINES = {
    "bare CR before the method": b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "bare LF before the method": b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "bare LF behind an empty line": b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces after the method": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "RTSP": b"POST / RTSP/1.0\r\n\r\n",
    "RTSP's own method": b"SETUP / RTSP/1.0\r\nHost: a\r\n\r\n",
    "ICE": b"SOURCE / ICE/1.0\r\n\r\n",
    "bare LF everywhere": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF after a header": b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "bare LF at the end": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR after the request line": b"GET / HTTP/1.1\rHost: a\r\n\r\n",
    "bare CR in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rz: 1\r\n\r\n",
    "bare CR at the end of a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n",
    "bare CR in a name": b"GET / HTTP/1.1\r\nHost: a\r\nX\r: y\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    "tab before the colon": b"GET / HTTP/1.1\r\nHost: a\r\nX\t: y\r\n\r\n",
    "space before the colon of a length": post(b"Content-Length : 5", body=b"hello"),
    "obs-fold with a space": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
    "obs-fold with a tab": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n",
    "obs-fold of a length": post(b"Content-Length:", b" 5", body=b"hello"),
    "a space before the first header": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
    "space in a name": b"GET / HTTP/1.1\r\nHost: a\r\nX Y: y\r\n\r\n",
    "parenthesis in a name": b"GET / HTTP/1.1\r\nHost: a\r\nX(Y: y\r\n\r\n",
    "quote in a name": b'GET / HTTP/1.1\r\nHost: a\r\nX"Y: y\r\n\r\n',
    "high byte in a name": b"GET / HTTP/1.1\r\nHost: a\r\nX\xffY: y\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\nHost: a\r\nX\x00Y: y\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x00z\r\n\r\n",
    "control character in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x01z\r\n\r\n",
    "vertical tab in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: \x0by\r\n\r\n",
    "DEL in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x7fz\r\n\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab in the target": b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n",
    "NUL in the target": b"GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n",
    "control character in the target": b"GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n",
    "DEL in the target": b"GET /a\x7fb HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab after the method": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target that is no path": b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "control character in the method": b"G\x01ET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)) + b"\r\n\r\n",
    "Host missing": b"GET / HTTP/1.1\r\nX: y\r\n\r\n",
    "Host alone missing": b"GET / HTTP/1.1\r\n\r\n",
    "Host repeated": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "Host conflicting": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: b\r\n\r\n",
    "Host repeated in HTTP/1.0": b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "Host with a space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "Host with a user": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "Host list": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "Host missing with an absolute target": b"GET http://a/ HTTP/1.1\r\n\r\n",
}

VERSIONS = [
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"HTTP/3.0",
    b"HTTP/1.10",
    b"HTTP/11",
    b"http/1.1",
    b"HTTP/1",
    b"HTTP/ 1.1",
    b"XXX",
]

EVERY = {**FRAMING, **CHUNKS, **LINES}


@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "bytewise"])
@pytest.mark.parametrize("request_bytes", EVERY.values(), ids=EVERY.keys())
async def test_refused(serve, connect, request_bytes, bytewise):
    app = Reading()
    client = await connect(await serve(app))
    evil = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
    task = asyncio.ensure_future((client.dribble if bytewise else client.raw)(request_bytes + evil))
    response = await client.response()
    assert response.status == 400
    assert response.header("connection") == "close"
    await client.closed()
    assert "/evil" not in app.asked
    await asyncio.wait({task})


@pytest.mark.parametrize("request_bytes", CODINGS.values(), ids=CODINGS.keys())
async def test_transfer_codings_that_are_not_known(serve, connect, request_bytes):
    """400, or 501 as RFC 9112 section 6.1 suggests; in any case the end of the connection."""
    app = Reading()
    client = await connect(await serve(app))
    await client.raw(request_bytes + b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.response()).status in (400, 501)
    await client.closed()
    assert app.asked == []


@pytest.mark.parametrize("version", VERSIONS)
async def test_versions_that_are_not_known(serve, connect, version):
    app = Reading()
    client = await connect(await serve(app))
    await client.raw(b"GET / " + version + b"\r\nHost: a\r\n\r\n" + GET)
    assert (await client.response()).status in (400, 505)
    await client.closed()
    assert app.asked == []


async def test_a_later_minor_version_is_served_as_11(serve, connect):
    """RFC 9110 section 2.5."""
    client = await connect(await serve(Reading()))
    later = post(b"Content-Length: 5", body=b"hello").replace(b"HTTP/1.1", b"HTTP/1.2")
    for send in (client.raw, client.dribble):
        await send(later)
        assert (await client.response()).body == b"hello"
    await client.raw(later + GET)
    assert (await client.response()).body == b"hello"
    assert (await client.response()).body == b""


@pytest.mark.parametrize("method", ["QUERY", "FOO", "GETX", "SETUP", "X-CACHE"])
async def test_any_method_is_the_applications_matter(serve, stage, connect, logs, method):
    """RFC 9110 section 9.1: a token; 501 or 405 for one that is not known is the application's to say."""
    client = await connect(await serve(stage, metrics=None))
    request = post(b"Content-Length: 5", body=b"hello").replace(b"POST", method.encode())
    for send in (client.raw, client.dribble):
        await send(request)
        act = await stage.next()
        assert act.scope["method"] == method
        assert await act.read() == b"hello"
        await act.answer(b"not that", 501)
        response = await client.response()
        assert (response.status, response.header("connection")) == (501, None)
    assert f'"{method} / HTTP/1.1" 501' in logs.lines("flowserve.access")[0]
    await client.raw(request + GET)
    act = await stage.next()
    await act.answer()
    assert (await client.response()).status == 200
    act = await stage.next()
    assert act.scope["method"] == "GET"
    await act.answer()
    assert (await client.response()).status == 200


async def test_no_version(serve, connect):
    app = Reading()
    client = await connect(await serve(app))
    await client.raw(b"GET /\r\n\r\n")
    assert (await client.response()).status in (400, 505)
    await client.closed()


FOREIGN = {
    "http2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 505, "HTTP/2", "HTTP/1.1"),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "TLS", "--ssl-certfile"),
    "proxy v1": (b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n" + GET, 400, "PROXY", "--proxy-protocol"),
    "proxy v2": (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0" + GET, 400, "PROXY", "--proxy-protocol"),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "bytewise"])
@pytest.mark.parametrize(("data", "status", "name", "advice"), FOREIGN.values(), ids=FOREIGN.keys())
async def test_another_protocol(serve, connect, logs, data, status, name, advice, bytewise):
    """Who set it up wrongly reads what to change, once: nobody can flood the log."""
    app = Reading()
    server = await serve(app)
    for _ in range(3):
        client = await connect(server)
        task = asyncio.ensure_future((client.dribble if bytewise else client.raw)(data))
        response = await client.response()
        assert response.status == status
        assert name in response.body.decode()
        await client.closed()
        await asyncio.wait({task})
    [line] = logs.lines(level=logging.WARNING)
    assert name in line
    assert advice in line
    assert app.asked == []


async def test_clients_that_want_tls_or_http2(serve, connect, logs):
    """As Python's ssl says hello, and nghttp2 and the clients built on it."""
    server = await serve(Reading())
    with pytest.raises(ssl.SSLError):
        await connect(server, ssl=ssl.create_default_context(), server_hostname="localhost")
    assert "--ssl-certfile" in logs.lines(level=logging.WARNING)[0]


@pytest.mark.parametrize(
    "host", [b"a", b"a:8000", b"127.0.0.1", b"[::1]", b"[::1]:8000", b"xn--bcher-kva.example", b"a_b.example", b"a."]
)
async def test_hosts_that_are_fine(serve, connect, host):
    client = await connect(await serve(Reading()))
    await client.raw(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
    assert (await client.response()).status == 200


@pytest.mark.parametrize(
    "header",
    [
        b"X-Tab: a\tb",
        b"X-High: \xe9\xff",
        b"X-Quote: \"a\" 'b'",
        b"X-Empty:",
        b"X-Spaces:   a b   ",
        b"!#$%&'*+-.^_`|~09azAZ: token",
        b"Content-Length: 0",
        b"Content-Length: 000",
    ],
)
async def test_headers_that_are_fine(serve, connect, header):
    client = await connect(await serve(Reading()))
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n" + header + b"\r\n\r\n" + GET)
    assert (await client.response()).status == 200
    assert (await client.response()).status == 200


async def test_length_with_leading_zeros_is_decimal(serve, connect):
    client = await connect(await serve(Reading()))
    await client.raw(post(b"Content-Length: 0010", body=b"hellohello") + GET)
    assert (await client.response()).body == b"hellohello"
    assert (await client.response()).body == b""


async def test_a_request_in_a_body_is_a_body(serve, connect):
    app = Reading()
    client = await connect(await serve(app))
    evil = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
    await client.raw(post(b"Content-Length: %d" % len(evil), body=evil) + GET)
    assert (await client.response()).body == evil
    assert (await client.response()).body == b""
    assert app.asked == ["/", "/"]


async def test_a_get_may_have_a_body(serve, connect):
    app = Reading()
    client = await connect(await serve(app))
    await client.raw(b"GET /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + GET)
    assert (await client.response()).body == b"hello"
    assert (await client.response()).body == b""
    assert app.asked == ["/1", "/"]


@pytest.mark.parametrize("upgrade", [b"h2c", b"TLS/1.0", b"foo/2", b"websocket2", b"h2c, foo"])
async def test_upgrades_to_something_else_hide_no_request(serve, connect, upgrade):
    """Parsers stop at an Upgrade header; what follows is still HTTP."""
    app = Reading()
    client = await connect(await serve(app))
    lines = (b"Upgrade: " + upgrade, b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABkAAQAAP__")
    await client.raw(post(*lines, b"Content-Length: 5", body=b"hello"))
    assert (await client.response()).body == b"hello"
    await client.raw(post(*lines, b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n") + GET)
    assert (await client.response()).body == b"hello"
    assert (await client.response()).body == b""
    assert app.asked == ["/", "/", "/"]
