"""What an application does wrong over HTTP: it never reaches the wire, and no other connection."""

from __future__ import annotations

import pytest
from support.helpers import Act, hello
from support.requests import GET, responder


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
