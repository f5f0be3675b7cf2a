"""A raw client and an application that the test itself plays.

The client speaks in literal bytes over asyncio streams and judges what it reads: a malformed head or frame from the
server fails the test. Every wait is bounded by PATIENCE seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import ssl as tls
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextvars import copy_context
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
Message = dict[str, Any]

LONGEST_TEST = int(os.environ.get("FLOWSERVE_LONGEST_TEST", "60"))
"""Seconds; several times what the slowest takes. More where all is slower, as in compliance/sanitize."""
PATIENCE = LONGEST_TEST / 3
MASK = b"\x01\x02\x03\x04"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

UPGRADE = (
    b"GET / HTTP/1.1\r\n"
    b"Host: example.com\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"\r\n"
)
"""The opening handshake of RFC 6455 section 1.2, whose answer carries ACCEPT."""
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


async def within(awaitable: Awaitable[T], seconds: float = PATIENCE) -> T:
    """Await, but no longer than `seconds`, or PATIENCE if that is more: that is a failure, and no OSError as
    TimeoutError is from Python 3.11 on."""
    try:
        return await asyncio.wait_for(awaitable, max(seconds, PATIENCE))
    except asyncio.TimeoutError:
        raise AssertionError(f"nothing came within {seconds} s") from None


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Let the loop run until `condition()` holds, at most `seconds`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        if loop.time() > deadline:
            raise AssertionError(f"not within {seconds} s: {condition}")
        await asyncio.sleep(0.002)


class Response(NamedTuple):
    """One response head, and its body where it was read."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        """Every value of the header `name`, in order."""
        return [value for key, value in self.headers if key.lower() == name]

    def header(self, name: str) -> str | None:
        """The value of a header that stands at most once."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None


class Frame(NamedTuple):
    """One WebSocket frame as it stood on the wire."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    length: int | None = None,
    length_bytes: int | None = None,
) -> bytes:
    """A client's frame; `mask=None` leaves it unmasked.

    `length` is written in place of the payload's own, `length_bytes` (0, 2 or 8) forces the form of the length.
    """
    size = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 65536 else 8
    short = {0: size, 2: 126, 8: 127}[length_bytes]
    extended = {0: b"", 2: struct.pack("!H", size & 0xFFFF), 8: struct.pack("!Q", size)}[length_bytes]
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if mask is None:
        return bytes((first, short)) + extended + payload
    return bytes((first, 0x80 | short)) + extended + mask + masked(payload, mask)


def masked(payload: bytes, mask: bytes = MASK) -> bytes:
    """`payload` XORed with the four bytes of `mask` (RFC 6455 section 5.3)."""
    if mask == b"\0\0\0\0" or not payload:
        return payload
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(payload), "big")


def close_payload(code: int, reason: str = "") -> bytes:
    """The body of a close frame (RFC 6455 section 5.5.1)."""
    return struct.pack("!H", code) + reason.encode()


class Client:
    """One connection; literal bytes out, judged bytes in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sock: socket.socket) -> None:
        self.reader = reader
        self.writer = writer
        self.sock = sock

    @classmethod
    async def connect(
        cls,
        address: Any,
        *,
        family: int = socket.AF_INET,
        ssl: tls.SSLContext | None = None,
        server_hostname: str | None = None,
        receive_buffer: int | None = None,
    ) -> Client:
        """Connect to `address`; `receive_buffer` (bytes) narrows the kernel's buffer, for tests of backpressure."""
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await within(asyncio.get_running_loop().sock_connect(sock, address))
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            options: dict[str, Any] = {"ssl": ssl, "server_hostname": server_hostname} if ssl else {}
            reader, writer = await within(asyncio.open_connection(sock=sock, **options))
        except BaseException:
            sock.close()
            raise
        return cls(reader, writer, sock)

    @property
    def address(self) -> tuple[str, int]:
        """Where this end is bound; what the server should call the client."""
        host, port = self.writer.get_extra_info("sockname")[:2]
        return host, port

    # Out

    async def raw(self, data: bytes) -> None:
        """Send `data` as it stands."""
        if self.writer.transport.is_closing():  # which asyncio and uvloop would tell in ways of their own
            raise ConnectionResetError("the server has hung up")
        self.writer.write(data)
        await within(self.writer.drain())

    async def dribble(self, data: bytes) -> None:
        """Send `data` in segments of one byte, each handed over by itself; stops quietly when the server hangs up."""
        with contextlib.suppress(ConnectionError):
            for index in range(len(data)):
                await self.raw(data[index : index + 1])
                await asyncio.sleep(0)
                await asyncio.sleep(0)

    async def pump(self, chunk: bytes, times: int) -> AsyncIterator[int]:
        """Send `chunk` again and again, waiting for room, and give the number of chunks handed over so far."""
        for count in range(1, times + 1):
            self.writer.write(chunk)
            await self.writer.drain()
            yield count

    async def get(self, target: str = "/", *headers: str) -> Response:
        """One GET and its response."""
        lines = "".join(f"{line}\r\n" for line in headers)
        await self.raw(f"GET {target} HTTP/1.1\r\nHost: example.com\r\n{lines}\r\n".encode())
        return await self.response()

    async def upgrade(self, target: str = "/", *headers: str, follow: bytes = b"") -> Response:
        """A WebSocket's opening handshake that must succeed; `follow` goes out in the same segment."""
        lines = "".join(f"{line}\r\n" for line in headers).encode()
        request = UPGRADE.replace(b"GET / ", f"GET {target} ".encode())
        await self.raw(request[:-2] + lines + b"\r\n" + follow)
        head = await self.head()
        assert head.status == 101, head
        assert head.header("sec-websocket-accept") == ACCEPT
        return head

    async def send_frame(
        self, opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0, mask: bytes | None = MASK
    ) -> None:
        await self.raw(frame(opcode, payload, fin=fin, rsv=rsv, mask=mask))

    async def send_text(self, text: str) -> None:
        await self.send_frame(TEXT, text.encode())

    async def send_close(self, code: int | None = None, reason: str = "") -> None:
        await self.send_frame(CLOSE, b"" if code is None else close_payload(code, reason))

    def half_close(self) -> None:
        """End this side of the connection (SHUT_WR); the other stays open."""
        self.writer.write_eof()

    def leave(self) -> None:
        """Drop the connection without any closing handshake."""
        self.writer.transport.abort()

    def reset(self) -> None:
        """Drop the connection with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def aclose(self) -> None:
        self.leave()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self.writer.wait_closed(), 2)

    # In

    async def exactly(self, count: int) -> bytes:
        return await within(self.reader.readexactly(count))

    async def expect(self, data: bytes) -> None:
        """The next bytes are `data`."""
        try:
            got = await self.exactly(len(data))
        except asyncio.IncompleteReadError as error:
            got = error.partial
        assert got == data

    async def line(self) -> bytes:
        return await within(self.reader.readuntil(b"\r\n"))

    async def rest(self) -> bytes:
        """Everything up to the server's end of the connection; a reset counts as the end."""
        parts: list[bytes] = []
        with contextlib.suppress(ConnectionError):
            while part := await within(self.reader.read(65536)):
                parts.append(part)
        return b"".join(parts)

    async def closed(self) -> None:
        """The server has ended the connection and sent nothing more."""
        assert await self.rest() == b""

    async def head(self) -> Response:
        """A response head, judged by RFC 9112 section 4 and 5."""
        data = await within(self.reader.readuntil(b"\r\n\r\n"))
        first, *lines = data[:-4].decode("latin-1").split("\r\n")
        status = re.fullmatch(r"HTTP/1\.1 ([1-5]\d\d) [\t -~]*", first)
        assert status, f"not a status line: {first!r}"
        headers: list[tuple[str, str]] = []
        for line in lines:
            header = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)", line)
            assert header, f"not a header: {line!r}"
            headers.append((header[1], header[2].strip(" \t")))
        response = Response(int(status[1]), headers)
        assert not (response.all("content-length") and response.all("transfer-encoding")), response
        return response

    async def response(self, method: str = "GET") -> Response:
        """A whole response to a request of `method` (RFC 9112 section 6.3)."""
        head = await self.head()
        if method == "HEAD" or head.status < 200 or head.status in (204, 304):
            return head
        if head.header("transfer-encoding") is not None:
            assert head.header("transfer-encoding") == "chunked"
            return head._replace(body=b"".join([chunk async for chunk in self.chunks()]))
        length = head.header("content-length")
        if length is not None:
            return head._replace(body=await self.exactly(int(length)))
        return head._replace(body=await self.rest())

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks of a chunked body, its end included but not given."""
        while True:
            line = await self.line()
            assert re.fullmatch(rb"[0-9A-Fa-f]+\r\n", line), line
            size = int(line, 16)
            data = await self.exactly(size)
            await self.expect(b"\r\n")
            if not size:
                return
            yield data

    async def frame(self) -> Frame:
        """A frame from the server: unmasked, its length in the shortest form (RFC 6455 sections 5.1 and 5.2)."""
        first, second = await self.exactly(2)
        assert not second & 0x80, "a server must not mask"
        size = second
        if second == 126:
            (size,) = struct.unpack("!H", await self.exactly(2))
            assert size > 125
        elif second == 127:
            (size,) = struct.unpack("!Q", await self.exactly(8))
            assert size > 65535
        opcode = first & 0x0F
        assert opcode in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
        assert opcode < CLOSE or (size <= 125 and first & 0x80)
        return Frame(opcode, await self.exactly(size), bool(first & 0x80), first >> 4 & 7)

    async def message(self) -> str | bytes:
        """An unfragmented message."""
        got = await self.frame()
        assert got.fin
        assert got.rsv == 0
        assert got.opcode in (TEXT, BINARY), got
        return got.payload.decode() if got.opcode == TEXT else got.payload

    async def close_frame(self) -> tuple[int | None, str]:
        """The server's close frame as (code, reason); the code is None in an empty one."""
        got = await self.frame()
        assert got.opcode == CLOSE, got
        assert got.rsv == 0
        if not got.payload:
            return None, ""
        (code,) = struct.unpack("!H", got.payload[:2])
        return code, got.payload[2:].decode()


class Pump:
    """A task that takes the steps of an async iterator, and counts them."""

    def __init__(self, steps: AsyncIterator[Any]) -> None:
        self.count = 0
        self._steps = steps
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        async for _ in self._steps:
            self.count += 1

    async def stall(self, quiet: float = 0.2) -> int:
        """Wait until no step was taken for `quiet` seconds, or the end was reached; give the steps so far.

        That nothing moves can only be seen by looking for a while. A slow machine makes this return early, which can
        hide a failure but not cause one.
        """
        while True:
            before = self.count
            done, _ = await asyncio.wait({self.task}, timeout=quiet)
            if done or self.count == before:
                return self.count

    async def finish(self) -> int:
        """Wait for the last step."""
        await within(self.task, 3 * PATIENCE)
        return self.count

    async def cancel(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await self.task


class Act:
    """One call of the application, played by the test."""

    def __init__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Any) -> None:
        self.variables = copy_context()  # as the application has them
        self.scope = scope
        self.raw_receive = receive
        self.raw_send = send
        self.ended = asyncio.Event()
        self.cancelled = False
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def receive(self) -> Message:
        return await within(self.raw_receive())

    async def send(self, message: Message) -> None:
        await within(self.raw_send(message))

    def leave(self) -> None:
        """The application returns."""
        if not self.end.done():
            self.end.set_result(None)

    def fail(self, error: BaseException) -> None:
        """The application raises `error`."""
        self.end.set_exception(error)

    # HTTP

    async def start(self, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def body(self, body: bytes = b"", more: bool = False) -> None:
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(self, body: bytes = b"", status: int = 200) -> None:
        """A whole response, and return."""
        await self.start(status, [(b"content-length", b"%d" % len(body))])
        await self.body(body)
        self.leave()

    async def read(self) -> bytes:
        """The whole request body."""
        parts = []
        while True:
            message = await self.receive()
            assert message["type"] == "http.request", message
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(parts)

    # WebSocket

    async def accept(self, **fields: Any) -> None:
        assert await self.receive() == {"type": "websocket.connect"}
        await self.send({"type": "websocket.accept", **fields})

    async def send_text(self, text: str) -> None:
        await self.send({"type": "websocket.send", "text": text})

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.send({"type": "websocket.close", "code": code, "reason": reason})

    async def disconnected(self) -> Message:
        """Take whatever comes until the client is gone, and give that event."""

        async def drain() -> Message:
            while not (message := await self.raw_receive())["type"].endswith(".disconnect"):
                pass
            return message

        return await within(drain())


class Stage:
    """An application that the test itself plays: each call of it becomes an Act, in order."""

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self._arrivals: asyncio.Queue[Act] = asyncio.Queue()

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        act = Act(scope, receive, send)
        self.acts.append(act)
        self._arrivals.put_nowait(act)
        try:
            await act.end
        except asyncio.CancelledError:
            act.cancelled = True
            raise
        finally:
            act.ended.set()

    async def next(self) -> Act:
        """The next call of the application."""
        return await within(self._arrivals.get())

    async def aclose(self) -> None:
        """Let the acts that the test left open see their client go, and return."""
        for act in self.acts:
            if not act.end.done():
                await within(act.disconnected(), 3)
                act.leave()
        for act in self.acts:
            await within(act.ended.wait(), 3)


class Running:
    """A started server and its address."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.sock: socket.socket = server.sockets[0]
        self.family = self.sock.family
        self.address = self.sock.getsockname()
        self.scheme = "https" if server.config.ssl_certfile else "http"

    @property
    def host(self) -> str:
        return str(self.address[0])

    @property
    def port(self) -> int:
        return int(self.address[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        return "ws" + self.url[4:]


# Applications, also for the real command line: flowserve --app-dir tests support.helpers:echo


async def hello(scope: Message, receive: Any, send: Any) -> None:
    """HTTP: 'hello'."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


async def echo(scope: Message, receive: Any, send: Any) -> None:
    """HTTP: the request's body, streamed back. WebSocket: each message back; 'close' closes with 4000."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})
            if not more:
                return
    elif scope["type"] == "websocket":
        assert (await receive())["type"] == "websocket.connect"
        subprotocols = scope["subprotocols"]
        await send({"type": "websocket.accept", "subprotocol": subprotocols[0] if subprotocols else None})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") == "close":
                await send({"type": "websocket.close", "code": 4000, "reason": "as you wish"})
                return
            await send({**message, "type": "websocket.send"})
    else:
        raise NotImplementedError(scope["type"])


async def slow(scope: Message, receive: Any, send: Any) -> None:
    """HTTP: says that it is there, then the rest after the request's body has come. The lifespan prints its ends."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("lifespan shutdown", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        message = await receive()
        while message["type"] == "http.request" and message.get("more_body", False):
            message = await receive()
        await send({"type": "http.response.body", "body": b"done"})
    else:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        message = await receive()
        while message["type"] != "websocket.disconnect":
            message = await receive()
        print(f"disconnect {message['code']}", flush=True)
