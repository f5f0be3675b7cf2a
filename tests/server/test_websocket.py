"""An open WebSocket: framing (RFC 6455 section 5), closing (section 7), UTF-8 (section 8) and the ASGI events."""

from __future__ import annotations

import asyncio
import struct
from collections import OrderedDict

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from support.helpers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    UPGRADE,
    Frame,
    close_payload,
    echo,
    frame,
    within,
)


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


def received(data: str | bytes) -> dict:
    return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}


def disconnect(code: int, reason: str = "") -> dict:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


# Messages


@pytest.mark.both_loops
async def test_messages_on_the_wire(pair):
    act, client = await pair()
    await client.raw(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")  # RFC 6455 section 5.7
    assert await act.receive() == {"type": "websocket.receive", "text": "Hello"}
    await act.send({"type": "websocket.send", "text": "Hello"})
    await client.expect(b"\x81\x05\x48\x65\x6c\x6c\x6f")
    await client.raw(b"\x82\x83\x00\x00\x00\x00\x00\x01\xff")
    assert await act.receive() == {"type": "websocket.receive", "bytes": b"\x00\x01\xff"}
    await act.send({"type": "websocket.send", "bytes": b"\x00\x01\xff"})
    await client.expect(b"\x82\x03\x00\x01\xff")


async def test_empty_messages(pair):
    act, client = await pair()
    await client.raw(b"\x81\x80\x01\x02\x03\x04" + b"\x82\x80\x01\x02\x03\x04")
    assert await act.receive() == {"type": "websocket.receive", "text": ""}
    assert await act.receive() == {"type": "websocket.receive", "bytes": b""}
    await act.send({"type": "websocket.send", "text": ""})
    await client.expect(b"\x81\x00")
    await act.send({"type": "websocket.send", "bytes": b""})
    await client.expect(b"\x82\x00")


@pytest.mark.parametrize("size", [1, 125, 126, 127, 65535, 65536, 1_000_003])
async def test_lengths(serve, open_ws, size):
    client = await open_ws(await serve(echo))
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    await client.send_frame(BINARY, data)
    assert await client.frame() == Frame(BINARY, data)


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x00\x80\x01\xfe"])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 1000])
async def test_masks(serve, open_ws, mask, size):
    client = await open_ws(await serve(echo))
    data = bytes(range(256))[:size]
    await client.send_frame(BINARY, data, mask=mask)
    assert await client.message() == data


@pytest.mark.parametrize(
    "text", ["\u03ba\u1f79\u03c3\u03bc\u03b5", "\U0001f389" * 50, "\x00", "\ufeff\uffff\ufffe", "\x7f\x80"]
)
async def test_text_in_any_script(serve, open_ws, text):
    client = await open_ws(await serve(echo))
    await client.send_text(text)
    assert await client.message() == text


@pytest.mark.both_loops
async def test_large_message(serve, open_ws):
    client = await open_ws(await serve(echo))
    data = b"0123456789abcdef" * (512 * 1024)
    sending = asyncio.ensure_future(client.send_frame(BINARY, data))
    assert await client.frame() == Frame(BINARY, data)
    await sending


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"bytes": bytearray(b"abc")}, b"\x82\x03abc"),
        ({"bytes": memoryview(b"abc")}, b"\x82\x03abc"),
        ({"bytes": memoryview(b"xabcx")[1:4]}, b"\x82\x03abc"),
        ({"bytes": bytearray()}, b"\x82\x00"),
        ({"bytes": None, "text": "abc"}, b"\x81\x03abc"),
        ({"bytes": b"abc", "text": None}, b"\x82\x03abc"),
        ({"bytes": None, "text": ""}, b"\x81\x00"),
        ({"bytes": b"", "text": None}, b"\x82\x00"),
    ],
)
async def test_send(pair, message, expected):
    act, client = await pair()
    await act.send({"type": "websocket.send", **message})
    await client.expect(expected)


@pytest.mark.parametrize("size", [5, 200_000])
async def test_a_sent_bytearray_may_be_changed(pair, size):
    """What was sent counts, not what became of the buffer."""
    act, client = await pair()
    data = bytearray(b"a" * size)
    await act.send({"type": "websocket.send", "bytes": data})
    data[:] = b"b" * size
    assert await client.message() == b"a" * size


async def test_send_in_tasks_and_all_at_once(pair):
    """What send() returns is taken for a coroutine wherever applications may have one."""
    act, client = await pair()
    messages = [{"type": "websocket.send", "text": str(number)} for number in range(4)]
    assert await asyncio.create_task(act.raw_send(messages[0])) is None
    assert await asyncio.wait_for(act.raw_send(messages[1]), 1) is None
    assert await asyncio.gather(*map(act.raw_send, messages[2:])) == [None, None]
    for number in range(4):
        assert await client.message() == str(number)


async def test_send_raises_where_it_is_awaited(pair):
    act, _ = await pair()
    good, bad = {"type": "websocket.send", "text": "a"}, {"type": "websocket.send"}
    _, error, _ = await asyncio.gather(*map(act.raw_send, (good, bad, good)), return_exceptions=True)
    assert isinstance(error, RuntimeError)
    task = asyncio.create_task(act.raw_send(bad))
    with pytest.raises(RuntimeError):
        await task


async def test_send_from_another_thread(pair):
    """There it does nothing until the event loop awaits it."""
    act, client = await pair()
    loop = asyncio.get_running_loop()
    made = await loop.run_in_executor(None, act.raw_send, {"type": "websocket.send", "text": "first made"})
    await act.raw_send({"type": "websocket.send", "text": "first sent"})
    await made
    assert [await client.message(), await client.message()] == ["first sent", "first made"]

    def send() -> None:
        message = {"type": "websocket.send", "text": "from a thread"}
        asyncio.run_coroutine_threadsafe(act.raw_send(message), loop).result(10)

    await loop.run_in_executor(None, send)
    assert await client.message() == "from a thread"


async def test_asgirefs_async_to_sync_takes_send_and_receive(pair):
    """Without its warning, which pytest makes an error, of a callable that is not marked as asynchronous."""
    act, client = await pair()
    send, receive = act.raw_send, act.raw_receive
    await sync_to_async(lambda: async_to_sync(send)({"type": "websocket.send", "text": "from a view"}))()
    assert await client.message() == "from a view"
    await client.send_text("to a view")
    assert (await sync_to_async(lambda: async_to_sync(receive)())())["text"] == "to a view"


async def test_send_takes_any_mapping_that_is_a_dict(pair):
    act, client = await pair()
    await act.raw_send(OrderedDict(type="websocket.send", text="ordered"))
    assert await client.message() == "ordered"


async def test_a_burst_keeps_its_order(serve, open_ws):
    client = await open_ws(await serve(echo))
    await client.raw(b"".join(frame(TEXT, b"%d" % number) for number in range(2000)))
    for number in range(2000):
        assert await client.message() == str(number)


# Fragments


async def test_fragments(pair):
    act, client = await pair()
    await client.raw(
        frame(TEXT, b"one ", fin=False)
        + frame(CONTINUATION, b"", fin=False)
        + frame(CONTINUATION, b"two ", fin=False)
        + frame(CONTINUATION, b"three")
    )
    assert await act.receive() == received("one two three")
    await client.raw(frame(BINARY, b"", fin=False) + frame(CONTINUATION, b""))
    assert await act.receive() == received(b"")


async def test_control_frames_between_fragments(pair):
    act, client = await pair()
    await client.raw(frame(TEXT, b"one ", fin=False) + frame(PING, b"there?"))
    assert await client.frame() == Frame(PONG, b"there?")
    await client.raw(frame(PONG, b"unasked") + frame(CONTINUATION, b"two"))
    assert await act.receive() == received("one two")


async def test_a_character_split_over_fragments(pair):
    act, client = await pair()
    data = "\U0001f389".encode()
    await client.raw(
        frame(TEXT, data[:1], fin=False)
        + frame(CONTINUATION, data[1:2], fin=False)
        + frame(CONTINUATION, data[2:3], fin=False)
        + frame(CONTINUATION, data[3:])
    )
    assert await act.receive() == received("\U0001f389")


async def test_fragments_of_one_byte_cost_linear_time(pair):
    act, client = await pair()
    count = 100_000
    piece = frame(CONTINUATION, b"x", fin=False)
    sending = asyncio.ensure_future(
        client.raw(frame(TEXT, b"x", fin=False) + piece * count + frame(CONTINUATION, b"x"))
    )
    message = await act.receive()
    assert len(message["text"]) == count + 2
    await sending


async def test_too_many_fragments(pair):
    act, client = await pair(ws_max_frames_per_message=10)
    await client.raw(
        frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"a", fin=False) * 8 + frame(CONTINUATION, b"a")
    )
    assert await act.receive() == received("a" * 10)
    await client.raw(frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"", fin=False) * 10)
    code, _ = await client.close_frame()
    assert code in (1008, 1009)
    assert (await act.receive())["code"] == code


async def test_segments_of_one_byte(serve, open_ws):
    client = await open_ws(await serve(echo))
    data = bytes(range(256)) * 8
    sending = asyncio.ensure_future(client.dribble(frame(BINARY, data) + frame(PING, b"p") + frame(TEXT, b"end")))
    assert await client.message() == data
    assert {await client.frame(), await client.frame()} == {Frame(PONG, b"p"), Frame(TEXT, b"end")}
    await sending


# Pings and pongs


@pytest.mark.both_loops
@pytest.mark.parametrize("payload", [b"", b"hello", b"\xff" * 125])
async def test_ping(pair, payload):
    _, client = await pair()
    await client.send_frame(PING, payload)
    assert await client.frame() == Frame(PONG, payload)


async def test_unasked_pongs_are_ignored(pair):
    act, client = await pair()
    await client.raw(frame(PONG, b"unasked") + frame(PONG) + frame(TEXT, b"hello"))
    assert await act.receive() == received("hello")


# What a peer must not do: a close frame with the code and a reason, and the application is told the same


SURROGATE = b"\xed\xa0\x80"

VIOLATIONS = {
    "unmasked text": (frame(TEXT, b"hello", mask=None), 1002),
    "unmasked ping": (frame(PING, b"hello", mask=None), 1002),
    "unmasked close": (frame(CLOSE, b"\x03\xe8", mask=None), 1002),
    "RSV1": (frame(TEXT, b"hello", rsv=4), 1002),
    "RSV2": (frame(TEXT, b"hello", rsv=2), 1002),
    "RSV3": (frame(BINARY, b"hello", rsv=1), 1002),
    "RSV1 on a ping": (frame(PING, b"hello", rsv=4), 1002),
    "RSV1 on a close": (frame(CLOSE, b"\x03\xe8", rsv=4), 1002),
    **{f"opcode {opcode}": (frame(opcode, b"hello"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "fragmented ping": (frame(PING, b"hello", fin=False), 1002),
    "fragmented close": (frame(CLOSE, b"\x03\xe8", fin=False), 1002),
    "long ping": (frame(PING, b"x" * 126), 1002),
    "long pong": (frame(PONG, b"x" * 126), 1002),
    "long close": (frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
    "continuation of nothing": (frame(CONTINUATION, b"hello"), 1002),
    "continuation of nothing, open": (frame(CONTINUATION, b"hello", fin=False), 1002),
    "text inside a message": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    "binary inside a message": (frame(BINARY, b"a", fin=False) + frame(BINARY, b"b", fin=False), 1002),
    "length not in its shortest form, 16 bits": (frame(TEXT, b"hello", length_bytes=2), 1002),
    "length not in its shortest form, 64 bits": (frame(BINARY, b"x" * 126, length_bytes=8), 1002),
    "length with its highest bit": (frame(BINARY, b"x", length=1 << 63, length_bytes=8), 1002),
    "length with all bits": (frame(BINARY, b"x", length=(1 << 64) - 1, length_bytes=8), 1002),
    "close with one byte": (frame(CLOSE, b"\x03"), 1002),
    **{
        f"close {code}": (frame(CLOSE, close_payload(code, "why")), 1002)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "close reason that is not UTF-8": (frame(CLOSE, b"\x03\xe8\xff\xfe"), 1007),
    "text that is not UTF-8": (frame(TEXT, b"\xff"), 1007),
    "text with an overlong form": (frame(TEXT, b"\xc0\xaf"), 1007),
    "text with a surrogate": (frame(TEXT, b"ok" + SURROGATE), 1007),
    "text beyond Unicode": (frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
    "text that ends early": (frame(TEXT, b"\xce\xba\xe1\xbd"), 1007),
    "fragmented text that ends early": (frame(TEXT, b"\xce", fin=False) + frame(CONTINUATION, b""), 1007),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "bytewise"])
@pytest.mark.parametrize(("data", "code"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
async def test_violation(pair, data, code, bytewise):
    act, client = await pair(ws_close_timeout=0.5)  # behind a length without sense the peer's close can't be found
    sending = asyncio.ensure_future((client.dribble if bytewise else client.raw)(data))
    got, reason = await client.close_frame()
    assert got == code
    assert reason
    for _ in range(2):
        assert await act.receive() == disconnect(code, reason)
    with pytest.raises(OSError) as caught:
        await act.send_text("too late")
    await sending
    await client.dribble(frame(CLOSE, close_payload(code)))
    await client.closed()
    act.fail(caught.value)


@pytest.mark.both_loops
async def test_after_a_violation_tcp_ends_without_the_peers_close(pair):
    act, client = await pair(ws_close_timeout=0.2)
    await client.raw(frame(TEXT, b"x", mask=None))
    assert (await client.close_frame())[0] == 1002
    await client.closed()
    assert (await act.receive())["code"] == 1002


async def test_what_follows_a_violation_is_not_read(pair):
    act, client = await pair()
    await client.raw(frame(3) + frame(TEXT, b"evil") + frame(PING, b"evil") + frame(CLOSE, b"\x0f\xa1evil"))
    code, reason = await client.close_frame()
    assert code == 1002
    assert await act.receive() == disconnect(1002, reason)
    await client.closed()


FAIL_FAST = {
    "at the front": b"\xff",
    "at the front, split": b"\xf4\x90",
    "later": b"abc\xc0",
    "surrogate": "\u03ba".encode() + b"\xed\xa0\x80",
}


@pytest.mark.both_loops
@pytest.mark.parametrize("start", FAIL_FAST.values(), ids=FAIL_FAST.keys())
async def test_utf8_fails_fast_inside_a_frame(pair, start):
    """1007 as soon as the bytes can't become UTF-8, while most of the frame is still to come."""
    act, client = await pair()
    await client.raw(frame(TEXT, start + b"x" * 1000)[: 8 + len(start)])
    code, reason = await client.close_frame()
    assert (code, bool(reason)) == (1007, True)
    assert await act.receive() == disconnect(1007, reason)


@pytest.mark.parametrize("start", FAIL_FAST.values(), ids=FAIL_FAST.keys())
async def test_utf8_fails_fast_between_fragments(pair, start):
    _, client = await pair()
    for index in range(len(start)):
        await client.raw(frame(CONTINUATION if index else TEXT, start[index : index + 1], fin=False))
    assert (await client.close_frame())[0] == 1007


async def test_binary_is_not_checked_for_utf8(pair):
    act, client = await pair()
    await client.raw(frame(BINARY, b"\xff\xfe", fin=False) + frame(CONTINUATION, b"\xc0"))
    assert await act.receive() == received(b"\xff\xfe\xc0")


TOO_BIG = {
    "in one frame": frame(BINARY, b"", length=1001),
    "in one frame, 64 bits": frame(TEXT, b"", length=1 << 40),
    "in one frame, almost 63 bits": frame(TEXT, b"", length=(1 << 63) - 1),
    "in fragments": frame(TEXT, b"x" * 600, fin=False) + frame(CONTINUATION, b"", length=401),
    "in open fragments": frame(BINARY, b"x" * 600, fin=False) + frame(CONTINUATION, b"", length=401, fin=False),
    "in a fragment whose length would overflow the sum": frame(BINARY, b"x", fin=False)
    + frame(CONTINUATION, b"", length=(1 << 63) - 1),
}


@pytest.mark.both_loops
@pytest.mark.parametrize("data", TOO_BIG.values(), ids=TOO_BIG.keys())
async def test_too_big(pair, data):
    """Judged by the header: nothing of the payload has come."""
    act, client = await pair(ws_max_size=1000)
    await client.raw(data)
    code, reason = await client.close_frame()
    assert (code, bool(reason)) == (1009, True)
    assert await act.receive() == disconnect(1009, reason)


async def test_as_big_as_allowed(pair):
    act, client = await pair(ws_max_size=1000)
    await client.raw(frame(BINARY, b"x" * 1000))
    assert len((await act.receive())["bytes"]) == 1000
    await client.raw(frame(TEXT, b"x" * 600, fin=False) + frame(PING, b"p" * 125) + frame(CONTINUATION, b"x" * 400))
    assert len((await act.receive())["text"]) == 1000
    await client.raw(frame(TEXT, "\u00e9".encode() * 500))
    assert len((await act.receive())["text"]) == 500


# Ends keep their place in line


@pytest.mark.both_loops
@pytest.mark.parametrize(
    ("end", "code"),
    [(frame(CLOSE, b"\x03\xe8"), 1000), (frame(7), 1002), (frame(TEXT, b"\xff"), 1007)],
    ids=["close", "violation", "bad text"],
)
async def test_messages_before_the_end_are_answered_before_it(serve, open_ws, end, code):
    client = await open_ws(await serve(echo))
    await client.raw(frame(TEXT, b"one") + frame(BINARY, b"two") + frame(TEXT, b"three") + end)
    assert await client.message() == "one"
    assert await client.message() == b"two"
    assert await client.message() == "three"
    assert (await client.close_frame())[0] == code


async def test_a_slow_app_still_answers_before_the_end(pair):
    act, client = await pair(ws_close_timeout=5)
    await client.raw(frame(TEXT, b"one") + frame(TEXT, b"two") + frame(CLOSE, b"\x03\xe8bye"))
    assert await act.receive() == received("one")
    await act.send_text("first")
    assert await client.message() == "first"
    assert await act.receive() == received("two")
    await act.send_text("second")
    assert await act.receive() == disconnect(1000, "bye")
    assert await client.message() == "second"
    assert (await client.close_frame())[0] == 1000
    await client.closed()


@pytest.mark.parametrize(
    ("end", "code"), [(frame(CLOSE, b"\x0f\xa1"), 4001), (frame(7), 1002)], ids=["close", "violation"]
)
async def test_the_end_does_not_wait_for_ever(pair, end, code):
    """An application that doesn't receive keeps nobody longer than the close timeout; its messages are still there."""
    act, client = await pair(ws_close_timeout=0.3)
    await client.raw(frame(TEXT, b"one") + end)
    assert (await client.close_frame())[0] == code
    await client.closed()
    assert await act.receive() == received("one")
    message = await act.receive()
    assert (message["type"], message["code"]) == ("websocket.disconnect", code)


async def test_the_end_is_answered_at_once_when_nothing_waits(pair):
    act, client = await pair()
    await client.raw(frame(CLOSE, b"\x0f\xa1"))
    assert (await client.close_frame())[0] == 4001
    await client.closed()
    assert await act.receive() == disconnect(4001)


# Closing by the peer


@pytest.mark.both_loops
@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
)
async def test_close_by_the_client(pair, code):
    act, client = await pair()
    await client.send_close(code, "bye")
    for _ in range(3):
        assert await act.receive() == disconnect(code, "bye")
    assert (await client.close_frame())[0] == code
    await client.closed()
    with pytest.raises(OSError):
        await act.send_text("too late")
    with pytest.raises(OSError):
        await act.send({"type": "websocket.send", "bytes": b"too late"})


@pytest.mark.both_loops
async def test_close_without_a_code(pair):
    act, client = await pair()
    await client.raw(b"\x88\x80\x01\x02\x03\x04")
    assert await act.receive() == disconnect(1005)
    await client.expect(b"\x88\x00")
    await client.closed()
    assert await act.receive() == disconnect(1005)


async def test_close_with_the_longest_reason(pair):
    act, client = await pair()
    reason = "\u00e9" * 61 + "x"
    await client.send_close(1000, reason)
    assert await act.receive() == disconnect(1000, reason)
    assert (await client.close_frame())[0] == 1000


async def test_close_inside_a_fragmented_message(pair):
    """Autobahn 7.1.5: that is no protocol error."""
    act, client = await pair()
    await client.raw(frame(TEXT, b"half", fin=False) + frame(CLOSE, b"\x03\xe8bye"))
    assert await act.receive() == disconnect(1000, "bye")
    assert (await client.close_frame())[0] == 1000
    await client.closed()


async def test_what_follows_a_close_is_not_read(pair):
    act, client = await pair()
    await client.raw(
        frame(CLOSE, b"\x03\xe8") + frame(TEXT, b"evil") + frame(PING, b"evil") + frame(CLOSE, b"\x0f\xa1")
    )
    assert await act.receive() == disconnect(1000)
    assert (await client.close_frame())[0] == 1000
    await client.closed()


async def test_the_server_ends_tcp_first(pair):
    """RFC 6455 section 7.1.1."""
    _, client = await pair()
    await client.send_close(1000)
    assert (await client.close_frame())[0] == 1000
    await client.closed()


async def test_close_while_the_app_receives(pair):
    act, client = await pair()
    receiving = asyncio.ensure_future(act.receive())
    await asyncio.sleep(0)
    await client.send_close(4001, "bye")
    assert await within(receiving) == disconnect(4001, "bye")


# Abrupt ends


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["leave", "reset", "half_close"])
@pytest.mark.parametrize(
    "before",
    [b"", frame(TEXT, b"half a frame")[:9], frame(TEXT, b"half a message", fin=False), b"\x81"],
    ids=["idle", "in a frame", "in a message", "in a header"],
)
async def test_abrupt_end(pair, how, before):
    act, client = await pair()
    await client.raw(before)
    getattr(client, how)()
    for _ in range(3):
        message = await act.receive()
        assert (message["type"], message["code"]) == ("websocket.disconnect", 1006)
        assert isinstance(message["reason"], str)
    with pytest.raises(OSError) as caught:
        await act.send_text("too late")
    act.fail(caught.value)


async def test_messages_before_an_abrupt_end(pair):
    act, client = await pair()
    await client.raw(frame(TEXT, b"one") + frame(TEXT, b"two"))
    client.half_close()
    assert await act.receive() == received("one")
    assert await act.receive() == received("two")
    assert (await act.receive())["code"] == 1006


# Closing by the application


@pytest.mark.both_loops
async def test_close_by_the_app(pair):
    act, client = await pair()
    await act.send({"type": "websocket.close", "code": 4000, "reason": "done"})
    assert await client.close_frame() == (4000, "done")
    await client.send_close(4000)
    await client.closed()
    message = await act.receive()
    assert (message["type"], message["code"]) == ("websocket.disconnect", 4000)
    assert await act.receive() == message
    with pytest.raises(OSError):
        await act.send_text("too late")


@pytest.mark.parametrize("fields", [{}, {"code": 1000}, {"code": 1000, "reason": None}, {"reason": ""}])
async def test_close_by_the_app_defaults(pair, fields):
    act, client = await pair()
    await act.send({"type": "websocket.close", **fields})
    act.leave()
    assert await client.close_frame() == (1000, "")


@pytest.mark.parametrize("reason", ["x" * 123, "x" * 124, "\u00e9" * 200, "\U0001f389" * 31])
async def test_close_by_the_app_with_a_long_reason(pair, reason):
    """At most 123 bytes, and whole characters, reach the wire; what doesn't fit is cut or refused."""
    act, client = await pair()
    try:
        await act.close(4000, reason)
    except (RuntimeError, ValueError):
        await act.close(4000, "")
    code, got = await client.close_frame()
    assert code == 4000
    assert reason.startswith(got)
    if len(reason.encode()) <= 123:
        assert got == reason


async def test_close_by_the_app_without_an_answer(pair):
    act, client = await pair(ws_close_timeout=0.2)
    await act.close(4000)
    assert await client.close_frame() == (4000, "")
    await client.closed()
    assert (await act.receive())["type"] == "websocket.disconnect"


async def test_messages_that_cross_a_close(pair):
    """Messages that the peer sent before it saw the close are dropped; its close frame is found behind them.

    Its ping may be answered: RFC 6455 section 5.5.2 wants that until the peer's close has come.
    """
    act, client = await pair()
    await act.close(4000)
    await client.raw(frame(TEXT, b"crossing") + frame(PING, b"crossing") + frame(CLOSE, b"\x0f\xa0"))
    assert await client.close_frame() == (4000, "")
    assert await client.rest() in (b"", b"\x8a\x08crossing")
    act.leave()


async def test_messages_before_the_close_by_the_app(pair):
    act, client = await pair()
    await act.send_text("one")
    await act.send({"type": "websocket.send", "bytes": b"x" * 100_000})
    await act.close()
    act.leave()
    assert await client.message() == "one"
    assert await client.message() == b"x" * 100_000
    assert await client.close_frame() == (1000, "")


async def test_both_close(pair):
    act, client = await pair()
    await client.send_close(4001, "mine")
    await act.disconnected()
    try:
        await act.close(4000)
    except OSError:
        pass  # either is right: the close frame is out already
    act.leave()
    assert (await client.close_frame())[0] == 4001
    await client.closed()


@pytest.mark.app_fails
@pytest.mark.both_loops
async def test_app_raises(pair):
    act, client = await pair()
    await act.send_text("one")
    act.fail(ValueError("a secret of the application"))
    assert await client.message() == "one"
    code, reason = await client.close_frame()
    assert code == 1011
    assert "secret" not in reason
    await client.send_close(1011)
    await client.closed()


@pytest.mark.both_loops
async def test_app_returns(pair):
    act, client = await pair()
    await act.send_text("one")
    act.leave()
    assert await client.message() == "one"
    assert await client.close_frame() == (1000, "")
    await client.send_close(1000)
    await client.closed()


async def test_app_returns_with_messages_waiting(pair):
    act, client = await pair()
    await client.raw(frame(TEXT, b"one") + frame(TEXT, b"two"))
    assert await act.receive() == received("one")
    act.leave()
    assert await client.close_frame() == (1000, "")


@pytest.mark.app_fails
async def test_app_raises_after_the_client_left(pair):
    """Its own error is an error, the client's leaving is none."""
    act, client = await pair()
    client.leave()
    await act.disconnected()
    act.fail(ValueError("its own"))
    await within(act.ended.wait())


async def test_send_after_the_end_escapes_quietly(serve, connect, logs):
    """An application that only sends learns of the end by an OSError; letting it through is no error."""
    ended = asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "text": "tick"})
                await asyncio.sleep(0)
        finally:
            ended.set()

    for how in ("leave", "reset"):
        ended.clear()
        client = await connect(await serve(app))
        await client.upgrade()
        assert await client.message() == "tick"
        getattr(client, how)()
        await within(ended.wait())


# receive() and send() under tasks


async def test_cancelled_receive_loses_nothing(pair):
    act, client = await pair()
    receiving = asyncio.ensure_future(act.raw_receive())
    for _ in range(3):
        await asyncio.sleep(0)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    await client.send_text("one")
    assert await act.receive() == received("one")


@pytest.mark.both_loops
async def test_cancelled_receives_lose_nothing(pair):
    """Cancelled at every moment around a message's arrival."""
    act, client = await pair()
    count = 300

    async def talk():
        for number in range(count):
            await client.send_text(str(number))
            for _ in range(number % 5):
                await asyncio.sleep(0)

    talking = asyncio.ensure_future(talk())
    got = []
    turn = 0
    while len(got) < count:
        turn += 1
        receiving = asyncio.ensure_future(act.raw_receive())
        for _ in range(turn % 7):
            await asyncio.sleep(0)
        receiving.cancel()
        try:
            got.append((await receiving)["text"])
        except asyncio.CancelledError:
            pass
    assert got == [str(number) for number in range(count)]
    await talking


async def test_receive_under_wait_for(pair):
    act, client = await pair()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(act.raw_receive(), 0.05)
    await client.send_text("one")
    assert await act.receive() == received("one")


@pytest.mark.both_loops
async def test_sends_from_several_tasks_stay_whole_and_ordered(pair):
    act, client = await pair()
    tasks, each = 10, 40

    async def talk(task):
        for number in range(each):
            size = (task * 7919 + number * 104729) % 70_000
            await act.raw_send({"type": "websocket.send", "text": f"{task} {number} " + "x" * size})

    talking = asyncio.gather(*(talk(task) for task in range(tasks)))
    seen = dict.fromkeys(range(tasks), 0)
    for _ in range(tasks * each):
        task, number, filler = (await client.message()).split(" ")
        assert seen[int(task)] == int(number)
        assert len(filler) == (int(task) * 7919 + int(number) * 104729) % 70_000
        seen[int(task)] += 1
    await within(talking)


async def test_reader_and_writer_tasks(pair):
    act, client = await pair()
    receiving = asyncio.ensure_future(act.receive())
    await act.send_text("while receive waits")
    assert await client.message() == "while receive waits"
    await client.send_text("one")
    assert await within(receiving) == received("one")


async def test_sends_without_waiting_leave_at_once(pair):
    """Nothing is held back until the next send or receive."""
    act, client = await pair()
    await act.send_text("one")
    await act.send_text("two")
    assert await client.message() == "one"
    assert await client.message() == "two"


async def test_lone_surrogates_never_reach_the_wire(pair):
    act, client = await pair()
    with pytest.raises((UnicodeError, RuntimeError)):
        await act.send_text("a\ud800b")
    await act.send_text("fine")
    assert await client.message() == "fine"


# Random streams: one chunk equals byte by byte


async def test_a_dialogue_in_segments_of_any_size(serve, open_ws):
    data = b"".join(
        [
            frame(TEXT, "\u03ba\u1f79\u03c3\u03bc\u03b5".encode(), fin=False),
            frame(PING, b"1"),
            frame(CONTINUATION, b" more", fin=False),
            frame(CONTINUATION, b""),
            frame(BINARY, bytes(300)),
            frame(TEXT, b""),
            frame(BINARY, b"\xff", fin=False) + frame(CONTINUATION, b"\xfe"),
            frame(CLOSE, b"\x03\xe8"),
        ]
    )
    expected = ["\u03ba\u1f79\u03c3\u03bc\u03b5 more", bytes(300), "", b"\xff\xfe"]
    server = await serve(echo)
    for size in (1, 2, 3, 5, 7, 11, 64, len(data)):
        client = await open_ws(server)
        for index in range(0, len(data), size):
            await client.raw(data[index : index + size])
            await asyncio.sleep(0)
        got = []
        while (each := await client.frame()).opcode != CLOSE:
            if each.opcode == PONG:
                assert each.payload == b"1"
            else:
                got.append(each.payload.decode() if each.opcode == TEXT else each.payload)
        assert got == expected
        assert struct.unpack("!H", each.payload) == (1000,)
        await client.closed()


async def test_many_connections(serve, open_ws):
    server = await serve(echo)
    clients = [await open_ws(server) for _ in range(100)]
    for number, client in enumerate(clients):
        await client.send_text(str(number))
    for number, client in enumerate(clients):
        assert await client.message() == str(number)
    for client in clients:
        await client.send_close(1000)
    for client in clients:
        assert (await client.close_frame())[0] == 1000
