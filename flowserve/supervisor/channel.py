"""The protocol between supervisor and worker: JSON objects, one a line, over a socket pair.

From the worker: {"ready": true} when it serves, {"beat": n} while its event loop runs, {"failed": line, "status": n}
when it can't start, {"worn": reason} when it has reached a limit and should be replaced, {"leaving": reason} when it
ends for another reason than the supervisor's request, {"snapshot": {...}, "id": n}, and {"owed_gap": topic,
"retention": [...]} when it owes the gap of a topic, with what is kept of it and the key of its marker, or null when
it has told it. From the supervisor: first the pickled `Order`, then {"lame_duck": true} at the begin of
--shutdown-delay, {"drain": true}, {"cut": true} to cut the drain short, {"snapshot": id}, and {"owed_gaps":
{topic: [...]}}, which are those of a worker that has ended. End of file tells a worker that its supervisor is gone, and
makes it drain.

After an upgrade in place a worker of the new version talks to a supervisor of the old one: keep the names of messages,
and name and fields of `Order`.
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
    """What a worker is to serve, and the state of its interpreter."""

    config: Config
    """The configuration, with the application's name."""
    descriptors: tuple[int, ...]
    """The file descriptors of the bound sockets that it inherits."""
    path: tuple[str, ...]
    """sys.path"""
    argv: tuple[str, ...]
    """sys.argv, for applications that read it."""

    def encode(self) -> bytes:
        """Return the bytes that `receive_order()` reads. Raises ConfigError if it can't be pickled, or a worker could
        not unpickle it."""
        try:
            data = pickle.dumps(self)
        except Exception:  # pickle raises errors of many kinds
            data = b""
        for name in ("ssl_context_factory", "callback_notify", "log_config"):
            value = getattr(self.config, name)
            if not (data or _is_picklable(value)) or getattr(value, "__module__", None) == "__main__":
                raise ConfigError(f"{name}: worker processes can't import it; define it in a module of its own")
        if not data:
            raise ConfigError("a worker process can't be told the configuration: pickle can't take it")
        return _LENGTH.pack(len(data)) + data


def _is_picklable(value: Any) -> bool:
    try:
        return bool(pickle.dumps(value))
    except Exception:
        return False


def receive_order(sock: socket.socket) -> Order:
    """Read the order from a blocking socket. Raises EOFError if the supervisor has ended."""
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


def send_blocking(sock: socket.socket, **message: Any) -> None:
    """Send one message while no event loop runs. A supervisor that has ended is no error."""
    sock.setblocking(True)
    try:
        sock.sendall(_encode(message))
    except OSError:
        pass


def _encode(message: Message) -> bytes:
    return json.dumps(message).encode() + b"\n"


class Channel(asyncio.Protocol):
    """One end of the channel, in a running event loop."""

    def __init__(self, on_message: Callable[[Message], None]) -> None:
        self.ended = asyncio.Event()
        """Set when the connection is lost."""
        self._on_message = on_message
        self._transport: asyncio.Transport | None = None
        self._partial_line = b""

    @classmethod
    async def open(cls, sock: socket.socket, on_message: Callable[[Message], None]) -> Channel:
        """Return a channel over a connected UNIX socket. `on_message` is called with each message."""
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(lambda: cls(on_message), sock=sock)
        return channel

    def send(self, **message: Any) -> None:
        """Send one message; do nothing if the other end is gone."""
        self.write(_encode(message))

    def write(self, data: bytes) -> None:
        """Send raw bytes; do nothing if the other end is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close the channel when everything has been sent."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        for line in lines:
            self._on_message(json.loads(line))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.ended.set()
