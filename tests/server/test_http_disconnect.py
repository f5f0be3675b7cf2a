"""Clients that leave: what the application learns of it, and when."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from support.helpers import Act, until, within
from support.requests import GET


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
