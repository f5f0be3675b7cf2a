"""What other servers were seen to get wrong; each line is a test.

Most of these are corners of behaviour that the tests in server/ cover from all sides:

    defect elsewhere                                            test, in tests/server/
    ----------------------------------------------------------  -------------------------------------------------------
    keepalive kills the client of a slow application            test_websocket_backpressure.py
                                                                  test_keepalive_does_not_kill_the_client_of_a_slow_app
    no backpressure: all is swallowed while nobody receives     test_websocket_backpressure.py and
    no backpressure: all is buffered while nobody reads         test_http_backpressure.py: test_slow_...
    SIGTERM: bare TCP close, or 1011 after a while              test_shutdown.py test_command_signal
    a slow consumer holds up the others                         test_websocket_backpressure.py
                                                                  test_slow_clients_slow_down_nobody_else
    an open WebSocket has no idle timeout                       test_websocket_backpressure.py test_idle_timeout
    inherited sockets of the right family                       test_embedding.py test_fd_of_another_family
    denial responses can't be streamed                          test_websocket_handshake.py test_denial_streamed
    Upgrade and Connection not checked                          test_websocket_handshake.py test_token_lists_in_any_case
                                                                  and test_upgrade_without_the_connection_token
    handshake header without a bound                            test_websocket_handshake.py
                                                                  test_unbounded_handshake_header
    receive() loses a message when it is cancelled              test_websocket.py test_cancelled_receives_lose_nothing
    ping floods grow memory                                     test_websocket_backpressure.py
                                                                  test_ping_flood_grows_nothing

Inflation without a bound, peers' window bits taken unchecked, swapped deflate parameters and RSV1 on every fragment are
properties of flowserve/websocket/deflate.py and tested beside it.
"""

from __future__ import annotations

import time
import tracemalloc

import pytest
from support.helpers import BINARY, CONTINUATION, TEXT, UPGRADE, echo, frame, hello, until, within


@pytest.fixture
async def pair(serve, stage, connect):
    """`act, client = await pair(**options)`: both ends of an open WebSocket."""

    async def open_pair(**options):
        client = await connect(await serve(stage, **options))
        await client.raw(UPGRADE)
        act = await stage.next()
        await act.accept()
        assert (await client.head()).status == 101
        return act, client

    return open_pair


@pytest.fixture
async def asked(serve, stage, connect):
    """`act, client = await asked(request)`: a WebSocket that the application has not answered yet."""

    async def ask(request: bytes = UPGRADE, **options):
        client = await connect(await serve(stage, **options))
        await client.raw(request)
        act = await stage.next()
        assert await act.receive() == {"type": "websocket.connect"}
        return act, client

    return ask


async def test_frame_in_the_segment_of_the_upgrade_is_lost(serve, connect):
    client = await connect(await serve(echo))
    await client.raw(UPGRADE + frame(TEXT, b"hello"))
    assert (await client.head()).status == 101
    assert await client.message() == "hello"


@pytest.mark.app_fails
async def test_app_raises_after_accept_and_tcp_just_ends(pair):
    act, client = await pair()
    act.fail(ValueError)
    assert (await client.close_frame())[0] == 1011


async def test_app_returns_and_tcp_just_ends_or_stays_open(pair):
    act, client = await pair()
    act.leave()
    assert (await client.close_frame())[0] == 1000
    await client.send_close(1000)
    await client.closed()


async def test_peers_code_and_reason_are_lost(pair):
    act, client = await pair()
    await client.send_close(4001, "bye")
    assert await act.receive() == {"type": "websocket.disconnect", "code": 4001, "reason": "bye"}


async def test_abrupt_end_is_1005(pair):
    act, client = await pair()
    client.leave()
    assert (await act.receive())["code"] == 1006


async def test_close_without_a_code_is_not_1005(pair):
    act, client = await pair()
    await client.send_close()
    assert (await act.receive())["code"] == 1005


@pytest.mark.parametrize("end", ["close", "leave", "violation"])
async def test_send_after_the_end_is_swallowed(pair, end):
    """Right: a subclass of OSError, and no error in the log when the application lets it through."""
    act, client = await pair()
    if end == "close":
        await client.send_close(1000)
    elif end == "leave":
        client.leave()
    else:
        await client.raw(frame(TEXT, b"x", mask=None))
    await act.disconnected()
    with pytest.raises(OSError) as caught:
        await act.send_text("too late")
    act.fail(caught.value)
    await within(act.ended.wait())


async def test_receive_after_the_end_hangs(pair):
    act, client = await pair()
    await client.send_close(4001, "bye")
    first = await act.receive()
    assert first["type"] == "websocket.disconnect"
    for _ in range(3):
        assert await act.receive() == first


async def test_utf8_is_checked_at_the_end_of_the_message(pair):
    act, client = await pair()
    await client.raw(frame(TEXT, b"\xff" + b"x" * 10_000)[:20])
    assert (await client.close_frame())[0] == 1007
    assert (await act.receive())["code"] == 1007


@pytest.mark.parametrize("data", [frame(3), frame(TEXT, rsv=4), frame(CONTINUATION, b"x")])
async def test_protocol_errors_are_answered_without_a_word(pair, data):
    _, client = await pair()
    await client.raw(data)
    code, reason = await client.close_frame()
    assert code == 1002
    assert reason


async def test_accept_headers_are_ignored(asked):
    act, client = await asked()
    await act.send({"type": "websocket.accept", "headers": [(b"x-mine", b"1")]})
    assert (await client.head()).header("x-mine") == "1"


async def test_empty_messages_are_dropped(pair):
    act, client = await pair()
    await client.raw(frame(TEXT) + frame(BINARY))
    assert await act.receive() == {"type": "websocket.receive", "text": ""}
    assert await act.receive() == {"type": "websocket.receive", "bytes": b""}
    await act.send({"type": "websocket.send", "text": ""})
    await act.send({"type": "websocket.send", "bytes": b""})
    assert await client.message() == ""
    assert await client.message() == b""


async def test_bytearray_is_refused(pair):
    act, client = await pair()
    await act.send({"type": "websocket.send", "bytes": bytearray(b"abc")})
    assert await client.message() == b"abc"


async def test_ports_are_strings(pair):
    act, _ = await pair()
    assert [type(act.scope[end][1]) for end in ("client", "server")] == [int, int]


async def test_denial_hangs_or_refuses_more_body(asked):
    act, client = await asked()
    await act.send({"type": "websocket.http.response.start", "status": 401, "headers": []})
    await act.send({"type": "websocket.http.response.body", "body": b"a", "more_body": True})
    await act.send({"type": "websocket.http.response.body", "body": b"b"})
    response = await client.response()
    assert (response.status, response.body) == (401, b"ab")


@pytest.mark.app_fails
async def test_app_raises_before_accept_and_the_answer_is_403(asked):
    act, client = await asked()
    act.fail(ValueError)
    assert (await client.response()).status == 500


@pytest.mark.parametrize(
    "request_bytes",
    [
        UPGRADE.replace(b"GET", b"POST"),
        UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        UPGRADE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="),
    ],
    ids=["POST", "HTTP/1.0", "key"],
)
async def test_bad_handshake_is_accepted(serve, connect, request_bytes):
    client = await connect(await serve(echo))
    await client.raw(request_bytes)
    assert 400 <= (await client.response()).status < 500


async def test_wrong_version_is_not_told_the_right_one(serve, connect):
    client = await connect(await serve(echo))
    await client.raw(UPGRADE.replace(b"Version: 13", b"Version: 8"))
    response = await client.response()
    assert response.status == 426
    assert response.header("sec-websocket-version") == "13"


async def test_limit_concurrency_counts_websockets_only_against_http(serve, open_ws, connect):
    async def app(scope, receive, send):
        await (hello if scope["type"] == "http" else echo)(scope, receive, send)

    server = await serve(app, limit_concurrency=2)
    await open_ws(server)
    assert (await (await connect(server)).get()).status == 200
    await open_ws(server)
    client = await connect(server)
    await client.raw(UPGRADE)
    assert (await client.response()).status == 503


async def test_websocket_line_goes_to_the_error_logger_and_there_is_no_close_line(pair, logs):
    act, client = await pair()
    await client.send_text("12345")
    await act.receive()
    await client.send_close(4001)
    await act.disconnected()
    act.leave()
    await until(lambda: len(logs.lines("flowserve.access")) == 2)
    assert "4001" in logs.lines("flowserve.access")[1]
    assert "1 message 5B" in logs.lines("flowserve.access")[1]
    assert not [line for line in logs.lines("flowserve") if "WebSocket" in line]


# The seed's


async def test_maximum_size_is_not_applied_to_unfragmented_messages(pair):
    _, client = await pair(ws_max_size=10)
    await client.raw(frame(TEXT, b"x" * 11))
    assert (await client.close_frame())[0] == 1009


async def test_buffer_is_allocated_from_the_header(serve, open_ws):
    server = await serve(echo, ws_max_size=16 * 1024 * 1024)
    clients = [await open_ws(server) for _ in range(20)]
    tracemalloc.start()
    try:
        for client in clients:
            await client.raw(frame(BINARY, b"", length=16 * 1024 * 1024))
            await client.raw(b"x")
        last = await open_ws(server)
        await last.send_text("the others were read before this")
        await last.message()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


async def test_mask_rule_is_not_enforced(pair):
    act, client = await pair()
    await client.raw(frame(TEXT, b"hello", mask=None))
    assert (await client.close_frame())[0] == 1002
    assert (await act.receive())["type"] == "websocket.disconnect"


async def test_extension_offers_with_commas_are_not_understood(serve, connect, open_ws):
    """Within quotation marks a comma makes them malformed (RFC 6455 section 9.1), and no offer of what stands there."""
    server = await serve(echo)
    client = await open_ws(server, "/", 'Sec-WebSocket-Extensions: x; a="1"; b, y')
    await client.send_text("hello")
    assert await client.message() == "hello"
    client = await connect(server)
    line = b'Sec-WebSocket-Extensions: x; a="1, permessage-deflate; 2", y\r\n'
    await client.raw(UPGRADE[:-2] + line + b"\r\n")
    assert (await client.response()).status == 400


async def test_one_silent_client_blocks_the_handshakes_of_all(serve, connect, open_ws):
    server = await serve(echo)
    for _ in range(3):
        await connect(server)
    client = await open_ws(server)
    await client.send_text("hello")
    assert await client.message() == "hello"


async def test_close_sleeps_instead_of_waiting_for_the_peer(pair):
    act, client = await pair(ws_close_timeout=5)
    begin = time.monotonic()
    await act.close(1000)
    assert (await client.close_frame())[0] == 1000
    await client.send_close(1000)
    await client.closed()
    assert (await act.disconnected())["code"] == 1000
    assert time.monotonic() - begin < 0.4
