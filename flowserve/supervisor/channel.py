"""What supervisor and worker say to each other: JSON objects, one a line, over a socket pair.

From the worker: {"ready": true} when it serves, {"beat": n} while its event loop turns, {"failed": line, "status": n}
when it can't start, {"worn": reason} when a limit says that it should be replaced, {"leaving": reason} when it ends
of its own accord, {"snapshot": {...}, "id": n}.
From the supervisor: {"drain": true}, then, to cut that short, {"cut": true}; {"snapshot": id}. Before all these comes
the `Order`, pickled. The end of the channel tells a worker that its supervisor is gone, and to drain.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from flowserve.config import Config
from flowserve.errors import ConfigError

Message = dict[str, Any]

_LENGTH = struct.Struct("!Q")


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to do, and what its interpreter should be like."""

    config: Config
    descriptors: tuple[int, ...]
    """The inherited sockets, bound."""
    path: tuple[str, ...]
    """sys.path"""
    argv: tuple[str, ...]
    """sys.argv, for applications that look there."""

    def encode(self) -> bytes:
        """Return what `receive_order` reads. Raises ConfigError if a worker could not."""
        try:
            data = pickle.dumps(self)
        except Exception:  # pickle raises errors of many kinds
            data = b""
        if not data or getattr(self.config.ssl_context_factory, "__module__", None) == "__main__":
            raise ConfigError("ssl_context_factory: worker processes can't import it; define it in a module of its own")
        return _LENGTH.pack(len(data)) + data


def receive_order(sock: socket.socket) -> Order:
    """Read the order from a blocking socket. Raises EOFError when the supervisor is gone."""
    (size,) = _LENGTH.unpack(_read(sock, _LENGTH.size))
    return cast(Order, pickle.loads(_read(sock, size)))


def _read(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def tell(sock: socket.socket, **message: Any) -> None:
    """Send one message where no event loop runs. A supervisor that is gone is no error."""
    sock.setblocking(True)
    try:
        sock.sendall(_encode(message))
    except OSError:
        pass


def _encode(message: Message) -> bytes:
    return json.dumps(message).encode() + b"\n"


class Channel(asyncio.Protocol):
    """One end of the channel in a running event loop."""

    def __init__(self, on_message: Callable[[Message], None]) -> None:
        self.ended = asyncio.Event()
        self._on_message = on_message
        self._transport: asyncio.Transport | None = None
        self._rest = b""

    @classmethod
    async def open(cls, sock: socket.socket, on_message: Callable[[Message], None]) -> Channel:
        """Take over a connected UNIX socket; `on_message` is called with each message, `ended` is set at the end."""
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(lambda: cls(on_message), sock=sock)
        return channel

    def send(self, **message: Any) -> None:
        """Send one message; nothing happens when the other end is gone."""
        self.write(_encode(message))

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """End it, when all is sent."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_message(json.loads(line))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.ended.set()
