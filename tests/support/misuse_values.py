"""What the steps of misuse.py are made of: objects of the compiled classes in several conditions, and arguments."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, NamedTuple

from flowserve import Config
from flowserve.asgi.application import Invocation
from flowserve.asgi.context import Context
from flowserve.asgi.http import HTTPCycle
from flowserve.asgi.websocket import WebSocketCycle
from flowserve.http.messages import RequestHead
from flowserve.http.request_parser import RequestParser
from flowserve.http.response_encoder import ResponseEncoder
from flowserve.library.properties import WebSocketProperties
from flowserve.library.websocket import WebSocket
from flowserve.metrics import Metrics
from flowserve.server.admission import Admission
from flowserve.server.h1_connection import H1Connection
from flowserve.server.h1_response_stream import H1ResponseStream
from flowserve.server.upgrade import Upgrade
from flowserve.session.keepalive import Keepalive
from flowserve.session.metered import MeteredConnection, MeteredSession
from flowserve.session.receiver import Receiver
from flowserve.session.sender import Sender
from flowserve.session.session import Session
from flowserve.session.slow_consumer import SlowConsumerLimit
from flowserve.session.writer import SessionWriter
from flowserve.transport.flush_queue import FlushQueue
from flowserve.transport.interfaces import Peer
from flowserve.transport.stream import TransportStream
from flowserve.transport.timers import Timers
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateParameters, DeflateSettings, PerMessageDeflate
from flowserve.websocket.frames import FrameDecoder
from flowserve.websocket.output import Output
from flowserve.websocket.payload import PayloadBuffer

PEER = Peer(("192.0.2.1", 4711), ("192.0.2.2", 80), False)
FIELDS = [
    *((b"host", b"a"), (b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"sec-websocket-version", b"13")),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]
FRAME = b"\x01\x85\0\0\0\0hello"
LARGE = b"\x82\xff" + (1 << 20).to_bytes(8, "big") + b"\0\0\0\0some"
"""The beginning of a frame whose payload gets a store."""

Maker = Callable[[], Any]


class Value(NamedTuple):
    """An argument, made anew for each call, and what to call it."""

    label: str
    make: Maker


def value(of: Any) -> Value:
    """One that is the same each time, as nothing can change it."""
    label = repr(of)
    return Value(label if len(label) < 40 else f"{label[:30]}... of {len(of)}", lambda: of)


class Held(asyncio.Transport):
    """A transport to nowhere, which says that `buffered` bytes wait in it."""

    def __init__(self, protocol: Any = None, buffered: int = 100_000) -> None:
        super().__init__({"socket": None, "sockname": ("192.0.2.1", 80), "peername": ("192.0.2.2", 4711)})
        self.protocol = protocol
        self.buffered = buffered

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return False

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def nothing(self, *ignored: Any) -> None:
        """What all that is asked of it comes to."""

    write = writelines = set_write_buffer_limits = nothing  # type: ignore[assignment]
    write_eof = close = abort = pause_reading = resume_reading = nothing


class Anything:
    """Has every attribute, and takes every call."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *ignored: Any, **also: Any) -> Any:
        return self


class Wrong:
    """What it is asked for is of the wrong type, whatever it is."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *ignored: object()


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()


class Objects:
    """Makes objects of the compiled classes as flowserve makes them, for one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.config = Config(app, ws_ping_interval=1.0, ws_idle_timeout=9.0)
        self.flush_queue = FlushQueue(loop)
        self.metrics = Metrics(loop)
        role = int(Role.SERVER)
        limits = 1 << 24, 16
        new: dict[type, Maker] = {
            WebSocketProperties: lambda: WebSocketProperties(self.of(Session), None, None, None),
            SlowConsumerLimit: lambda: SlowConsumerLimit(self.config, self.of(TransportStream)),
            Connection: lambda: Connection(role, *limits),
            Context: lambda: Context(app, self.config, loop, self.flush_queue),
            TransportStream: lambda: TransportStream(Held(), copy_context()),
            FrameDecoder: lambda: FrameDecoder(role, False),
            Admission: lambda: Admission(self.of(Context)),
            H1Connection: lambda: H1Connection(self.of(Context), self.of(Admission), None),
            H1ResponseStream: lambda: self.of(H1Connection),
            HTTPCycle: lambda: HTTPCycle(self.of(RequestHead), self.begun(), self.of(Context)),
            Invocation: lambda: Invocation(self.of(Context), self.of(HTTPCycle), {}),
            Keepalive: lambda: Keepalive(self.config, 1.0),
            MeteredConnection: lambda: MeteredConnection(role, *limits, None, self.metrics),
            MeteredSession: lambda: MeteredSession(*self.session_of(self.of(MeteredConnection))),
            FlushQueue: lambda: FlushQueue(loop),
            Output: lambda: self.of(Connection),
            Receiver: lambda: self.of(Session),
            RequestHead: lambda: RequestHead("GET", b"/path?query", "1.1", FIELDS.copy()),
            RequestParser: lambda: RequestParser(Anything(), 8192, 100),
            ResponseEncoder: lambda: ResponseEncoder(self.of(RequestHead)),
            Sender: lambda: self.of(Session),
            Session: lambda: Session(*self.session_of(self.of(Connection))),
            PayloadBuffer: lambda: PayloadBuffer(1000, True, 10),
            Timers: lambda: Timers(loop),
            Upgrade: lambda: Upgrade(self.of(RequestHead)),
            WebSocket: lambda: WebSocket(self.of(Session), None),
            WebSocketCycle: lambda: WebSocketCycle(self.of(RequestHead), self.begun(), self.of(Context)),
            SessionWriter: lambda: self.of(Session),
        }
        self.new = new
        self.kinds = {kind.__name__: kind for kind in new}

    def of(self, kind: type) -> Any:
        return self.new[kind]()

    def session_of(self, connection: Connection) -> tuple[Any, ...]:
        context = self.of(Context)
        context.metrics = self.metrics
        return connection, self.of(TransportStream), context

    def begun(self) -> H1Connection:
        connection: H1Connection = self.of(H1Connection)
        connection.begin(self.of(TransportStream), PEER, False)
        return connection

    def deflating(self) -> Connection:
        agreed = DeflateParameters(False, False, 15, 15)
        return Connection(1, 1 << 24, 16, PerMessageDeflate(DeflateSettings(context="takeover"), agreed, 1))

    def conditions(self, kind: type) -> list[Value]:
        """Objects of `kind`, from never made to used up."""
        found = [Value("an unmade one", lambda: kind.__new__(kind))]  # type: ignore[call-overload]
        with contextlib.suppress(TypeError):  # a class may be final
            heir = type("Heir", (kind,), {"__init__": lambda self, *ignored, **also: None})
            found.append(Value("an heir without super().__init__()", heir))
        if kind in self.new:
            found += [
                Value("a sound one", self.new[kind]),
                Value("one in use", lambda: use(self.new[kind]())),
                Value("one that has ended", lambda: end(use(self.new[kind]()))),
            ]
        if kind is Connection:
            found.append(Value("one that compresses", self.deflating))
        return found


def use(it: Any) -> Any:
    """Have it be in the middle of something, as far as it knows how."""
    for name, arguments in (
        *(
            ("begin", (TransportStream(Held(), copy_context()), PEER, False)),
            ("data_received", (FRAME[:8],)),
            ("feed", (FRAME,)),
        ),
        *(("feed", (LARGE,)), ("next", ()), ("send_text", ("text",)), ("put", (b"abc", 0, 3)), ("pause_reading", ())),
        *(("data_received", (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123",)), ("run", ())),
    ):
        with contextlib.suppress(Exception):
            getattr(it, name)(*arguments)
    return it


def end(it: Any) -> Any:
    """Have it end, in every way that it knows."""
    for name, arguments in (
        *(("answer_end", ()), ("close", ()), ("close", (1000,)), ("abort", ()), ("disconnected", ()), ("lost", ())),
        *(("connection_lost", (None,)), ("flush", ()), ("whole", ()), ("body_complete", ()), ("app_done", (True,))),
    ):
        with contextlib.suppress(Exception):
            getattr(it, name)(*arguments)
    return it


PLAIN = [
    value(each)
    for each in (
        *(None, True, 0, 1, -1, 5, 126, 65536, 2**31 - 1, 2**31, 2**62, 2**63 - 1, 2**63, 2**64, -(2**31), -(2**63)),
        *(0.5, -1e300, math.inf, math.nan, "", "text", "\xe9\u20ac\U0001f600", "\ud800", "x" * 70_000, "e\u0301" * 9),
        *(b"", b"x", b"\0\0\0\0", FRAME, LARGE, b"\x81\xfe\xff\xff\0\0\0\0", b"x" * 1_000_000, b"\xff" * 300),
        *((), (None,), (b"name", b"value"), frozenset({1}), int, len, TypeError("thrown"), StopIteration(1)),
    )
]
FRESH = [
    *(Value("bytearray(70000)", lambda: bytearray(70_000)), Value("memoryview(b'x')", lambda: memoryview(b"x"))),
    *(Value("[]", list), Value("[None]", lambda: [None]), Value("[b'x']", lambda: [b"x"]), Value("{}", dict)),
    *(Value("{1}", lambda: {1}), Value("Anything()", Anything), Value("Wrong()", Wrong), Value("object()", object)),
    Value("an event to send", lambda: {"type": "websocket.send", "text": None, "bytes": b"x"}),
    Value("an event to begin with", lambda: {"type": "http.response.start", "status": 200, "headers": [None]}),
    Value("an event of a body", lambda: {"type": "http.response.body", "body": "text", "more_body": 7}),
]


class Arguments:
    """What to call functions with, by the annotations of their parameters."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.all = PLAIN + FRESH
        self.by_word: dict[str, Maker] = {
            "AbstractEventLoop": lambda: objects.loop,
            "BaseException": lambda: TypeError("thrown"),
            "Call": lambda: objects.of(HTTPCycle),
            "Caller": self.context,
            "Config": lambda: objects.config,
            "Data": lambda: b"data",
            "Headers": lambda: FIELDS,
            "Household": self.context,
            "Iterable": lambda: FIELDS,
            "Metrics": lambda: objects.metrics,
            "None": lambda: None,
            "Peer": lambda: PEER,
            "ResponseStream": objects.begun,
            "Sequence": lambda: FIELDS,
            "Stream": lambda: objects.of(TransportStream),
            "Timed": lambda: objects.of(Session),
            "Transport": Held,
            "Variables": copy_context,
            "bool": bool,
            "bytes": lambda: FRAME,
            "dict": lambda: {"type": "websocket.accept"},
            "float": lambda: 1.0,
            "int": lambda: 1,
            "list": lambda: ["text"],
            "str": lambda: "text",
        }

    def context(self) -> Any:
        return self.objects.of(Context)

    def good(self, annotation: str) -> Value:
        """One that is as it should be."""
        for word in re.findall(r"\w+", annotation):
            if word in self.objects.kinds:
                return Value(f"a sound {word}", self.objects.new[self.objects.kinds[word]])
            if word in self.by_word:
                return Value(f"a good {word}", self.by_word[word])
        return Value("None", lambda: None)

    def bad(self, annotation: str) -> list[Value]:
        """All that may be passed instead, with objects of the right class in all conditions."""
        known = [self.objects.kinds[word] for word in re.findall(r"\w+", annotation) if word in self.objects.kinds]
        own = [Value(f"{name}: {label}", make) for name, label, make in self.conditions(known)]
        return self.all + own

    def conditions(self, kinds: list[type]) -> list[tuple[str, str, Maker]]:
        return [(kind.__name__, one.label, one.make) for kind in kinds for one in self.objects.conditions(kind)]
