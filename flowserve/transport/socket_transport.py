# cython: language_level=3, annotation_typing=False, binding=False
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"
"""A connection's transport over its socket, which a Poller watches.

What is written goes to the kernel at once. Only what the kernel does not take is held here, until it does.
"""

from __future__ import annotations

import socket
from asyncio import BufferedProtocol
from asyncio.trsock import TransportSocket
from typing import Any

from flowserve.transport.bases import DataProtocol
from flowserve.transport.poller import Poller, Watched

_HIGH_MARK = 65536
"""Bytes, asyncio's default; the low-water mark is a quarter of it."""
_PIECE_MARK = 4096
"""Bytes a piece, on average, from which on the kernel gets the pieces themselves at less cost than joined."""


class SocketTransport(Watched):
    """Does what asyncio.Transport describes, for a stream socket with a protocol of either kind. It begins with
    `begin()`, which only compiled code can call: who could name any descriptor would close that of another."""

    __slots__ = (
        "_closing",
        "_eof_sent",
        "_family",
        "_held",
        "_held_size",
        "_high",
        "_low",
        "_paused",
        "_poller",
        "_protocol",
        "_reads_into",
        "_receiver",
        "_socket",
        "_writing_paused",
        "peername",
        "sockname",
    )

    def __init__(self, poller: Poller, protocol: Any) -> None:
        self._descriptor = -1
        self._reads = self._writes = False
        self._poller = poller
        self._family = 0
        self.peername: Any = None
        self.sockname: Any = None
        self._socket: TransportSocket | None = None  # once it was asked for
        self._held: list[memoryview] | None = None  # what the kernel has not taken
        self._held_size = 0  # bytes
        self._high = _HIGH_MARK
        self._low = _HIGH_MARK // 4
        self._writing_paused = False  # the protocol's, by pause_writing()
        self._closing = False
        self._eof_sent = False  # or it will be, behind what is held
        self._paused = False  # by pause_reading(), or by the peer's end
        self._protocol: Any = None
        self._receiver: DataProtocol | None = None  # the protocol, if it is one
        self._reads_into = False
        self.set_protocol(protocol)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            self._close_socket()

    def begin(self, descriptor: int, family: int, peername: Any, sockname: Any) -> None:
        """Call `connection_made()`, and read. The socket with `descriptor` is connected and does not block; from now on
        this closes it. `peername` and `sockname` are what `get_extra_info()` returns."""
        self._descriptor = descriptor
        self._family = family
        self.peername = peername
        self.sockname = sockname
        self._protocol.connection_made(self)
        if not self._closing and not self._paused:
            self._poller.watch(self, True, self._writes)

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self._receiver = protocol if isinstance(protocol, DataProtocol) else None
        self._reads_into = isinstance(protocol, BufferedProtocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return "peername", "sockname" or "socket"."""
        if name == "peername":
            return self.peername
        if name == "sockname":
            return self.sockname
        if name != "socket":
            return default
        if self._socket is None and self._descriptor >= 0:
            family = socket.AddressFamily(self._family)
            self._socket = TransportSocket(socket.socket(family, socket.SOCK_STREAM, 0, self._descriptor))
        return self._socket

    def on_ready(self, readable: bool, writable: bool) -> None:
        """See `Watched`."""
        try:
            if readable and self._reads:
                if self._reads_into:
                    self._read_into()
                else:
                    self._read()
            if writable and self._writes:
                self._send_held()
        except Exception as error:
            message = {"message": "A protocol failed", "exception": error, "protocol": self._protocol}
            self._poller.loop.call_exception_handler(message)
            self._end(error)

    # Reading

    def _read(self) -> None:
        data = receive(self._descriptor)
        if data is None:
            self._check_error()
        elif not data:
            self._handle_eof()
        elif self._receiver is not None:
            self._receiver.data_received(data)
        else:
            self._protocol.data_received(data)

    def _read_into(self) -> None:
        size = receive_into(self._descriptor, self._protocol.get_buffer(-1))
        if size < 0:
            self._check_error()
        elif size > 0:
            self._protocol.buffer_updated(size)
        else:
            self._handle_eof()

    def _check_error(self) -> None:
        """End the connection if the last call to the kernel has failed, unless another one may succeed later."""
        error = last_error()
        if error is not None:
            self._end(error)

    def _handle_eof(self) -> None:
        self._paused = True
        self._poller.watch(self, False, self._writes)
        if not self._protocol.eof_received():
            self.close()

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        if not self._paused and not self._closing:
            self._paused = True
            self._poller.watch(self, False, self._writes)

    def resume_reading(self) -> None:
        """Read again. After the peer's end this finds it again."""
        if self._paused and not self._closing:
            self._paused = False
            self._poller.watch(self, True, self._writes)

    # Writing

    def write(self, data: bytes | memoryview) -> None:
        """Send `data`, which must not change any more."""
        if self._may_write():
            sent = 0 if self._held is not None else send(self._descriptor, data)
            if sent < 0:
                self._check_error()
                sent = 0
            if sent < len(data):
                self._hold([memoryview(data)[sent:]])

    def writelines(self, pieces: list[bytes | memoryview]) -> None:
        """Like one `write()` of all pieces."""
        size = 0
        for piece in pieces:
            size += len(piece)
        if self._held is not None or size < _PIECE_MARK * len(pieces):
            self.write(b"".join(pieces))
        elif self._may_write():
            sent = send_pieces(self._descriptor, pieces)
            if sent < 0:
                self._check_error()
                sent = 0
            if sent < size:
                self._hold(_behind(pieces, sent))

    def _may_write(self) -> bool:
        if self._eof_sent:
            raise RuntimeError("Cannot call write() after write_eof()")
        return not self._closing

    def _hold(self, pieces: list[memoryview]) -> None:
        if self._closing:  # as it has failed meanwhile
            return
        if self._held is None:
            self._held = []
            self._poller.watch(self, self._reads, True)
        self._held += pieces
        for piece in pieces:
            self._held_size += len(piece)
        self._pause_above_mark()

    def _pause_above_mark(self) -> None:
        if self._held_size > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def _send_held(self) -> None:
        sent = send_pieces(self._descriptor, self._held)
        if sent < 0:
            self._check_error()
            return
        self._held = _behind(self._held, sent)  # type: ignore[arg-type]
        self._held_size -= sent
        if not self._held:
            self._held = None
            self._poller.watch(self, self._reads, False)
            if self._eof_sent:
                shut_down(self._descriptor)
            if self._closing:
                self._lose_soon(None)
                return
        if self._writing_paused and self._held_size <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._eof_sent and not self._closing:
            self._eof_sent = True
            if self._held is None:
                shut_down(self._descriptor)

    def get_write_buffer_size(self) -> int:
        return self._held_size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high if high is not None else _HIGH_MARK if low is None else 4 * low
        self._low = low if low is not None else self._high // 4
        if self._low > self._high:
            raise ValueError(f"the low-water mark ({low}) is above the high-water mark ({high})")
        self._pause_above_mark()

    # The end

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Close when all that was written is sent. Nothing is read any more."""
        if self._closing:
            return
        self._closing = True
        if self._held is None:
            self._lose_soon(None)
        else:
            self._poller.watch(self, False, True)

    def abort(self) -> None:
        """Close now."""
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self._closing or self._held is not None:
            self._closing = True
            self._held = None
            self._held_size = 0
            self._lose_soon(error)

    def _lose_soon(self, error: Exception | None) -> None:
        self._poller.watch(self, False, False)
        self._poller.loop.call_soon(self._lose, error, context=self._poller.variables)

    def _lose(self, error: Exception | None) -> None:
        protocol, self._protocol, self._receiver = self._protocol, None, None
        try:
            protocol.connection_lost(error)
        finally:
            self._close_socket()

    def _close_socket(self) -> None:
        if self._socket is None:
            close_descriptor(self._descriptor)
        else:
            self._socket._sock.close()  # type: ignore[attr-defined]  # it has no close() of its own
        self._descriptor = -1


def _behind(pieces: list[bytes | memoryview], size: int) -> list[memoryview]:
    """Return what follows the first `size` bytes of the pieces."""
    for index, piece in enumerate(pieces):
        if size < len(piece):
            return [memoryview(piece)[size:], *(memoryview(rest) for rest in pieces[index + 1 :])]
        size -= len(piece)
    return []
