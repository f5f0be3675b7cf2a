"""Clients that read slowly or not at all: what they get, what they cost, and that nobody else is held up by them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import ssl
import sys

import pytest
import trustme
from support.helpers import CLOSE, TEXT, UPGRADE, Frame, Pump, close_payload, frame, until, within
from websockets.asyncio.client import connect as foreign_connect

from flowserve.session.session import Session
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role

KIB = 1024
MARK = 64 * KIB
HEADER = 14  # bytes of a frame, at most
DROP = {"ws_slow_consumer": "drop", "ws_slow_consumer_mark": MARK}
CLOSE_IT = {"ws_slow_consumer": "close", "ws_slow_consumer_mark": MARK}


class Slow:
    """A client whose kernel takes little, and which itself reads only when it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.connection = Connection(Role.CLIENT, 1 << 26, 1000)

    @classmethod
    async def connect(cls, address) -> Slow:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
        loop = asyncio.get_running_loop()
        await within(loop.sock_connect(sock, address))
        client = cls(sock)
        await within(loop.sock_sendall(sock, UPGRADE))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await within(loop.sock_recv(sock, 1))
        assert head.startswith(b"HTTP/1.1 101 ")
        return client

    async def read(self, size: int = 65536) -> bool:
        """Take at most `size` bytes. Whether there were any; a reset counts as the end."""
        try:
            data = await within(asyncio.get_running_loop().sock_recv(self.sock, size))
        except ConnectionError:
            return False
        self.connection.feed(data)
        return bool(data)

    async def message(self) -> str | bytes:
        while not self.connection.waiting:
            assert await self.read()
        return self.connection.take()

    async def send(self, opcode: int, payload: bytes = b"") -> None:
        await within(asyncio.get_running_loop().sock_sendall(self.sock, frame(opcode, payload)))


@pytest.fixture
def listener():
    """A socket whose connections have little room in the kernel."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * KIB)
        sock.bind(("127.0.0.1", 0))
        yield sock


@pytest.fixture
async def slow_pair(listener, serve, stage):
    """`act, client, session = await slow_pair(**options)`: a WebSocket to a client that does not read."""
    clients = []

    async def open_pair(**options):
        server = await serve(stage, sockets=[listener], **options)
        opening = asyncio.ensure_future(Slow.connect(server.address))
        act = await stage.next()
        await act.accept()
        clients.append(await opening)
        (session,) = (each for each in server.server._context.live if isinstance(each, Session))
        return act, clients[-1], session

    yield open_pair
    for client in clients:
        client.sock.close()


def waits(session: Session) -> int:
    """Bytes that this process holds for the client."""
    return session.connection.output_size + session.stream.transport.get_write_buffer_size()


def text(number: int, size: int = KIB) -> str:
    """A message that begins with its number, and hardly gets smaller than half by compression."""
    return f"{number} " + random.Random(number).randbytes(size // 2).hex()


def number_of(message: str | bytes) -> int:
    assert isinstance(message, str)
    number, _, rest = message.partition(" ")
    assert text(int(number), len(rest)) == message
    return int(number)


# drop


@pytest.mark.both_loops
async def test_drop(slow_pair, logs):
    """send() never waits; what the client gets is whole and in order, and goes on when it has caught up."""
    act, client, session = await slow_pair(**DROP)
    count = 1000
    for number in range(count):
        await act.send_text(text(number))
        assert waits(session) <= MARK + KIB + 2 * HEADER
    dropped = session.dropped
    assert 0 < dropped < count
    got = [number_of(await client.message()) for _ in range(count - dropped)]
    assert got[:10] == list(range(10))
    assert got == sorted(set(got))
    await act.send_text("caught up")
    assert await client.message() == "caught up"
    assert session.dropped == dropped
    await act.close(4000, "the end")
    while not client.connection.ended:
        assert await client.read()
    assert (client.connection.close_code, client.connection.close_reason) == (4000, "the end")
    await client.send(CLOSE, close_payload(4000))
    await until(lambda: logs.lines("flowserve.access")[-1].endswith(f", dropped {dropped}"))


@pytest.mark.both_loops
async def test_drop_goes_on_below_half_the_mark(slow_pair):
    act, client, session = await slow_pair(**DROP)
    number = 0
    while not session.dropped:
        await act.send_text(text(number))
        number += 1
    for _ in range(3):
        while waits(session) >= MARK // 2:
            dropped = session.dropped
            await act.send_text("too early")
            assert session.dropped == dropped + 1
            assert await client.read(KIB)
            await asyncio.sleep(0)
        dropped = session.dropped
        while session.dropped == dropped:  # so there is room for half of the mark again
            await act.send_text(text(number))
            number += 1
        assert waits(session) > MARK


@pytest.mark.both_loops
@pytest.mark.parametrize("context", ["shared", "takeover"])
@pytest.mark.parametrize(("count", "size"), [(1500, KIB), (30, 150 * KIB)])
async def test_drop_with_compression(listener, serve, stage, context, count, size):
    """A dropped message leaves no trace in the compressor; those that are compressed in a thread likewise."""
    server = await serve(stage, sockets=[listener], ws_deflate_context=context, **DROP)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, server.address)
    url = f"ws://{server.host}:{server.port}"
    opening = asyncio.ensure_future(
        foreign_connect(url, sock=sock, max_queue=1, max_size=None, ping_interval=None, proxy=None).__aenter__()
    )
    act = await stage.next()
    await act.accept()
    client = await within(opening)
    (session,) = (each for each in server.server._context.live if isinstance(each, Session))
    assert session.connection.deflate is not None
    for number in range(count):
        await act.send_text(text(number, size))
        assert waits(session) <= MARK + size + 4 * HEADER
    dropped = session.dropped
    assert 0 < dropped < count
    got = [number_of(await within(client.recv())) for _ in range(count - dropped)]
    assert got == sorted(set(got))
    await act.send_text("caught up " * 100)
    assert await within(client.recv()) == "caught up " * 100
    await within(client.close())


async def test_drop_lets_others_run(slow_pair):
    """An application that sends without end, and never waits for anything else."""
    act, client, session = await slow_pair(**DROP)

    async def flood():
        while True:
            await act.raw_send({"type": "websocket.send", "text": text(0)})

    flooding = asyncio.ensure_future(flood())
    await until(lambda: session.dropped > 100)
    for _ in range(20):
        await client.message()
    assert not flooding.done()
    flooding.cancel()
    await client.send(CLOSE, close_payload(4001))
    assert (await act.disconnected())["code"] == 4001


async def test_drop_drops_nothing_of_a_client_that_keeps_up(slow_pair):
    act, client, session = await slow_pair(**DROP)
    for number in range(500):
        await act.send_text(text(number, 4 * KIB))
        assert number_of(await client.message()) == number
    assert session.dropped == 0


async def test_drop_over_tls(serve, stage, connect, tmp_path):
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    server = await serve(stage, ssl_certfile=tmp_path / "cert.pem", **DROP)
    client = await connect(server, ssl=context, server_hostname="127.0.0.1", receive_buffer=16 * KIB)
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.accept()
    assert (await client.head()).status == 101
    (session,) = (each for each in server.server._context.live if isinstance(each, Session))
    size, count = 32 * KIB, 1000
    for number in range(count):
        await act.send({"type": "websocket.send", "bytes": number.to_bytes(4, "big") * (size // 4)})
    accepted = (count - session.dropped) * size
    assert accepted < MARK + 12 * KIB * KIB, "what kernel and client hold, and the mark"
    last = -1
    for _ in range(count - session.dropped):
        message = await client.message()
        assert message == message[:4] * (size // 4)
        assert int.from_bytes(message[:4], "big") > last
        last = int.from_bytes(message[:4], "big")


# close


@pytest.mark.both_loops
@pytest.mark.parametrize("code", [1013, 1008])
async def test_close(slow_pair, code, logs):
    """The client is told, if it reads on: whole messages first, then why."""
    act, client, session = await slow_pair(**CLOSE_IT, ws_slow_consumer_code=code, ws_close_timeout=8)

    async def flood():
        for number in range(1000):
            await act.send_text(text(number))
            assert waits(session) <= MARK + KIB + 2 * HEADER

    with pytest.raises(OSError):
        await flood()
    with pytest.raises(OSError):
        await act.send_text("more")
    assert await act.disconnected() == {"type": "websocket.disconnect", "code": code, "reason": "too slow"}
    while not client.connection.ended:
        assert await client.read()
    assert (client.connection.close_code, client.connection.close_reason) == (code, "too slow")
    got = [number_of(client.connection.take()) for _ in range(client.connection.waiting)]
    assert got == list(range(len(got)))
    await client.send(CLOSE, close_payload(code))
    assert not await client.read()
    await until(lambda: f" closed {code} after " in logs.lines("flowserve.access")[-1])


@pytest.mark.both_loops
async def test_close_of_a_client_that_does_not_read_on(slow_pair):
    """It is cut after the close timeout."""
    act, client, session = await slow_pair(**CLOSE_IT, ws_close_timeout=0.2)
    with contextlib.suppress(OSError):
        while True:
            await act.send_text(text(0))
    assert (await act.disconnected())["code"] == 1013
    await until(lambda: session not in session.context.live)
    while await client.read():
        pass
    assert not client.connection.ended, "a close frame got through"


@pytest.mark.both_loops
@pytest.mark.parametrize("context", ["shared", "takeover"])
async def test_close_with_compression(listener, serve, stage, connect, context):
    server = await serve(stage, sockets=[listener], ws_deflate_context=context, **CLOSE_IT, ws_close_timeout=0.2)
    client = await connect(server, receive_buffer=16 * KIB)
    opening = asyncio.ensure_future(client.upgrade("/", "Sec-WebSocket-Extensions: permessage-deflate"))
    act = await stage.next()
    await act.accept()
    assert (await opening).header("sec-websocket-extensions").startswith("permessage-deflate")
    (session,) = (each for each in server.server._context.live if isinstance(each, Session))

    async def flood(size: int):
        with contextlib.suppress(OSError):
            while True:
                await act.raw_send({"type": "websocket.send", "text": text(0, size)})
                assert waits(session) <= MARK + 150 * KIB

    await within(asyncio.gather(flood(KIB), flood(150 * KIB), flood(150 * KIB)))
    assert await act.disconnected() == {"type": "websocket.disconnect", "code": 1013, "reason": "too slow"}
    await until(lambda: session not in session.context.live)


# Both


@pytest.mark.both_loops
@pytest.mark.parametrize("options", [DROP, CLOSE_IT], ids=["drop", "close"])
async def test_a_broadcast_is_not_held_up_by_one_slow_client(listener, serve, stage, options):
    server = await serve(stage, sockets=[listener], **options)
    clients, acts = [], []
    for _ in range(10):
        opening = asyncio.ensure_future(Slow.connect(server.address))
        acts.append(await stage.next())
        await acts[-1].accept()
        clients.append(await opening)
    readers = clients[1:]
    listeners = list(acts)

    async def broadcast(number: int) -> None:
        for act in list(listeners):
            try:
                await act.raw_send({"type": "websocket.send", "text": text(number, 4 * KIB)})
            except OSError:
                listeners.remove(act)

    for number in range(100):
        await within(broadcast(number))
        for client in readers:
            assert number_of(await client.message()) == number
    assert len(listeners) == (10 if options is DROP else 9)
    for client in clients:
        client.sock.close()


@pytest.mark.parametrize("policy", ["close", "drop"])
async def test_a_client_that_keeps_up_notices_nothing(serve, policy):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    server = await serve(app, ws_slow_consumer=policy)
    async with foreign_connect(server.ws_url, proxy=None) as client:
        for turn in range(20):
            for number in range(20):
                await client.send(text(number))
            for number in range(20):
                assert number_of(await within(client.recv())) == number, turn


# The send timeout


@pytest.mark.both_loops
async def test_send_timeout(slow_pair, logs):
    """Whoever waits in send() learns it."""
    act, _, session = await slow_pair(ws_send_timeout=0.2)

    async def stream():
        while True:
            await act.raw_send({"type": "websocket.send", "text": text(0)})
            yield

    pump = Pump(stream())
    with pytest.raises(OSError):
        await within(pump.task)
    assert await act.disconnected() == {"type": "websocket.disconnect", "code": 1013, "reason": "send timeout"}
    assert session not in session.context.live
    assert " closed 1013 after " in logs.lines("flowserve.access")[-1]


@pytest.mark.parametrize("policy", ["wait", "close", "drop"])
async def test_send_timeout_of_an_application_that_waits_elsewhere(slow_pair, policy):
    """It sent less than what makes it wait."""
    act, _, session = await slow_pair(ws_send_timeout=0.2, ws_slow_consumer=policy)
    await act.send_text(text(0, 60 * KIB))
    assert (await act.disconnected())["reason"] == "send timeout"
    await until(lambda: session not in session.context.live)


@pytest.mark.both_loops
async def test_a_client_that_reads_slowly_but_steadily_is_not_ended(slow_pair):
    """For several times the timeout, though the stream is full all the time."""
    act, client, session = await slow_pair(ws_send_timeout=0.3)
    loop = asyncio.get_running_loop()

    async def stream():
        while True:
            await act.raw_send({"type": "websocket.send", "bytes": bytes(64 * KIB)})
            yield

    pump = Pump(stream())
    end = loop.time() + 1.5
    while loop.time() < end:
        assert await client.read(8 * KIB)
        await asyncio.sleep(0.03)  # the client's own slowness
    assert session in session.context.live
    assert session.stream.write_paused
    await until(lambda: session not in session.context.live)  # it has stopped
    with pytest.raises(OSError):
        await within(pump.task)


# The lifetime


@pytest.mark.both_loops
async def test_lifetime(serve, stage, open_ws):
    server = await serve(stage, ws_max_lifetime=0.3)
    opening = asyncio.ensure_future(open_ws(server))
    act = await stage.next()
    await act.accept()
    client = await opening

    async def chat():
        while True:
            await act.raw_send({"type": "websocket.send", "text": "tick"})
            await asyncio.sleep(0.01)
            yield

    pump = Pump(chat())
    while (got := await client.frame()).opcode == TEXT:
        pass
    assert got == Frame(CLOSE, close_payload(1001, "lifetime limit reached"))
    assert (await act.disconnected())["code"] == 1001
    with pytest.raises(OSError):
        await within(pump.task)


# The real command


FLOOD = 20_000  # messages of 1 KiB: more than kernels hold


async def flood(scope, receive, send):
    """Sends them, says so, and closes."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    for number in range(FLOOD):
        await send({"type": "websocket.send", "text": text(number)})
    print("flooded", file=sys.stderr, flush=True)
    await send({"type": "websocket.close", "code": 4000})


async def test_the_command(command):
    options = ("--ws-slow-consumer", "drop", "--ws-slow-consumer-mark", "64KiB", "--lifespan", "off")
    running = await command("server.test_slow_consumer:flood", *options)
    client = await Slow.connect(running.address)
    await running.logged("flooded")
    while not client.connection.ended:
        assert await client.read()
    assert client.connection.close_code == 4000
    got = [number_of(client.connection.take()) for _ in range(client.connection.waiting)]
    assert got == sorted(set(got))
    assert 0 < len(got) < FLOOD
    await client.send(CLOSE, close_payload(4000))
    while await client.read():
        pass
    client.sock.close()
    running.signal(signal.SIGTERM)
    status, out, _ = await running.wait()
    assert status == 0
    assert " closed 4000 after " in out
    assert f"out {len(got)} messages " in out
    assert f", dropped {FLOOD - len(got)}" in out
