"""What is measured: the cases of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One kind of traffic.

    `kind` names the load (load.py), `app` the application that the server runs. `size` is the payload of a text message
    in bytes, `idle` how many connections stand beside those that are used. `compressed` says that both sides compress
    their messages, which look like JSON then, and that idle connections have exchanged one before; without `takeover`
    the client asks the server to compress each message by itself.
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

    @property
    def unit(self) -> str:
        """What the main figure counts: microseconds of CPU a message, or KB a connection where memory is asked."""
        return "KB/conn" if self.kind == "idle" else "us"


CASES = {
    case.name: case
    for case in (
        Case("A", "64-byte text, 100 connections, 1 in flight"),
        Case("B", "64-byte text, 20 connections, 32 in flight", connections=20, in_flight=32),
        Case("C", "16 KiB text, 10 connections, 1 in flight", connections=10, size=16 * 1024),
        Case("D", "1 MiB text, 4 connections, 1 in flight", connections=4, size=1024 * 1024),
        Case("E", "handshake, one echo, close, 50 at a time", kind="visit", connections=50),
        Case("F", "5,000 idle connections, keepalive on", kind="idle", connections=5000),
        Case("G", "HTTP hello, 64 keep-alive connections", kind="http", connections=64),
        Case("H", "case A, a Starlette application", app="starlette"),
        Case("I", "case A over TLS", tls=True),
        Case("J", "one message to 1,000 connections in a loop", kind="room", app="room", connections=1000),
        Case("K", "64-byte text, 10 connections, none idle beside them", connections=10),
        Case("L", "64-byte text, 10 connections, 9,990 idle ones beside them", connections=10, idle=9990),
        Case("M", "1 KiB JSON, compressed, 100 connections, 1 in flight", kind="deflate", size=1024, compressed=True),
        Case("N", "5,000 idle ones that compressed", kind="idle", connections=5000, size=1024, compressed=True),
        Case("O", "case M, no context takeover", kind="deflate", size=1024, compressed=True, takeover=False),
    )
}
