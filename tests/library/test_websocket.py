"""The face that users see: receiving, sending, pings and the end, in both roles, against a peer in literal bytes."""

from __future__ import annotations

import asyncio
import enum
import gc
import ssl
import time
import weakref
from typing import Any

import pytest
import trustme
from support.ends import open_ends, raw_server
from support.helpers import BINARY, CLOSE, PING, PONG, TEXT, Frame, close_payload, frame, until, within

from flowserve.client.connect import connect
from flowserve.errors import (
    AlreadyClosed,
    Close,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidText,
    PayloadTooBig,
    ProtocolError,
)
from flowserve.library.properties import session_of
from flowserve.library.websocket import WebSocket
from flowserve.websocket.constants import State

roles = pytest.mark.parametrize("role", ["client", "server"])
both_loops = pytest.mark.both_loops
SOON = 0.05
"""Seconds; long enough for what happens at once, on whatever machine, to have happened."""


def bare(role: str, *frames: tuple[int, bytes]) -> bytes:
    """Frames as the peer of `role` has to send them."""
    return b"".join(frame(opcode, payload, mask=None if role == "client" else b"abcd") for opcode, payload in frames)


def task(coroutine):
    return asyncio.get_running_loop().create_task(coroutine)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# Receiving


@both_loops
@roles
async def test_messages_both_ways(role):
    async with open_ends(role) as (ws, peer):
        await peer.raw(bare(role, (TEXT, "für dich".encode()), (BINARY, b"\0\xff")))
        assert await within(ws.receive()) == "für dich"
        assert await within(ws.recv()) == b"\0\xff"
        await ws.send("für mich")
        await ws.send(b"\x01")
        await ws.send(bytearray(b"\x02"))
        await ws.send(memoryview(b"123456")[::2])
        assert await peer.frame() == Frame(TEXT, "für mich".encode())
        assert [(await peer.frame()).payload for _ in range(3)] == [b"\x01", b"\x02", b"135"]


async def test_decode_and_text_choose_the_type():
    async with open_ends("client") as (ws, peer):
        await peer.raw(bare("client", (TEXT, b"a"), (BINARY, b"b"), (TEXT, b"c"), (BINARY, b"\xff")))
        assert [await ws.recv(decode=False), await ws.recv(decode=True), await ws.recv(True)] == [b"a", "b", "c"]
        with pytest.raises(UnicodeDecodeError):
            await ws.recv(decode=True)
        await ws.send(b"x", text=True)
        await ws.send("y", text=False)
        assert [await peer.frame(), await peer.frame()] == [Frame(TEXT, b"x"), Frame(BINARY, b"y")]
        with pytest.raises(UnicodeDecodeError):
            await ws.send(b"\xff", text=True)


async def test_subclasses_of_str_and_bytes():
    class Word(str, enum.Enum):
        HELLO = "hello"

    class Blob(bytes):
        pass

    async with open_ends("server") as (ws, peer):
        await ws.send(Word.HELLO)
        await ws.send(Blob(b"x"))
        assert [await peer.frame(), await peer.frame()] == [Frame(TEXT, b"hello"), Frame(BINARY, b"x")]


@pytest.mark.parametrize("message", [None, 5, {"a": 1}, object()])
async def test_what_is_no_message(message):
    async with open_ends("client") as (ws, peer):
        with pytest.raises(TypeError, match=f"a message is str, bytes.*{type(message).__name__}"):
            await ws.send(message)
        await ws.send("goes on")
        assert await peer.frame() == Frame(TEXT, b"goes on")


@roles
async def test_iteration_ends_when_the_peer_closes_in_order(role):
    async with open_ends(role) as (ws, peer):
        await peer.raw(bare(role, (TEXT, b"1"), (TEXT, b"2"), (CLOSE, close_payload(1001, "moving"))))
        assert [message async for message in ws] == ["1", "2"]
        assert (ws.close_code, ws.close_reason) == (1001, "moving")
        assert await peer.close_frame() == (1001, "moving")


@roles
async def test_iteration_raises_when_the_peer_leaves(role):
    async with open_ends(role) as (ws, peer):
        await peer.raw(bare(role, (TEXT, b"1")))
        assert await anext(ws) == "1"
        peer.leave()
        with pytest.raises(ConnectionClosedError) as caught:
            await within(anext(ws))
        assert (caught.value.rcvd, caught.value.sent, caught.value.code) == (None, None, 1006)
        assert (ws.close_code, ws.close_reason, ws.state) == (1006, "", State.CLOSED)


async def test_a_reset_is_the_cause():
    async with open_ends("client") as (ws, peer):
        peer.reset()
        with pytest.raises(ConnectionClosedError) as caught:
            await within(ws.receive())
        assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_several_receivers_share_the_messages():
    async with open_ends("client") as (ws, peer):
        receivers = [task(ws.receive()) for _ in range(5)]
        await turns()
        receivers[0].cancel()
        receivers[3].cancel()
        await peer.raw(bare("client", *((TEXT, b"%d" % i) for i in range(3))))
        got = [await within(receivers[i]) for i in (1, 2, 4)]
        assert sorted(got) == ["0", "1", "2"]


async def test_cancelled_receives_lose_nothing():
    async with open_ends("client") as (ws, peer):
        seen = []
        for i in range(60):
            receiver = task(ws.receive())
            await turns(i % 5)
            await peer.raw(bare("client", (TEXT, b"%d" % i)))
            await turns(i % 7)
            receiver.cancel()
            try:
                seen.append(await receiver)
            except asyncio.CancelledError:
                pass
        while len(seen) < 60:
            seen.append(await within(ws.receive()))
        assert seen == [str(i) for i in range(60)]


# The end


@both_loops
@roles
async def test_close_waits_for_the_answer_and_for_the_connection_to_end(role):
    async with open_ends(role) as (ws, peer):
        closing = task(ws.close(4000, "done"))
        assert await peer.close_frame() == (4000, "done")
        assert ws.state == State.CLOSING
        assert ws.closed
        assert ws.close_code is None
        assert not closing.done()
        await peer.send_close(4000)
        if role == "client":  # it leaves TCP's end to the server (RFC 6455 section 7.1.1)
            await until(lambda: ws.close_code == 4000)
            assert not closing.done()
            peer.writer.close()
        await within(closing)
        assert (ws.state, ws.close_code, ws.close_reason) == (State.CLOSED, 4000, "")
        await ws.close()
        await ws.wait_closed()


@roles
@pytest.mark.parametrize("answers", [False, True])
async def test_a_peer_that_does_not_end_it_is_waited_for_no_longer_than_close_timeout(role, answers):
    if role == "server" and answers:
        return  # then the server ends it
    async with open_ends(role, close_timeout=0.1) as (ws, peer):
        if answers:
            await peer.send_close(1000)
        started = time.monotonic()
        await within(ws.close())
        assert 0.05 < time.monotonic() - started < 1
        assert ws.close_code == (1000 if answers else 1006)


@roles
async def test_who_receives_while_another_closes_learns_how_it_ended(role):
    async with open_ends(role, close_timeout=30.0) as (ws, peer):  # longer than `within` waits
        receiving = task(ws.receive())
        await turns()
        closing = task(ws.close(1000, "bye"))
        await peer.close_frame()
        await turns()
        assert not receiving.done()
        await peer.send_close(1000, "bye too")
        with pytest.raises(ConnectionClosedOK) as caught:
            await within(receiving)
        error = caught.value
        assert (error.rcvd, error.sent, error.rcvd_then_sent) == (Close(1000, "bye too"), Close(1000, "bye"), False)
        peer.leave()
        await within(closing)


@roles
async def test_what_came_before_the_close_can_still_be_received(role):
    async with open_ends(role) as (ws, peer):
        await peer.raw(bare(role, (TEXT, b"1"), (TEXT, b"2")))
        await until(lambda: session_of(ws).waiting == 2)
        closing = task(ws.close())
        await peer.close_frame()
        await peer.raw(bare(role, (TEXT, b"late"), (CLOSE, close_payload(1000))))
        peer.writer.close()
        await within(closing)
        assert [message async for message in ws] == ["1", "2", "late"]


@roles
@pytest.mark.parametrize(
    ("payload", "rcvd", "ok"),
    [
        (close_payload(1000, "bye"), Close(1000, "bye"), True),
        (close_payload(1001), Close(1001, ""), True),
        (b"", Close(1005, ""), True),
        (close_payload(4001, "no"), Close(4001, "no"), False),
        (close_payload(1011), Close(1011, ""), False),
    ],
)
async def test_errors_say_what_the_peer_said(role, payload, rcvd, ok):
    async with open_ends(role) as (ws, peer):
        await peer.raw(bare(role, (CLOSE, payload)))
        with pytest.raises(ConnectionClosedOK if ok else ConnectionClosedError) as caught:
            await within(ws.receive())
        error = caught.value
        assert (error.rcvd, error.rcvd_then_sent, error.code) == (rcvd, True, rcvd.code)
        assert error.sent == rcvd
        assert not isinstance(error, AlreadyClosed)
        with pytest.raises(AlreadyClosed) as again:  # now they know
            await ws.send("x")
        assert isinstance(again.value, type(error))


@roles
@pytest.mark.parametrize(
    ("data", "kind", "code"),
    [
        ((0x3, b""), ProtocolError, 1002),
        ((TEXT, b"\xff"), InvalidText, 1007),
        ((BINARY, b"x" * 101), PayloadTooBig, 1009),
        ((CLOSE, b"\x03"), ProtocolError, 1002),
        ((CLOSE, close_payload(1005)), ProtocolError, 1002),
        ((CLOSE, close_payload(1000) + b"\xff"), InvalidText, 1007),
    ],
)
async def test_a_broken_rule_is_the_cause(role, data, kind, code):
    async with open_ends(role, max_size=100, close_timeout=0.1) as (ws, peer):
        await peer.raw(bare(role, data))
        assert (await peer.close_frame())[0] == code
        peer.writer.close()
        for call in (ws.receive, lambda: ws.send("x"), lambda: ws.send(["x"]), ws.ping):
            with pytest.raises(ConnectionClosedError) as caught:
                await within(call())
            assert type(caught.value.__cause__) is kind
            assert caught.value.rcvd is None
            assert caught.value.sent == Close(code, str(caught.value.__cause__))


@roles
async def test_a_close_without_time_for_an_answer_is_in_order(role):
    """The connection is gone before the message in front of the close frame has been received."""
    async with open_ends(role) as (ws, peer):
        await peer.raw(bare(role, (TEXT, b"1"), (CLOSE, close_payload(1000))))
        await until(lambda: session_of(ws).waiting == 1)
        peer.reset()
        await within(ws.wait_closed())
        assert await ws.receive() == "1"
        with pytest.raises(ConnectionClosedOK) as caught:
            await ws.receive()
        assert (caught.value.rcvd, caught.value.sent) == (Close(1000, ""), None)


@roles
async def test_send_after_the_peer_has_gone(role):
    async def babble() -> None:
        while True:
            await ws.send("x")
            await asyncio.sleep(0)

    async with open_ends(role) as (ws, peer):
        peer.leave()
        with pytest.raises(ConnectionClosedError):
            await within(babble())
        with pytest.raises(AlreadyClosed):
            await ws.send("x")
        with pytest.raises(AlreadyClosed):
            await ws.ping()
        with pytest.raises(AlreadyClosed):
            await ws.send(["x"])


@roles
async def test_the_peer_stops_writing_without_a_close_frame(role):
    async with open_ends(role) as (ws, peer):
        await peer.raw(bare(role, (TEXT, b"last words")))
        peer.half_close()
        await within(ws.wait_closed())
        assert await ws.receive() == "last words"
        with pytest.raises(ConnectionClosedError):
            await ws.receive()


@both_loops
@roles
async def test_the_peer_stops_writing_behind_its_close_frame(role):
    """Its messages are answered first, and nobody waits for an end that has come already."""
    async with open_ends(role, close_timeout=5.0) as (ws, peer):
        await peer.raw(bare(role, (TEXT, b"question"), (CLOSE, close_payload(1000))))
        peer.half_close()
        await until(lambda: session_of(ws).connection.ended)
        await turns()
        async for message in ws:
            await ws.send(f"answer to {message}")
        started = time.monotonic()
        assert (await peer.frame()).payload == b"answer to question"
        assert await peer.close_frame() == (1000, "")
        await within(ws.wait_closed())
        assert time.monotonic() - started < 1


@pytest.mark.parametrize("code", [999, 1005, 1006, 1015, 2000, 5000, 1004])
async def test_codes_that_no_close_frame_carries(code):
    async with open_ends("client") as (ws, peer):
        with pytest.raises(ValueError, match=str(code)):
            await ws.close(code)
        with pytest.raises(TypeError):
            await ws.close("1000")
        with pytest.raises(TypeError):
            await ws.close(1000, b"reason")
        with pytest.raises(ValueError):
            await ws.close(1000, "\ud800")
        assert not ws.closed
        await ws.send("goes on")
        assert (await peer.frame()).payload == b"goes on"


async def test_a_long_reason_is_cut_between_characters():
    async with open_ends("client", close_timeout=0.05) as (ws, peer):
        closing = task(ws.close(1000, "ü" * 100))
        assert await peer.close_frame() == (1000, "ü" * 61)
        await within(closing)


async def test_a_cancelled_close_goes_on_and_leaves_nothing():
    async with open_ends("client") as (ws, peer):
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(ws.close(), 0.01)
        assert await peer.close_frame() == (1000, "")
        await peer.send_close(1000)
        peer.writer.close()
        await within(ws.wait_closed())
        assert ws.close_code == 1000


@roles
async def test_abort(role):
    async with open_ends(role) as (ws, peer):
        ws.abort()
        await within(ws.wait_closed())
        await peer.closed()
        with pytest.raises(AlreadyClosed):
            await ws.receive()


async def test_leaving_the_context():
    async with raw_server() as server:

        async def visit(fail: bool) -> None:
            async with connect(server.uri, close_timeout=0.05) as ws:
                await ws.__aenter__()
                await ws.__aexit__(*((ValueError, ValueError(), None) if fail else (None, None, None)))

        for fail, code in ((False, 1000), (True, 1011)):
            visiting = task(visit(fail))
            peer = await server.next()
            await peer.accept()
            assert await peer.close_frame() == (code, "")
            await within(visiting)


async def test_a_closed_websocket_needs_no_garbage_collection():
    async with open_ends("client") as (ws, peer):
        await peer.send_close(1000)
        peer.writer.close()
        await within(ws.wait_closed())
        gone = weakref.ref(ws)
    gc.disable()
    try:
        del ws
        await turns()
        assert gone() is None
    finally:
        gc.enable()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@both_loops
@pytest.mark.parametrize("peer_does", ["answers", "answers and stays", "is silent", "leaves"])
async def test_the_end_over_tls(authority, peer_does):
    """There is no half-open connection, and TLS has an end of its own, which some peers leave out."""
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    mine = ssl.create_default_context()
    authority.configure_trust(mine)
    async with raw_server(ssl=theirs) as server:
        uri = server.uri.replace("ws:", "wss:")
        opening = asyncio.ensure_future(
            _open(uri, ssl=mine, close_timeout=0.1 if peer_does in ("answers and stays", "is silent") else 5.0)
        )
        peer = await server.next()
        await peer.accept()
        ws = await within(opening)
        await ws.send("over TLS")
        assert (await peer.frame()).payload == b"over TLS"
        closing = task(ws.close())
        assert await peer.close_frame() == (1000, "")
        started = time.monotonic()
        if peer_does.startswith("answers"):
            await peer.send_close(1000)
        if peer_does == "answers":
            peer.writer.close()
        elif peer_does == "leaves":
            peer.leave()
        await within(closing)
        assert time.monotonic() - started < 1
        assert ws.close_code == (1000 if peer_does.startswith("answers") else 1006)


async def _open(uri: str, **options: Any) -> WebSocket:
    return await connect(uri, **options)


async def test_the_other_end_over_tls(authority):
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    mine = ssl.create_default_context()
    authority.configure_trust(mine)
    async with raw_server(ssl=theirs) as server:
        opening = asyncio.ensure_future(_open(server.uri.replace("ws:", "wss:"), ssl=mine))
        peer = await server.next()
        await peer.accept(follow=bare("client", (TEXT, b"1"), (CLOSE, close_payload(1000))))
        peer.writer.close()
        ws = await within(opening)
        await within(ws.wait_closed())
        assert [message async for message in ws] == ["1"]
        assert ws.close_code == 1000


# Sending


@roles
async def test_send_waits_for_a_slow_peer_and_can_be_cancelled(role):
    async with open_ends(role, receive_buffer=4096, compression=None) as (ws, peer):
        payload, sent = b"x" * 65536, 0

        async def pour() -> None:
            nonlocal sent
            while True:
                sent += 1
                await ws.send(b"%08d" % sent + payload)

        pouring = task(pour())
        last = -1
        while last != sent:  # until nothing goes out any more
            last = sent
            await asyncio.sleep(SOON)
        assert sent < 300
        pouring.cancel()
        for number in range(1, sent + 1):
            assert (await peer.frame()).payload[:8] == b"%08d" % number
        await ws.send("end")
        assert await peer.frame() == Frame(TEXT, b"end")


async def test_an_end_wakes_who_waits_to_send():
    async with open_ends("server", receive_buffer=4096, compression=None) as (ws, peer):
        while True:
            sending = task(ws.send(b"x" * 1_000_000))
            await asyncio.wait({sending}, timeout=SOON)
            if not sending.done():
                break
        peer.reset()
        with pytest.raises(ConnectionClosedError):
            await within(sending)


# Pings


@roles
async def test_ping_returns_the_seconds(role):
    async with open_ends(role) as (ws, peer):
        pinging = task(ws.ping(b"hi"))
        assert await peer.frame() == Frame(PING, b"hi")
        await peer.send_frame(PONG, b"hi")
        seconds = await within(pinging)
        assert 0 < seconds < 5
        assert ws.latency == seconds


async def test_a_later_pong_answers_earlier_pings():
    async with open_ends("client") as (ws, peer):
        pings = [task(ws.ping(data)) for data in ("a", b"b", bytearray(b"c"), None)]
        frames = [await peer.frame() for _ in pings]
        await peer.raw(bare("client", (PONG, b"c"), (PONG, b"unasked"), (PONG, b"more")))
        assert [await within(each) > 0 for each in pings[:3]] == [True] * 3
        assert not pings[3].done()
        await peer.send_frame(PONG, frames[3].payload)
        await within(pings[3])


async def test_the_pong_of_the_keepalive_answers_earlier_pings():
    """A peer may answer only the last of several (RFC 6455 section 5.5.3)."""
    async with open_ends("client", ping_interval=0.1) as (ws, peer):
        pinging = task(ws.ping(b"mine"))
        assert await peer.frame() == Frame(PING, b"mine")
        keepalive = await peer.frame()
        assert keepalive.opcode == PING
        await peer.send_frame(PONG, keepalive.payload)
        assert await within(pinging) > 0


async def test_pings_that_end_with_the_connection():
    async with open_ends("client") as (ws, peer):
        pings = [task(ws.ping()) for _ in range(3)]
        await peer.frame()
        pings[1].cancel()
        peer.leave()
        for pinging in (pings[0], pings[2]):
            with pytest.raises(ConnectionClosedError):
                await within(pinging)


async def test_a_cancelled_ping_can_be_sent_again():
    async with open_ends("client") as (ws, peer):
        pinging = task(ws.ping(b"x"))
        await peer.frame()
        with pytest.raises(ValueError, match="under way"):
            await ws.ping(b"x")
        pinging.cancel()
        await turns()
        pinging = task(ws.ping(b"x"))
        await peer.frame()
        await peer.send_frame(PONG, b"x")
        assert await within(pinging) > 0
        with pytest.raises(ValueError, match="125"):
            await ws.ping(b"x" * 126)
        with pytest.raises(TypeError):
            await ws.ping(5)


@roles
async def test_the_keepalive_measures_and_notices(role):
    async with open_ends(role, ping_interval=0.05, ping_timeout=0.1, close_timeout=0.1) as (ws, peer):
        ping = await peer.frame()
        await peer.send_frame(PONG, ping.payload)
        await until(lambda: ws.latency > 0)
        with pytest.raises(ConnectionClosed) as caught:  # from now on the peer is silent
            await within(ws.receive())
        assert caught.value.sent == Close(1011, "keepalive ping timeout")
        assert caught.value.rcvd is None


async def test_what_it_says_about_itself():
    async with open_ends("client") as (ws, peer), open_ends("client") as (other, _):
        assert ws.id != other.id
        assert ws.id == ws.id
        assert ws.remote_address == peer.address
        assert ws.local_address[0] == "127.0.0.1"
        assert (ws.closed, ws.close_code, ws.close_reason, ws.state) == (False, None, None, State.OPEN)
        assert ws.response is not None
        assert ws.response.status_code == 101
        assert ws.request is not None
        assert ws.request.path == "/"


async def test_fragments_of_an_unknown_kind_send_nothing():
    async with open_ends("client") as (ws, peer):
        with pytest.raises(TypeError, match="int"):
            await ws.send([1, 2])
        await ws.send("still open")
        assert await peer.frame() == Frame(TEXT, b"still open")


# What comes while it closes


@both_loops
@roles
async def test_what_the_peer_sends_until_its_answer_is_received(role):
    async with open_ends(role) as (ws, peer):
        closing = task(ws.close())
        assert (await peer.close_frame())[0] == 1000
        sent = bare(role, (TEXT, b"1"), (BINARY, b"2"), (TEXT, b"3"), (CLOSE, close_payload(1000)), (TEXT, b"4"))
        await peer.raw(sent)
        peer.half_close()
        await within(closing)
        assert [message async for message in ws] == ["1", b"2", "3"]
        with pytest.raises(AlreadyClosed):
            await ws.receive()


@roles
async def test_a_message_that_was_coming_when_it_was_closed(role):
    async with open_ends(role) as (ws, peer):
        mask = None if role == "client" else b"abcd"
        await peer.raw(frame(TEXT, b"on", fin=False, mask=mask))
        closing = task(ws.close())
        assert (await peer.close_frame())[0] == 1000
        await peer.raw(frame(0, b"going", mask=mask) + bare(role, (CLOSE, close_payload(1000))))
        peer.half_close()
        await within(closing)
        assert await ws.receive() == "ongoing"


@roles
@pytest.mark.parametrize("how", ["receive", "iterate"])
async def test_who_receives_while_another_closes(role, how):
    async with open_ends(role) as (ws, peer):

        async def take() -> list[Any]:
            if how == "iterate":
                return [message async for message in ws]
            return [await ws.receive(), await ws.receive()]

        receiver = task(take())
        await turns()
        closing = task(ws.close())
        assert (await peer.close_frame())[0] == 1000
        for text in (b"1", b"2"):
            await peer.raw(bare(role, (TEXT, text)))
            await turns()
        await peer.raw(bare(role, (CLOSE, close_payload(1000))))
        peer.half_close()
        await within(closing)
        assert await within(receiver) == ["1", "2"]


async def test_what_waits_in_the_socket_when_it_is_closed():
    """Reading had stopped, as nobody received: closing reads on."""
    async with open_ends("client", max_queue=2) as (ws, peer):
        await peer.raw(bare("client", *((TEXT, b"%d" % i) for i in range(10))))
        await until(lambda: session_of(ws).waiting > 2)
        await peer.raw(bare("client", *((TEXT, b"%d" % i) for i in range(10, 100))))
        closing = task(ws.close())
        assert (await peer.close_frame())[0] == 1000
        await peer.raw(bare("client", (CLOSE, close_payload(1000))))
        peer.half_close()
        await within(closing)
        assert [message async for message in ws] == [str(i) for i in range(100)]


@roles
async def test_what_comes_while_it_closes_is_bounded(role):
    async with open_ends(role) as (ws, peer):
        closing = task(ws.close())
        assert (await peer.close_frame())[0] == 1000
        await peer.raw(bare(role, *[(BINARY, bytes(60_000))] * 20, (CLOSE, close_payload(1000))))
        peer.half_close()
        await within(closing)
        assert len([message async for message in ws]) == 5


async def test_empty_messages_while_it_closes_are_bounded():
    async with open_ends("client") as (ws, peer):
        closing = task(ws.close())
        assert (await peer.close_frame())[0] == 1000
        await peer.raw(bare("client", *[(TEXT, b"")] * 5000, (CLOSE, close_payload(1000))))
        peer.half_close()
        await within(closing)
        assert len([message async for message in ws]) == 2048
