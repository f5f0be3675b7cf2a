"""Every call of a Flow, on a connection in every state: nothing raises and nothing is logged, whatever its event loop.

asyncio's transports raise where uvloop's do not, and the other way round: OSError out of write_eof() after a reset,
RuntimeError out of write() after a close or the end of writing, AttributeError out of get_extra_info().
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from support.ends import open_ends
from support.helpers import Client, until, within
from support.polled import listen, polled

from flowserve.client.connect import connect
from flowserve.errors import ConnectionClosed, HandshakeError
from flowserve.transport.stream import TransportStream, extra_info

KINDS = ("tcp", "unix", "tls", *(pytest.param(f"{kind}, polled", marks=polled) for kind in ("tcp", "unix")))
FULL = bytes(300_000)
"""More than the kernel holds here."""
_BUFFER = 16384


class Passing(asyncio.Protocol):
    """A protocol with a Flow."""

    def __init__(self) -> None:
        self.flow: TransportStream
        self.eof = self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.flow = TransportStream(cast(asyncio.Transport, transport), copy_context())

    def eof_received(self) -> bool:
        self.eof = True
        return self.flow.half_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.flow.lost()

    def pause_writing(self) -> None:
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        self.flow.resume_writing()


class Nowhere:
    """A target for a large payload."""

    def wants_buffer(self) -> bool:
        return False

    def get_buffer(self) -> memoryview:
        return memoryview(bytearray(1))

    def buffer_updated(self, size: int) -> None: ...


# How a connection comes into a state


async def untouched(ours: Passing, peer: Client) -> None:
    """Nothing has happened."""


async def reset_unseen(ours: Passing, peer: Client) -> None:
    """The event loop has not read it yet."""
    peer.reset()
    await until(lambda: peer.sock.fileno() < 0)


async def reset_while_paused(ours: Passing, peer: Client) -> None:
    ours.flow.pause_reading()
    peer.reset()
    await until(lambda: peer.sock.fileno() < 0)


async def reset_while_full(ours: Passing, peer: Client) -> None:
    ours.flow.pause_reading()
    ours.flow.write(FULL)
    peer.reset()
    await until(lambda: peer.sock.fileno() < 0)


async def reset_seen(ours: Passing, peer: Client) -> None:
    peer.reset()
    await until(lambda: ours.lost or ours.eof)
    ours.flow.write(b"x")  # a UNIX domain socket has no reset: only a write shows it
    await until(lambda: ours.lost)


async def reset_half_closed(ours: Passing, peer: Client) -> None:
    """Both have stopped writing, and then the peer is gone."""
    ours.flow.end_writing()
    peer.reset()
    await until(lambda: peer.sock.fileno() < 0)


async def peer_ended(ours: Passing, peer: Client) -> None:
    if peer.writer.can_write_eof():
        peer.half_close()
        await until(lambda: ours.eof)
    else:  # TLS: close_notify
        peer.writer.close()
        await until(lambda: ours.eof or ours.lost)


async def ended(ours: Passing, peer: Client) -> None:
    ours.flow.end_writing()


async def ended_while_full(ours: Passing, peer: Client) -> None:
    ours.flow.write(FULL)
    ours.flow.end_writing()


async def closing(ours: Passing, peer: Client) -> None:
    ours.flow.close()


async def closing_while_full(ours: Passing, peer: Client) -> None:
    ours.flow.write(FULL)
    ours.flow.close()


async def aborting(ours: Passing, peer: Client) -> None:
    ours.flow.abort()


async def aborted(ours: Passing, peer: Client) -> None:
    ours.flow.abort()
    await until(lambda: ours.lost)


async def aborted_by_itself(ours: Passing, peer: Client) -> None:
    """Its Flow does not know."""
    ours.flow.transport.abort()


STATES = (untouched, reset_unseen, reset_while_paused, reset_while_full, reset_seen, reset_half_closed, peer_ended)
STATES += (ended, ended_while_full, closing, closing_while_full, aborting, aborted, aborted_by_itself)

CALLS: dict[str, Callable[[TransportStream], Any]] = {
    "write": lambda flow: flow.write(b"abc"),
    "write much": lambda flow: flow.write(FULL),
    "writelines": lambda flow: flow.writelines([b"a", b"b"]),
    "writelines, much": lambda flow: flow.writelines([FULL, FULL]),
    "end_writing": lambda flow: flow.end_writing(),
    "close": lambda flow: flow.close(),
    "abort": lambda flow: flow.abort(),
    "pause_reading": lambda flow: flow.pause_reading(),
    "resume_reading": lambda flow: (flow.pause_reading(), flow.resume_reading()),
    "limit_buffer": lambda flow: flow.limit_buffer(1000),
    "read_into": lambda flow: flow.read_into(Nowhere()),
    "buffered": lambda flow: flow.buffered(),
    "unsent": lambda flow: flow.unsent(),
    "progressed": lambda flow: flow.progressed(),
    "is_reset": lambda flow: flow.is_reset(),
    "is_closing": lambda flow: flow.transport.is_closing(),
    "extra info": lambda flow: [extra_info(flow.transport, name) for name in ("peername", "sockname", "socket")],
    "of TLS": lambda flow: [extra_info(flow.transport, name) for name in ("ssl_object", "peercert", "cipher")],
}


@contextlib.asynccontextmanager
async def opened(kind: str, folder: Path) -> AsyncIterator[Callable[[], Awaitable[tuple[Passing, Client]]]]:
    """`ours, peer = await connect()`, as often as wanted."""
    loop, made = asyncio.get_running_loop(), asyncio.Queue[Passing]()
    family, name = (
        (socket.AF_UNIX, str(folder / "s")) if kind.startswith("unix") else (socket.AF_INET, ("127.0.0.1", 0))
    )
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)  # accepted sockets inherit it
    sock.bind(name)
    sock.listen()
    theirs = None
    options: dict[str, Any] = {}
    if kind == "tls":
        options["ssl"], theirs = _contexts()

    def make() -> Passing:
        made.put_nowait(protocol := Passing())
        return protocol

    server: Any
    if kind.endswith("polled"):
        server = listen(make, sock)
    else:
        server = await loop.create_server(make, sock=sock, **options)
    clients: list[tuple[Passing, Client]] = []

    async def connect() -> tuple[Passing, Client]:
        host = "127.0.0.1" if theirs is not None else None
        address = server.sockets[0].getsockname()
        peer = await Client.connect(address, family=family, ssl=theirs, server_hostname=host, receive_buffer=_BUFFER)
        ours = await within(made.get())
        await until(lambda: hasattr(ours, "flow"))
        clients.append((ours, peer))
        return ours, peer

    yield connect
    server.close()
    for ours, peer in clients:
        ours.flow.abort()
        await peer.aclose()
        await until(lambda ours=ours: ours.lost)


def _contexts() -> Any:
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("127.0.0.1").configure_cert(ours)
    authority.configure_trust(theirs)
    return ours, theirs


@pytest.mark.both_loops
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", STATES, ids=lambda each: each.__name__)
async def test_no_call_raises(kind: str, state: Any, tmp_path: Path, logs: Any) -> None:
    async with opened(kind, tmp_path) as connect:
        for name, call in CALLS.items():
            ours, peer = await connect()
            await state(ours, peer)
            for times in range(7):  # asyncio complains of the fifth write to a connection that is gone
                try:
                    call(ours.flow)
                except Exception as error:
                    raise AssertionError(f"{name}, call {times + 1}: {error!r}") from error
            await asyncio.sleep(0)
            call(ours.flow)
            ours.flow.abort()
            peer.leave()
            await until(lambda ours=ours: ours.lost)
            call(ours.flow)
    assert logs.lines("asyncio") == []
    assert logs.errors == []


# The face that users see


async def face_reset(ws: Any, peer: Client) -> None:
    peer.reset()
    await until(lambda: peer.sock.fileno() < 0)


async def face_reset_seen(ws: Any, peer: Client) -> None:
    peer.reset()
    await until(lambda: ws.closed)


async def face_half_closed(ws: Any, peer: Client) -> None:
    peer.half_close()


async def face_bad_frame(ws: Any, peer: Client) -> None:
    """The end of writing, and then a reset: what asyncio's loop raised ENOTCONN for."""
    await peer.raw(b"\xff\xff\xff\xff")
    peer.reset()


async def face_aborted(ws: Any, peer: Client) -> None:
    ws.abort()


FACE_STATES = (face_reset, face_reset_seen, face_half_closed, face_bad_frame, face_aborted)
FACE_CALLS: dict[str, Callable[[Any], Any]] = {
    "send": lambda ws: ws.send("x"),
    "send much": lambda ws: ws.send(FULL),
    "recv": lambda ws: ws.recv(),
    "ping": lambda ws: ws.ping(),
    "pong": lambda ws: ws.pong(),
    "close": lambda ws: ws.close(),
    "fragments": lambda ws: ws.send_fragmented(["a", "b"]),
}


@pytest.mark.both_loops
@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("state", FACE_STATES, ids=lambda each: each.__name__[5:])
async def test_the_library_raises_its_own_errors(role: str, state: Any, logs: Any) -> None:
    for name, call in FACE_CALLS.items():
        async with open_ends(role, close_timeout=0.2) as (ws, peer):
            await state(ws, peer)
            for _ in range(7):
                try:
                    await within(call(ws))
                except ConnectionClosed:
                    pass
                except Exception as error:
                    raise AssertionError(f"{name}: {error!r}") from error
            assert ws.remote_address is not None or ws.closed
            repr(ws)
            ws.abort()
            await within(ws.wait_closed())
            assert ws.local_address is None or ws.closed
    assert logs.lines("asyncio") == []


# A server that leaves while connect() opens

HELLO = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"


async def at_once(reader: asyncio.StreamReader) -> bytes:
    return b""


async def after_some(reader: asyncio.StreamReader) -> bytes:
    await reader.read(10)
    return b""


async def amid_its_answer(reader: asyncio.StreamReader) -> bytes:
    await reader.read(10)
    return HELLO


async def amid_a_body(reader: asyncio.StreamReader) -> bytes:
    await reader.readuntil(b"\r\n\r\n")
    return b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nno"


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


ENDINGS: dict[str, Callable[[asyncio.StreamWriter], None]] = {
    "reset": _reset,
    "close": lambda writer: writer.close(),
    "end": lambda writer: writer.write_eof(),
}


@pytest.mark.both_loops
@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("moment", [at_once, after_some, amid_its_answer, amid_a_body], ids=lambda each: each.__name__)
async def test_a_server_that_leaves_is_told_of_by_the_documented_errors(
    scheme: str, ending: str, moment: Any, logs: Any
) -> None:
    if scheme == "wss" and moment is amid_a_body:
        pytest.skip("it would wait for a request, and gets a TLS handshake")
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        answer = await moment(reader)
        if answer:
            writer.write(answer)
            await writer.drain()
        ENDINGS[ending](writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    uri = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    for _ in range(20):
        with pytest.raises((ConnectionError, ssl.SSLError, HandshakeError)) as caught:
            await within(connect(uri, proxy=None, open_timeout=5))
        assert type(caught.value) is not OSError
    server.close()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0)
    assert logs.lines("asyncio") == []


# One place for all of it

RAISING = {"write", "writelines", "write_eof", "set_write_buffer_limits", "get_extra_info"}
"""What a transport raises for its state, on one event loop or the other."""
ASKS = {
    "supervisor/channel.py": {"write"},
    "server/tls.py": {"get_extra_info"},
    "topics/local/broker.py": {"write", "set_write_buffer_limits"},
    "topics/local/siblings.py": {"write"},
    "topics/redis/link.py": {"write"},
}
"""Those who call it all the same: they ask is_closing() before, have a transport that was just made, or want an
ssl_object, which never raises."""


def test_only_a_flow_calls_what_raises() -> None:
    package = Path(__file__).parents[2] / "flowserve"
    found = set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RAISING:
                owner, name = ast.unparse(node.func.value), str(file.relative_to(package))
                if owner.endswith("transport") and node.func.attr not in ASKS.get(name, ()):
                    found.add(name)
    assert found == {"transport/stream.py"}
