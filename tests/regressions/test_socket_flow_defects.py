"""What socket-flow 0.8.1 was seen to get wrong; each line is a test, in the role of client and of server.

defect there                                                          test here
--------------------------------------------------------------------  ---------------------------------------------
inflation without a bound                                             test_inflation_has_a_bound
the maximum size does not hold for unfragmented messages              test_the_limit_holds_for_one_frame
a buffer as large as the header says, before any payload has come     test_no_buffer_for_what_is_only_announced
the mask rule is not enforced                                         test_the_mask_rule
Upgrade, Connection and Version are not checked                       test_..._that_open_nothing
close code and reason are thrown away                                 test_code_and_reason
UTF-8 is checked late                                                 test_text_is_checked_as_it_comes
the peer's window bits are taken unchecked                            test_window_bits_of_no_sense
the client's deflate parameters are swapped                           test_each_direction_has_its_own_parameters
RSV1 on every fragment                                                test_rsv1_is_for_the_first_fragment
extension lists with commas are not understood                        test_lists_of_extensions_in_an_...
handshakes inside the accept loop: one silent peer blocks everybody   test_a_silent_..._blocks_nobody
a handshake header without a bound                                    test_the_handshake_of_a_..._has_a_bound
close sleeps 500 ms instead of waiting for the peer                   test_close_waits_for_the_peer
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import tracemalloc
import zlib
from typing import Any

import pytest
from support.ends import ServerEnd, accept_key, face_server, open_ends, raw_server
from support.helpers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MASK,
    TEXT,
    UPGRADE,
    Client,
    Frame,
    close_payload,
    frame,
    until,
    within,
)

from flowserve.client.connect import connect
from flowserve.errors import Close, ConnectionClosedError, HandshakeError, InvalidText, PayloadTooBig, ProtocolError
from flowserve.library.properties import session_of

roles = pytest.mark.parametrize("role", ["client", "server"])
NAME = "Sec-WebSocket-Extensions: "
AGREED = {
    "client": NAME + "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    "server": NAME + "permessage-deflate",
}
"""What the peer of a role says, so that permessage-deflate is agreed on."""
RSV1 = 4
MIB = 1 << 20


def from_peer(role: str, *args: Any, **options: Any) -> bytes:
    """A frame as the peer of `role` has to send it."""
    return frame(*args, mask=None if role == "client" else MASK, **options)


def deflated(data: bytes, bits: int = 15) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -bits)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def failure(ws, peer: Client, code: int) -> BaseException | None:
    """The WebSocket fails with `code`; why."""
    assert (await peer.close_frame())[0] == code
    peer.writer.close()
    with pytest.raises(ConnectionClosedError) as caught:
        await within(ws.receive())
    return caught.value.__cause__


@roles
async def test_inflation_has_a_bound(role):
    bomb = deflated(bytes(64 * MIB))
    assert len(bomb) < MIB
    async with open_ends(role, AGREED[role], max_size=MIB) as (ws, peer):
        tracemalloc.start()
        try:
            await peer.raw(from_peer(role, BINARY, bomb, rsv=RSV1))
            cause = await failure(ws, peer, 1009)
            assert tracemalloc.get_traced_memory()[1] < 16 * MIB
        finally:
            tracemalloc.stop()
        assert isinstance(cause, PayloadTooBig)


@roles
async def test_the_limit_holds_for_one_frame(role):
    async with open_ends(role, max_size=100) as (ws, peer):
        await peer.raw(from_peer(role, TEXT, b"x" * 100))
        assert await within(ws.receive()) == "x" * 100
        await peer.raw(from_peer(role, TEXT, b"", length=101)[: 2 if role == "client" else 6])
        assert isinstance(await failure(ws, peer, 1009), PayloadTooBig)


@roles
async def test_no_buffer_for_what_is_only_announced(role):
    async with open_ends(role, max_size=None) as (ws, peer):
        tracemalloc.start()
        try:
            await peer.raw(from_peer(role, BINARY, b"some", length=1 << 40))
            await until(lambda: session_of(ws).connection.part_size == 4)
            assert tracemalloc.get_traced_memory()[1] < MIB
        finally:
            tracemalloc.stop()
        assert not ws.closed


@roles
async def test_the_mask_rule(role):
    async with open_ends(role) as (ws, peer):
        await peer.raw(frame(TEXT, b"x", mask=MASK if role == "client" else None))
        assert isinstance(await failure(ws, peer, 1002), ProtocolError)


@pytest.mark.parametrize(
    ("line", "instead", "status"),
    [
        (b"Upgrade: websocket\r\n", b"", 404),
        (b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\n", 404),
        (b"Connection: Upgrade\r\n", b"", 400),
        (b"Connection: Upgrade\r\n", b"Connection: keep-alive\r\n", 400),
        (b"Sec-WebSocket-Version: 13\r\n", b"", 426),
        (b"Sec-WebSocket-Version: 13\r\n", b"Sec-WebSocket-Version: 8\r\n", 426),
    ],
)
async def test_requests_that_open_nothing(line, instead, status):
    async with face_server() as (server, doorman), raw_client(server) as client:
        assert line in UPGRADE
        await client.raw(UPGRADE.replace(line, instead))
        assert (await client.head()).status == status
        assert doorman.opened.empty()


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("HTTP/1.1 101 Switching Protocols", "HTTP/1.1 200 OK"),
        ("Upgrade: websocket\r\n", ""),
        ("Upgrade: websocket\r\n", "Upgrade: h2c\r\n"),
        ("Connection: Upgrade\r\n", ""),
        ("Connection: Upgrade\r\n", "Connection: close\r\n"),
        ("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: A"),
        ("Sec-WebSocket-Accept: ", "X-Accept: "),
    ],
)
async def test_answers_that_open_nothing(line, instead):
    async with raw_server() as server:
        opening = asyncio.ensure_future(open_client(server.uri))
        peer = await server.next()
        answer = good_answer(await peer.request())
        assert line in answer
        await peer.raw(answer.replace(line, instead).encode())
        peer.writer.close()
        with pytest.raises(HandshakeError):
            await within(opening)


@roles
async def test_code_and_reason(role):
    async with open_ends(role) as (ws, peer):
        await peer.send_frame(CLOSE, close_payload(4001, "because"))
        with pytest.raises(ConnectionClosedError) as caught:
            await within(ws.receive())
        assert caught.value.rcvd == Close(4001, "because")
        assert (ws.close_code, ws.close_reason) == (4001, "because")
        assert await peer.close_frame() == (4001, "because")
    async with open_ends(role, close_timeout=0.05) as (ws, peer):
        closing = asyncio.ensure_future(ws.close(4002, "my own"))
        assert await peer.close_frame() == (4002, "my own")
        await within(closing)


@roles
@pytest.mark.parametrize("compressed", [False, True])
async def test_text_is_checked_as_it_comes(role, compressed):
    """The rest of the message never comes."""
    async with open_ends(role, AGREED[role]) as (ws, peer):
        if compressed:
            data = from_peer(role, TEXT, deflated(b"fine, then \xff") + b"\0\0\xff\xff", fin=False, rsv=RSV1)
        else:
            data = from_peer(role, TEXT, b"fine, then \xff" + b"x" * 1000)[:-1000]
        await peer.raw(data)
        assert isinstance(await failure(ws, peer, 1007), InvalidText)


@roles
@pytest.mark.parametrize("bits", ["7", "16", "010", "99999999999", '""'])
@pytest.mark.parametrize("whose", ["server_max_window_bits", "client_max_window_bits"])
async def test_window_bits_of_no_sense(role, bits, whose):
    said = f"{AGREED[role]}; {whose}={bits}"
    if role == "client":
        with pytest.raises(HandshakeError):
            await answered(said)
        return
    if bits == '""':
        assert await refusal(said) == 400  # RFC 6455 section 9.1: what is quoted is a token too
        return
    async with open_ends(role, said) as (ws, peer):  # an offer that can't be taken
        assert session_of(ws).connection.deflate is None
        await ws.send("x" * 1000, compress=True)
        assert await peer.frame() == Frame(TEXT, b"x" * 1000)


@roles
@pytest.mark.parametrize(("server_bits", "client_bits"), [(9, 15), (15, 9)])
@pytest.mark.parametrize("server_forgets", [True, False])
async def test_each_direction_has_its_own_parameters(role, server_bits, client_bits, server_forgets):
    """What has to be small is small, what may be large is understood, and so for what is remembered."""
    if role == "client":
        said = f"permessage-deflate; server_max_window_bits={server_bits}; client_max_window_bits={client_bits}"
        said += f"; {'server' if server_forgets else 'client'}_no_context_takeover"
        options = {"deflate_context": "takeover"}
        mine, theirs, i_forget = client_bits, server_bits, not server_forgets
    else:
        said = f"permessage-deflate; server_max_window_bits={server_bits}; client_max_window_bits={client_bits}"
        said += "; server_no_context_takeover" if server_forgets else ""
        options = {"deflate_context": "takeover"}
        mine, theirs, i_forget = server_bits, client_bits, server_forgets
    unique = b"".join(b"%05d" % (number * 7919 % 100_000) for number in range(240))  # 1200 bytes
    data = unique + unique  # the repeat is further away than 512 bytes
    async with open_ends(role, NAME + said, **options) as (ws, peer):
        unpacker = zlib.decompressobj(-mine)
        sizes = []
        for _ in range(2):
            await ws.send(data, compress=True)
            got = await peer.frame()
            assert got.rsv == RSV1
            assert unpacker.decompress(got.payload + b"\0\0\xff\xff") == data
            sizes.append(len(got.payload))
            if i_forget:
                unpacker = zlib.decompressobj(-mine)
        if mine == 15:
            assert (sizes[1] > sizes[0] / 2) == i_forget
        packer = zlib.compressobj(9, zlib.DEFLATED, -theirs)
        for number in range(2):
            remembers = not server_forgets if role == "client" else True
            if number and not remembers:
                packer = zlib.compressobj(9, zlib.DEFLATED, -theirs)
            payload = (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
            await peer.send_frame(BINARY, payload, rsv=RSV1)
            assert await within(ws.receive()) == data


@roles
async def test_rsv1_is_for_the_first_fragment(role):
    payload = deflated(b"hello " * 100)
    async with open_ends(role, AGREED[role]) as (ws, peer):
        await ws.send_fragmented([b"hello " * 100, b"there " * 100], compress=True)
        assert [(await peer.frame()).rsv for _ in range(3)] == [RSV1, 0, 0]
        await peer.raw(
            from_peer(role, TEXT, payload[:5], fin=False, rsv=RSV1) + from_peer(role, CONTINUATION, payload[5:])
        )
        assert await within(ws.receive()) == "hello " * 100
        await peer.raw(from_peer(role, TEXT, payload[:5], fin=False, rsv=RSV1))
        await peer.raw(from_peer(role, CONTINUATION, payload[5:], rsv=RSV1))
        assert isinstance(await failure(ws, peer, 1002), ProtocolError)


@pytest.mark.parametrize(
    ("said", "compressed"),
    [
        ("foo, permessage-deflate", True),
        ("foo; a=1; b, permessage-deflate; client_max_window_bits", True),
        ("permessage-deflate; server_max_window_bits=7, permessage-deflate", True),
        ('foo; a="x"; b, permessage-deflate', True),
        ("x-webkit-deflate-frame , , permessage-deflate ; client_no_context_takeover", True),
        ("permessage-deflate-not, foo", False),
    ],
)
async def test_lists_of_extensions_in_an_offer(said, compressed):
    async with open_ends("server", NAME + said) as (ws, peer):
        assert (session_of(ws).connection.deflate is not None) == compressed
        await ws.send("x" * 1000)
        assert (await peer.frame()).rsv == (RSV1 if compressed else 0)


@pytest.mark.parametrize(
    "said", ['foo; a="x, permessage-deflate"', "permessage-deflate; a=", "permessage-deflate;", "a b"]
)
async def test_lists_of_extensions_that_are_malformed(said):
    """RFC 6455 section 9.1: they fail the connection, whatever else is offered."""
    assert await refusal(NAME + said) == 400
    assert await refusal("Sec-WebSocket-Extensions: permessage-deflate", NAME + said) == 400


async def refusal(*headers):
    """The status of the answer to an offer that opens nothing."""
    async with face_server() as (server, _):
        client = await Client.connect(server.sockets[0].getsockname())
        await client.raw(UPGRADE[:-2] + "".join(f"{line}\r\n" for line in headers).encode() + b"\r\n")
        response = await client.response()
        await client.closed()
        await client.aclose()
        return response.status


@pytest.mark.parametrize(
    "said", ["foo, {}", "{}, foo", "{}, {}", 'permessage-deflate; server_max_window_bits="1, 5"', "{},;"]
)
async def test_lists_of_extensions_in_an_answer(said):
    """Anything but the one that was offered."""
    with pytest.raises(HandshakeError):
        await answered(NAME + said.replace("{}", AGREED["client"].removeprefix(NAME)))


async def test_a_silent_client_blocks_nobody():
    async with face_server() as (server, doorman), contextlib.AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(raw_client(server)) for _ in range(20)]
        for number, client in enumerate(silent):
            await client.raw(UPGRADE[: number * 5])
        client = await stack.enter_async_context(raw_client(server))
        started = time.monotonic()
        await client.upgrade()
        await within(doorman.opened.get())
        assert time.monotonic() - started < 2


async def test_a_silent_server_blocks_nobody():
    async with raw_server() as server:
        waiting = [asyncio.ensure_future(open_client(server.uri, open_timeout=5.0)) for _ in range(20)]
        for _ in waiting:
            await server.next()
        impatient = asyncio.ensure_future(open_client(server.uri, open_timeout=0.1))
        await server.next()
        opening = asyncio.ensure_future(open_client(server.uri))
        peer = await server.next()
        await peer.accept()
        ws = await within(opening)
        ws.abort()
        await asyncio.wait({impatient}, timeout=5)
        assert isinstance(impatient.exception(), TimeoutError)
        for each in waiting:
            assert not each.done()
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_the_handshake_of_a_client_has_a_bound():
    async with face_server() as (server, _), raw_client(server) as client:
        await client.raw(UPGRADE[:-2] + b"X-Long: " + b"x" * 100_000)
        assert (await client.head()).status == 431


async def test_the_handshake_of_a_server_has_a_bound():
    async with raw_server() as server:
        opening = asyncio.ensure_future(open_client(server.uri))
        peer = await server.next()
        await peer.raw(good_answer(await peer.request())[:-2].encode() + b"X-Long: " + b"x" * 100_000)
        with pytest.raises(HandshakeError, match="bytes"):
            await within(opening)


@roles
async def test_close_waits_for_the_peer(role):
    async with open_ends(role, close_timeout=30.0) as (ws, peer):
        started = time.monotonic()
        closing = asyncio.ensure_future(ws.close())
        assert (await peer.close_frame())[0] == 1000
        await asyncio.wait({closing}, timeout=0.05)
        assert not closing.done()  # not without the answer
        await peer.send_frame(CLOSE, close_payload(1000))
        if role == "client":
            peer.writer.close()
        await within(closing)
        assert time.monotonic() - started < 0.4  # and at once with it
        assert ws.close_code == 1000


# What these tests need


async def open_client(uri: str, **options: Any):
    return await connect(uri, **{"proxy": None, **options})


def good_answer(request: bytes) -> str:
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(request)}\r\n\r\n"
    )


async def answered(*headers: str) -> None:
    """A client whose server answers with these headers too."""
    async with raw_server() as server:
        opening = asyncio.ensure_future(open_client(server.uri))
        peer: ServerEnd = await server.next()
        await peer.accept(*headers)
        try:
            (await within(opening)).abort()
        finally:
            peer.leave()


@contextlib.asynccontextmanager
async def raw_client(server: Any):
    client = await Client.connect(server.sockets[0].getsockname())
    try:
        yield client
    finally:
        await client.aclose()
