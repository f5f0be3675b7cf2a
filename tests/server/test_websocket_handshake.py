"""The opening handshake, RFC 6455 section 4, and the ASGI events up to accept or denial."""

from __future__ import annotations

import asyncio
import logging

import pytest
from support.helpers import BINARY, CLOSE, TEXT, UPGRADE, echo, frame, hello, until, within

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
LINES = b"Host: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


async def refused(serve, stage, connect, request: bytes):
    """The response to a handshake that no application may see."""
    client = await connect(await serve(stage))
    await client.raw(request)
    response = await client.response()
    assert stage.acts == []
    return response


async def opened(serve, stage, connect, request: bytes, **accept):
    """The act and the client behind a handshake that succeeds."""
    client = await connect(await serve(stage))
    await client.raw(request)
    act = await stage.next()
    await act.accept(**accept)
    head = await client.head()
    assert head.status == 101
    return act, client, head


@pytest.mark.both_loops
async def test_response_on_the_wire(serve, stage, connect):
    client = await connect(await serve(stage, server_header=False, date_header=False))
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.accept()
    line = await client.line()
    assert line == b"HTTP/1.1 101 Switching Protocols\r\n"
    lines = set()
    while (line := await client.line()) != b"\r\n":
        lines.add(line.lower())
    assert lines == {
        b"upgrade: websocket\r\n",
        b"connection: upgrade\r\n",
        b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n",
    }


async def test_scope(serve, stage, connect):
    server = await serve(stage, root_path="/api")
    client = await connect(server)
    await client.raw(
        b"GET /chat%20room/%E2%9C%93?a=b%20 HTTP/1.1\r\n" + LINES + VERSION + KEY + b"X-One: 1\r\nx-one: 2\r\n\r\n"
    )
    act = await stage.next()
    scope = dict(act.scope)
    raw_path = scope.pop("raw_path")
    assert raw_path.endswith(b"/chat%20room/%E2%9C%93")
    assert [tuple(header) for header in scope.pop("headers")] == [
        (b"host", b"example.com"),
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"x-one", b"1"),
        (b"x-one", b"2"),
    ]
    assert tuple(scope.pop("client")) == client.address
    assert tuple(scope.pop("server")) == server.address
    assert scope.pop("state") == {}
    assert scope["extensions"].pop("flowserve.topics").session is None  # before it is accepted
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/api/chat room/\u2713",
        "query_string": b"a=b%20",
        "root_path": "/api",
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}, "flowserve.draining": {}, "flowserve.compress": {}},
    }


async def test_state_comes_from_the_lifespan(serve, connect):
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            scope["state"]["database"] = "open"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            seen.append(dict(scope["state"]))
            scope["state"]["mine"] = 1
            await (hello if scope["type"] == "http" else echo)(scope, receive, send)

    server = await serve(app, lifespan="on")
    for _ in range(2):
        await (await connect(server)).upgrade()
        assert (await (await connect(server)).get()).status == 200
    assert seen == [{"database": "open"}] * 4


@pytest.mark.parametrize(
    "lines",
    [
        b"Host: a\r\nUPGRADE: WebSocket\r\nCONNECTION: UPGRADE\r\n",
        b"Host: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n",
        b"Host: a\r\nUpgrade: websocket\r\nConnection: keep-alive ,\tuPGRADE\r\n",
        b"Host: a\r\nUpgrade: websocket\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n",
        b"Host: a\r\nUpgrade: h2c, websocket\r\nConnection: Upgrade\r\n",
        b"Host: a\r\nUpgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        b"Upgrade: websocket\r\nConnection: ,Upgrade,\r\nHost: a\r\n",
    ],
)
async def test_token_lists_in_any_case(serve, stage, connect, lines):
    await opened(serve, stage, connect, b"GET / HTTP/1.1\r\n" + lines + VERSION + KEY + b"\r\n")


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"Sec-WebSocket-Key:\r\n",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA\r\n",  # 15 bytes
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA=\r\n",  # 17 bytes
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n",  # no padding
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ==\r\n",
        b"Sec-WebSocket-Key: !GhlIHNhbXBsZSBub25jZQ==\r\n",
        b"Sec-WebSocket-Key: dGhlIHNhbXBs ZSBub25jZQ==\r\n",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==\r\n",
        b"Sec-WebSocket-Key: \xff\xfe\xfd\r\n",
        KEY + KEY,
        KEY + b"Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n",
    ],
)
async def test_key(serve, stage, connect, key):
    response = await refused(serve, stage, connect, b"GET / HTTP/1.1\r\n" + LINES + VERSION + key + b"\r\n")
    assert response.status == 400
    assert response.header("content-type").startswith("text/plain")
    assert response.body
    assert response.header("sec-websocket-accept") is None


@pytest.mark.parametrize(
    "version", [b"0", b"7", b"8", b"12", b"14", b"99", b"-13", b"013", b"13, 8", b"13.0", b"x", b""]
)
async def test_version(serve, stage, connect, version):
    """RFC 6455 sections 4.2.2 and 4.4: the answer names the version that is spoken here."""
    line = b"Sec-WebSocket-Version: " + version + b"\r\n"
    response = await refused(serve, stage, connect, b"GET / HTTP/1.1\r\n" + LINES + line + KEY + b"\r\n")
    assert response.status == 426
    assert response.header("sec-websocket-version") == "13"


async def test_no_version(serve, stage, connect):
    response = await refused(serve, stage, connect, b"GET / HTTP/1.1\r\n" + LINES + KEY + b"\r\n")
    assert response.status in (400, 426)


async def test_version_wins_over_the_key(serve, stage, connect):
    """Hixie's drafts had other keys: who speaks another version is told so first."""
    response = await refused(
        serve,
        stage,
        connect,
        b"GET / HTTP/1.1\r\n" + LINES + b"Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: x\r\n\r\n",
    )
    assert response.status == 426
    assert response.header("sec-websocket-version") == "13"


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE"])
async def test_method(serve, stage, connect, method):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE.replace(b"GET", method))
    assert 400 <= (await client.response(method.decode())).status < 500
    assert stage.acts == []


async def test_http_1_0(serve, stage, connect):
    response = await refused(serve, stage, connect, UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert 400 <= response.status < 500


@pytest.mark.parametrize("host", [b"", b"Host: a\r\nHost: a\r\n", b"Host: a b\r\n"])
async def test_host(serve, stage, connect, host):
    response = await refused(serve, stage, connect, UPGRADE.replace(b"Host: example.com\r\n", host))
    assert response.status == 400


@pytest.mark.parametrize(
    "lines",
    [
        b"Connection: Upgrade\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
        b"Upgrade: websocket2\r\nConnection: Upgrade\r\n",
    ],
)
async def test_other_upgrades_are_plain_http(serve, connect, lines):
    client = await connect(await serve(hello))
    for _ in range(2):
        await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + KEY + VERSION + b"\r\n")
        response = await client.response()
        assert (response.status, response.body) == (200, b"hello")


@pytest.mark.parametrize(
    "lines",
    [
        b"Upgrade: websocket\r\n",
        b"Upgrade: websocket\r\nConnection: keep-alive\r\n",
        b"Upgrade: websocket\r\nConnection: Upgraded\r\n",
    ],
)
async def test_upgrade_without_the_connection_token(serve, connect, lines):
    """RFC 6455 section 4.2.1: that is no WebSocket handshake."""
    client = await connect(await serve(hello))
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + KEY + VERSION + b"\r\n")
    assert (await client.response()).status in (200, 400)


@pytest.mark.parametrize(
    ("lines", "offered"),
    [
        (b"Sec-WebSocket-Protocol: chat\r\n", ["chat"]),
        (b"Sec-WebSocket-Protocol: chat.v2, chat.v1 ,\tx\r\n", ["chat.v2", "chat.v1", "x"]),
        (b"Sec-WebSocket-Protocol: a\r\nX: y\r\nSec-WebSocket-Protocol: b, C\r\n", ["a", "b", "C"]),
    ],
)
async def test_subprotocols(serve, stage, connect, lines, offered):
    request = UPGRADE[:-2] + lines + b"\r\n"
    act, _, head = await opened(serve, stage, connect, request, subprotocol=offered[-1])
    assert list(act.scope["subprotocols"]) == offered
    assert head.header("sec-websocket-protocol") == offered[-1]


@pytest.mark.parametrize("fields", [{}, {"subprotocol": None}])
async def test_no_subprotocol_chosen(serve, stage, connect, fields):
    request = UPGRADE[:-2] + b"Sec-WebSocket-Protocol: chat\r\n\r\n"
    _, _, head = await opened(serve, stage, connect, request, **fields)
    assert head.header("sec-websocket-protocol") is None


@pytest.mark.parametrize("offer", [b"", b"Sec-WebSocket-Protocol: chat, Other\r\n"])
async def test_a_subprotocol_that_is_not_offered(serve, stage, connect, logs, offer):
    """RFC 6455 section 4.1: the client would have to fail the connection. Told once for each, whoever comes."""
    server = await serve(stage)
    for chosen in ("graphql-ws", "other", "graphql-ws", "other"):
        client = await connect(server)
        await client.raw(UPGRADE[:-2] + offer + b"\r\n")
        act = await stage.next()
        await act.accept(subprotocol=chosen)
        assert (await client.head()).header("sec-websocket-protocol") is None
        await client.send_text("hello")
        assert await act.receive() == {"type": "websocket.receive", "text": "hello"}
    lines = logs.lines(level=logging.WARNING)
    assert [[name in line for name in ("'graphql-ws'", "'other'")] for line in lines] == [[True, False], [False, True]]
    assert not [line for line in logs.lines("flowserve.access") if "subprotocol" in line]


async def test_subprotocols_that_are_not_offered_do_not_flood(serve, stage, connect, logs):
    client_count = 110
    server = await serve(stage)
    for number in range(client_count):
        client = await connect(server)
        await client.raw(UPGRADE)
        await (await stage.next()).accept(subprotocol=f"p{number}")
        await client.head()
    assert len(logs.lines(level=logging.WARNING)) == 100


async def test_accept_headers(serve, stage, connect):
    headers = [(b"set-cookie", b"a=1"), (b"x-other", b"\xe9"), (b"set-cookie", b"b=2")]
    _, _, head = await opened(serve, stage, connect, UPGRADE, headers=headers)
    assert head.all("set-cookie") == ["a=1", "b=2"]
    assert head.header("x-other") == "\xe9"


async def test_default_headers(serve, stage, connect):
    client = await connect(await serve(stage, headers=(("x-default", "1"),)))
    await client.raw(UPGRADE)
    await (await stage.next()).accept()
    head = await client.head()
    assert head.header("x-default") == "1"
    assert head.header("content-length") is None
    assert head.header("transfer-encoding") is None


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": [(b"x-a", b"1\r\nx-evil: 1")]},
        {"headers": [(b"x-evil\n", b"1")]},
        {"headers": [(b"x-a", b"evil\x00")]},
        {"subprotocol": "a\r\nx-evil: 1"},
        {"subprotocol": ""},
        {"subprotocol": "evil chat"},
        {"subprotocol": "ev\xedl"},
        {"subprotocol": b"evil"},
    ],
)
async def test_bad_accept_headers_never_reach_the_wire(serve, stage, connect, fields):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    act = await stage.next()
    with pytest.raises((RuntimeError, ValueError)):
        await act.accept(**fields)
    await act.close()
    response = await client.response()
    assert response.status == 403
    assert not [name for name, _ in response.headers if "evil" in name]


@pytest.mark.parametrize(
    "offer",
    [
        b"permessage-deflate",
        b"permessage-deflate; client_max_window_bits",
        b'x-unknown; a="b"; c; d=e, permessage-deflate; server_max_window_bits=10, permessage-deflate',
        b"x-unknown",
        b"permessage-deflate; server_max_window_bits=99",
        b"permessage-deflate; unknown_parameter",
    ],
)
async def test_extension_offers_do_no_harm(serve, connect, offer):
    """What is not understood is not agreed to; the echo is uncompressed from this client's side in any case."""
    client = await connect(await serve(echo))
    head = await client.upgrade("/", "Sec-WebSocket-Extensions: " + offer.decode())
    answer = head.header("sec-websocket-extensions")
    assert answer is None or answer.startswith("permessage-deflate")
    assert answer is None or "unknown" not in answer
    await client.send_text("hello")
    reply = await client.frame()
    assert reply.opcode == TEXT
    assert answer is not None or (reply.rsv, reply.payload) == (0, b"hello")


@pytest.mark.parametrize("deflate", [True, False])
@pytest.mark.parametrize("offer", [b"permessage-deflate;", b'a; b="', b"permessage-deflate; x==1", b"a b", b""])
async def test_malformed_extensions(serve, stage, connect, offer, deflate):
    """RFC 6455 section 9.1, whether there is compression or not."""
    client = await connect(await serve(stage, ws_per_message_deflate=deflate))
    await client.raw(UPGRADE[:-2] + b"Sec-WebSocket-Extensions: " + offer + b"\r\n\r\n")
    response = await client.response()
    assert (response.status, b"Sec-WebSocket-Extensions" in response.body) == (400, True)
    assert stage.acts == []


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 4\r\n\r\nbody", b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"],
    ids=["length", "chunked"],
)
async def test_a_handshake_has_no_body(serve, stage, connect, body, bytewise):
    """Else what comes behind it would be frames or a body, as the segments fall."""
    client = await connect(await serve(stage))
    sent = UPGRADE[:-2] + body + frame(TEXT, b"x")
    task = asyncio.ensure_future((client.dribble if bytewise else client.raw)(sent))
    response = await client.response()
    assert (response.status, response.header("connection")) == (400, "close")
    await client.closed()
    await asyncio.wait({task})
    assert stage.acts == []


# Frames beside the handshake


@pytest.mark.both_loops
async def test_frames_in_the_same_segment(serve, stage, connect):
    frames = frame(TEXT, b"one") + frame(BINARY, b"two") + frame(TEXT, b"three", fin=False)
    act, client, _ = await opened(serve, stage, connect, UPGRADE + frames)
    assert await act.receive() == {"type": "websocket.receive", "text": "one"}
    assert await act.receive() == {"type": "websocket.receive", "bytes": b"two"}
    await client.raw(frame(0, b" and more"))
    assert await act.receive() == {"type": "websocket.receive", "text": "three and more"}


@pytest.mark.both_loops
async def test_frames_while_the_app_decides(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    act = await stage.next()
    assert await act.receive() == {"type": "websocket.connect"}
    await client.raw(frame(TEXT, b"early"))
    await client.raw(frame(TEXT, b"bird"))
    await act.send({"type": "websocket.accept"})
    await client.head()
    assert await act.receive() == {"type": "websocket.receive", "text": "early"}
    assert await act.receive() == {"type": "websocket.receive", "text": "bird"}


async def test_messages_sent_with_the_accept_follow_it(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.accept()
    await act.send_text("welcome")
    assert (await client.head()).status == 101
    assert await client.message() == "welcome"


async def test_close_frame_while_the_app_decides(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE + frame(CLOSE, b"\x0f\xa1bye"))
    act = await stage.next()
    await act.accept()
    assert await act.receive() == {"type": "websocket.disconnect", "code": 4001, "reason": "bye"}
    await client.head()
    assert (await client.close_frame())[0] == 4001


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["leave", "reset"])
async def test_client_leaves_while_the_app_decides(serve, stage, connect, how):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    act = await stage.next()
    assert await act.receive() == {"type": "websocket.connect"}
    getattr(client, how)()
    message = await act.receive()
    assert message["type"] == "websocket.disconnect"
    assert message["code"] == 1006
    with pytest.raises(OSError) as caught:
        await act.send({"type": "websocket.accept"})
    act.fail(caught.value)


async def test_handshake_in_segments_of_one_byte(serve, connect):
    client = await connect(await serve(echo))
    task = asyncio.ensure_future(client.dribble(UPGRADE + frame(TEXT, b"hello")))
    assert (await client.head()).status == 101
    assert await client.message() == "hello"
    await task


async def test_handshake_after_requests(serve, connect):
    async def app(scope, receive, send):
        await (hello if scope["type"] == "http" else echo)(scope, receive, send)

    client = await connect(await serve(app))
    await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2 + UPGRADE + frame(TEXT, b"hello"))
    assert (await client.response()).body == b"hello"
    assert (await client.response()).body == b"hello"
    assert (await client.head()).status == 101
    assert await client.message() == "hello"


async def test_the_keep_alive_timeout_ends_with_http(serve, stage, connect):
    client = await connect(await serve(stage, timeout_keep_alive=0.2, timeout_header=0.2, timeout_handshake=0.2))
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.accept()
    await client.head()
    await asyncio.sleep(0.6)  # longer than the timeouts: that time is what is tested
    await client.send_text("still here")
    assert await act.receive() == {"type": "websocket.receive", "text": "still here"}


# No


async def test_close_before_accept(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.receive()
    await act.close(4000, "a reason that HTTP has no place for")
    act.leave()
    assert (await client.response()).status == 403


async def test_close_without_taking_connect(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.close()
    act.leave()
    assert (await client.response()).status == 403


async def test_denial(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.receive()
    headers = [(b"content-type", b"text/plain"), (b"www-authenticate", b"Basic"), (b"content-length", b"9")]
    await act.send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await act.send({"type": "websocket.http.response.body", "body": b"who's you"})
    act.leave()
    response = await client.response()
    assert (response.status, response.body) == (401, b"who's you")
    assert response.header("www-authenticate") == "Basic"
    assert response.header("upgrade") is None


async def test_denial_streamed(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.receive()
    await act.send({"type": "websocket.http.response.start", "status": 404, "headers": []})
    await act.send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
    assert (await client.head()).status == 404
    await client.expect(b"4\r\nnot \r\n")
    await act.send({"type": "websocket.http.response.body", "body": b"here", "more_body": True})
    await client.expect(b"4\r\nhere\r\n")
    await act.send({"type": "websocket.http.response.body"})
    act.leave()
    await client.expect(b"0\r\n\r\n")


async def test_denial_without_headers_or_body(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.send({"type": "websocket.http.response.start", "status": 503})
    await act.send({"type": "websocket.http.response.body"})
    act.leave()
    response = await client.response()
    assert (response.status, response.body) == (503, b"")


async def test_the_end_after_a_denial(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.receive()
    await act.send({"type": "websocket.http.response.start", "status": 401, "headers": []})
    await act.send({"type": "websocket.http.response.body", "body": b"no"})
    assert (await client.response()).body == b"no"
    client.leave()
    assert (await act.receive())["type"] == "websocket.disconnect"
    assert (await act.receive())["type"] == "websocket.disconnect"


@pytest.mark.app_fails
async def test_raise_in_the_middle_of_a_denial(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.send({"type": "websocket.http.response.start", "status": 401, "headers": []})
    await act.send({"type": "websocket.http.response.body", "body": b"some", "more_body": True})
    act.fail(ValueError("a secret of the application"))
    assert (await client.head()).status == 401
    assert await client.rest() == b"4\r\nsome\r\n"


async def deny_with(act, header):
    """The start may wait for the first part of the body."""
    await act.send({"type": "websocket.http.response.start", "status": 401, "headers": [header]})
    await act.send({"type": "websocket.http.response.body", "body": b""})


@pytest.mark.app_fails
@pytest.mark.parametrize("header", [(b"x-a", b"1\r\nx-evil: 1"), (b"x-evil\r\n", b"1")])
async def test_bad_denial_headers_never_reach_the_wire(serve, stage, connect, header):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    act = await stage.next()
    with pytest.raises((RuntimeError, ValueError)) as caught:
        await deny_with(act, header)
    act.fail(caught.value)
    response = await client.response()
    assert response.status == 500
    assert b"evil" not in response.body


@pytest.mark.app_fails
async def test_raise_before_accept(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    (await stage.next()).fail(ValueError("a secret of the application"))
    response = await client.response()
    assert response.status == 500
    assert b"secret" not in response.body


@pytest.mark.app_fails
async def test_return_before_accept(serve, stage, connect):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    (await stage.next()).leave()
    assert (await client.response()).status == 500


@pytest.mark.app_fails
async def test_handshake_timeout(serve, stage, connect):
    """An application that neither accepts nor denies: an error for the client, the end for the application."""
    client = await connect(await serve(stage, timeout_handshake=0.2))
    await client.raw(UPGRADE)
    act = await stage.next()
    response = await client.response()
    assert 500 <= response.status < 600
    await client.closed()
    if not act.cancelled:
        assert (await act.disconnected())["code"] == 1006
        with pytest.raises(OSError):
            await act.send({"type": "websocket.accept"})
        act.leave()


# Events out of their place


@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.send", "text": "early"},
        {"type": "websocket.http.response.body", "body": b"early"},
        {"type": "http.response.start", "status": 200, "headers": []},
        {"type": "websocket.evil"},
    ],
)
async def test_wrong_first_message_raises(serve, stage, connect, message):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.receive()
    with pytest.raises(RuntimeError):
        await act.send(message)
    await act.send({"type": "websocket.accept"})
    assert (await client.head()).status == 101


@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.accept"},
        {"type": "websocket.http.response.start", "status": 401, "headers": []},
        {"type": "http.response.start", "status": 200, "headers": []},
        {"type": "websocket.evil"},
        {"type": "websocket.send"},
        {"type": "websocket.send", "text": None, "bytes": None},
        {"type": "websocket.send", "text": b"not text"},
        {"type": "websocket.send", "bytes": "not bytes"},
        {"type": "websocket.close", "code": 1006},
        {"type": "websocket.close", "code": 999},
        {"type": "websocket.close", "code": 70000},
    ],
)
async def test_wrong_message_after_accept_raises(serve, stage, connect, message):
    act, client, _ = await opened(serve, stage, connect, UPGRADE)
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        await act.send(message)
    await act.send_text("unharmed")
    assert await client.message() == "unharmed"


async def test_silent_and_slow_clients_block_nobody(serve, connect):
    server = await serve(echo)
    for data in (b"", UPGRADE[:20], UPGRADE[:-2]):
        for _ in range(5):
            await (await connect(server)).raw(data)
    client = await connect(server)
    await client.upgrade()
    await client.send_text("hello")
    assert await client.message() == "hello"


async def test_unbounded_handshake_header(serve, stage, connect):
    client = await connect(await serve(stage, h1_max_header_size=4096))
    await client.raw(UPGRADE[:-2] + b"X-Endless: " + b"a" * 8192)
    assert (await client.response()).status == 431
    await client.closed()
    assert stage.acts == []


# The access log


async def test_access_log_of_a_denial(serve, stage, connect, logs):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE.replace(b"GET / ", b"GET /secret?x=1 "))
    act = await stage.next()
    await act.close()
    act.leave()
    assert (await client.response()).status == 403
    await until(lambda: bool(logs.lines("flowserve.access")))
    (line,) = logs.lines("flowserve.access")
    assert "/secret?x=1" in line
    assert "403" in line


async def test_access_log_of_a_websocket(serve, stage, connect, logs):
    server = await serve(stage)
    client = await connect(server)
    upgrading = asyncio.ensure_future(client.upgrade("/chat?x=1", "Sec-WebSocket-Protocol: talk.v1"))
    act = await stage.next()
    await act.accept(subprotocol="talk.v1")
    await within(upgrading)
    (line,) = logs.lines("flowserve.access")
    for words in (":".join(map(str, client.address)), "/chat?x=1", "talk.v1"):
        assert words in line

    await client.send_text("x" * 101)
    await client.send_frame(BINARY, b"y" * 102)
    await act.receive()
    await act.receive()
    await act.send_text("z" * 307)
    assert await client.message() == "z" * 307
    await client.send_close(4001, "bye")
    await act.disconnected()
    act.leave()
    await client.close_frame()
    await client.closed()
    await until(lambda: len(logs.lines("flowserve.access")) == 2)
    line = logs.lines("flowserve.access")[1]
    for words in (":".join(map(str, client.address)), "/chat?x=1", "4001", "in 2 messages 203B", "out 1 message 307B"):
        assert words in line


async def test_access_log_of_an_abrupt_end(serve, stage, connect, logs):
    client = await connect(await serve(stage))
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.accept()
    await client.head()
    client.leave()
    assert (await act.disconnected())["code"] == 1006
    act.leave()
    await until(lambda: len(logs.lines("flowserve.access")) == 2)
    assert "1006" in logs.lines("flowserve.access")[1]


async def test_access_log_off(serve, stage, connect, logs):
    client = await connect(await serve(stage, access_log=False))
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.accept()
    await client.head()
    await client.send_close(1000)
    await act.disconnected()
    act.leave()
    await client.close_frame()
    await client.closed()
    assert logs.lines("flowserve.access") == []
