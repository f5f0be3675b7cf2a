"""What is measured: the cases of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True)
class Case:
    """One kind of traffic.

    `kind` names the load (load.py), `app` the application that the server runs. `size` is the payload of a text message
    in bytes, `idle` how many connections stand beside those that are used. `compressed` says that both sides compress
    their messages, which look like JSON then, and that idle connections have exchanged one before; without `takeover`
    the client asks the server to compress each message by itself. `request` names the HTTP requests (messages.py).
    """

    name: str
    title: str
    kind: str = "echo"
    app: str = "echo"
    connections: int = 100
    in_flight: int = 1
    size: int = 64
    idle: int = 0
    tls: bool = False
    compressed: bool = False
    takeover: bool = True
    topics: int = 1
    redis: bool = False
    request: str = "bare"
    workers: int = 1

    @property
    def unit(self) -> str:
        """What the main figure counts: microseconds of CPU a message, or memory where that is asked."""
        return {"idle": "KB/conn", "subscriptions": "B/sub"}.get(self.kind, "µs")

    @property
    def figure(self) -> str:
        """The main figure in words."""
        figures = {"idle": "KB a connection", "subscriptions": "bytes a subscription", "room": "CPU a delivery"}
        return figures.get(self.kind, "CPU a message")


fan_out = partial(Case, kind="room", app="topic", connections=1000)
hello = partial(Case, kind="http", connections=64, request="browser")
subscriptions = partial(Case, kind="subscriptions", app="topic", connections=10000)
through_redis = partial(Case, app="topic", connections=1, in_flight=100, topics=100, redis=True)
CASES = {
    case.name: case
    for case in (
        Case("A", "64-byte text, 100 connections, 1 in flight each"),
        Case("B", "64-byte text, 20 connections, 32 in flight each", connections=20, in_flight=32),
        Case("C", "16 KiB text, 10 connections, 1 in flight each", connections=10, size=16 * 1024),
        Case("D", "1 MiB text, 4 connections, 1 in flight each", connections=4, size=1024 * 1024),
        Case("E", "handshake, one echo, close, 50 at a time", kind="visit", connections=50),
        Case("F", "memory of each of 5,000 idle connections", kind="idle", connections=5000),
        Case("G", "HTTP hello, 64 keep-alive connections", kind="http", connections=64),
        Case("H", "case A, a Starlette application", app="starlette"),
        Case("I", "case A over TLS", tls=True),
        Case("J", "one message to 1,000 connections in a loop", kind="room", app="room", connections=1000),
        Case("K", "64-byte text, 10 connections", connections=10),
        Case("L", "64-byte text, 10 connections beside 9,990 idle ones", connections=10, idle=9990),
        Case(
            "M", "1 KiB JSON, compressed, 100 connections, 1 in flight each", kind="deflate", size=1024, compressed=True
        ),
        Case("N", "case F after a compressed message", kind="idle", connections=5000, size=1024, compressed=True),
        Case("O", "case M, no context takeover", kind="deflate", size=1024, compressed=True, takeover=False),
        fan_out("P", "one message to 1,000 subscribers of a topic"),
        fan_out("Q", "one message to 100 subscribers", connections=100),
        fan_out("R", "one message to 10,000 subscribers", connections=10000),
        fan_out("S", "8 messages a turn to 1,000 subscribers", in_flight=8),
        fan_out("T", "8 messages a turn to 10,000 subscribers", connections=10000, in_flight=8),
        fan_out("U", "1 KiB JSON, compressed, to 1,000 subscribers", size=1024, compressed=True),
        fan_out("V", "1 KiB JSON, compressed, to 10,000 subscribers", connections=10000, size=1024, compressed=True),
        subscriptions("W", "memory of a subscription: 10,000 connections, 1 each", topics=1),
        subscriptions("X", "memory of a subscription: 10,000 connections, 10 each", topics=10),
        through_redis("Y", "64-byte text, published through Redis", kind="publish"),
        through_redis("Z", "64-byte text, from Redis to one subscriber", kind="intake"),
        hello("1", "HTTP hello, 64 browsers: 12 fields, another target each time"),
        hello("2", "JSON from a Starlette route, 64 browsers", app="starlette"),
        hello("3", "POST of 1 KiB, answered with its length, 64 connections", app="upload", request="post", size=1024),
        hello(
            *("4", "POST of 1 MiB, answered with its length, 4 connections"),
            app="upload",
            request="post",
            size=1 << 20,
            connections=4,
        ),
        Case("5", "case A, two workers on one core", workers=2),
    )
}
