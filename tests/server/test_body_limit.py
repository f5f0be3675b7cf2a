"""--limit-request-body, and that a refusal reaches a client that is still sending."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
import trustme
from support.helpers import Client, within
from support.requests import CHUNKED_POST

from flowserve.server import h1_response_stream

LIMIT = 1000


def post(size: int, *headers: bytes) -> bytes:
    return b"\r\n".join((b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % size, *headers, b"", b""))


async def test_a_length_above_the_limit(serve: Any, stage: Any, connect: Any, logs: Any) -> None:
    """The application does not see the request; the log does."""
    client = await connect(await serve(stage, limit_request_body=LIMIT))
    await client.raw(post(LIMIT + 1, b"Expect: 100-continue"))
    response = await client.response()
    assert (response.status, response.header("connection")) == (413, "close")
    assert response.body == b"The request body is too large; the limit is 1000 bytes"
    assert stage.acts == []
    assert any('"POST / HTTP/1.1" 413' in line for line in logs.lines("flowserve.access"))


async def test_as_large_as_the_limit(serve: Any, stage: Any, connect: Any) -> None:
    client = await connect(await serve(stage, limit_request_body=LIMIT))
    for head, body in ((post(LIMIT), b"x" * LIMIT), (CHUNKED_POST, b"3e8\r\n" + b"x" * LIMIT + b"\r\n0\r\n\r\n")):
        await client.raw(head + body)
        act = await stage.next()
        assert len(await act.read()) == LIMIT
        await act.answer()
        assert (await client.response()).status == 200


async def test_chunks_above_the_limit(serve: Any, stage: Any, connect: Any, logs: Any) -> None:
    """The application has begun to read; it is told that the client has left."""
    client = await connect(await serve(stage, limit_request_body=LIMIT))
    await client.raw(CHUNKED_POST + b"3e8\r\n" + b"x" * LIMIT + b"\r\n")
    act = await stage.next()
    assert len((await act.receive())["body"]) == LIMIT
    await client.raw(b"1\r\nx\r\n")
    assert (await client.response()).status == 413
    assert (await act.receive())["type"] == "http.disconnect"
    act.leave()
    assert any('"POST / HTTP/1.1" 413' in line for line in logs.lines("flowserve.access"))


async def test_chunks_above_the_limit_behind_a_response_that_has_begun(serve: Any, stage: Any, connect: Any) -> None:
    client = await connect(await serve(stage, limit_request_body=LIMIT))
    await client.raw(CHUNKED_POST)
    act = await stage.next()
    await act.start()
    await act.body(b"begun", more=True)
    assert (await client.head()).status == 200
    await client.raw(b"3e9\r\n" + b"x" * (LIMIT + 1) + b"\r\n")
    assert (await act.receive())["type"] == "http.disconnect"
    assert b"0\r\n\r\n" not in await client.rest()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


async def upload(client: Client, seconds: float) -> None:
    """Send a part of a body now and then, as over a slow line."""
    for _ in range(round(seconds / 0.05)):
        await client.raw(b"x" * 100)
        await asyncio.sleep(0.05)


@pytest.mark.both_loops
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("by_app", [False, True], ids=["by the server", "by the application"])
async def test_a_refusal_reaches_a_client_that_reads_when_it_has_sent_all(
    serve: Any, stage: Any, connect: Any, monkeypatch: Any, tmp_path: Any, authority: Any, secure: bool, by_app: bool
) -> None:
    """The connection is not reset while the client sends, though that takes longer than LINGER and the keep-alive."""
    monkeypatch.setattr(h1_response_stream, "LINGER", 0.2)
    options: dict[str, Any] = {"timeout_keep_alive": 0.1} if by_app else {"limit_request_body": LIMIT}
    client_options = {}
    if secure:
        pem = tmp_path / "both.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
        import ssl

        context = ssl.create_default_context()
        authority.configure_trust(context)
        options["ssl_certfile"] = str(pem)
        client_options = {"ssl": context, "server_hostname": "localhost"}
    client = await connect(await serve(stage, **options), **client_options)
    await client.raw(post(100_000))
    if by_app:
        act = await stage.next()
        await act.answer(b"too large", 413)
    await within(upload(client, 0.5))
    assert (await client.response()).status == 413
    await client.closed()


async def test_an_endless_upload_is_not_dropped_for_ever(
    serve: Any, stage: Any, connect: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(h1_response_stream, "LINGER", 0.1)
    monkeypatch.setattr(h1_response_stream, "MAX_LINGER", 0.3)
    client = await connect(await serve(stage, limit_request_body=LIMIT))
    await client.raw(post(10_000_000_000))
    with contextlib.suppress(ConnectionError):
        await upload(client, 8.0)
        raise AssertionError("it goes on and on")
