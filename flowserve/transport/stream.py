# cython: language_level=3, annotation_typing=False, binding=False
"""Flow control over one transport, in both directions, for HTTP and WebSocket alike."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextvars import Context as Variables
from socket import IPPROTO_TCP, SO_ERROR, SOL_SOCKET
from struct import unpack
from typing import TYPE_CHECKING, Any

from flowserve.transport.bases import Stream
from flowserve.transport.direct_read import DirectReadProtocol
from flowserve.transport.socket_transport import SocketTransport
from flowserve.transport.waiters import add_waiter, wake

if TYPE_CHECKING:
    from flowserve.transport.interfaces import BufferTarget

try:
    from fcntl import ioctl
    from termios import TIOCOUTQ
except ImportError:  # Windows
    ioctl = None  # type: ignore[assignment]


_TCP_INFO = getattr(socket, "TCP_INFO", 0) if sys.platform == "linux" else 0
_ACKED = slice(120, 128)
"""Where tcpi_bytes_acked is in struct tcp_info (linux/tcp.h)."""
_JOIN_MARK = 65536
"""Bytes below which one write of joined pieces is cheaper for an event loop's transport than the pieces."""
_NEVER_PAUSES = (3, 12) <= sys.version_info < (3, 12, 9) or (3, 13) <= sys.version_info < (3, 13, 2)
"""Whether asyncio's own writelines() ignores the high-water mark (CVE-2024-12254)."""


class TransportStream(Stream):
    """A Stream over an asyncio transport. Its methods are described there.

    The transport's protocol passes on `pause_writing()`, `resume_writing()` and, as `lost()`, `connection_lost()`.

    No method raises for the state of the connection, although transports do, each event loop's in its own way: after a
    reset that the loop has not noticed yet, after write_eof(), after a close. Data written then is dropped; `lost()`
    follows.
    """

    __slots__ = (
        "_ended",
        "_over_socket",
        "_reading",
        "_sent_before",
        "_variables",
        "_waiters",
        "_written",
        "transport",
    )

    def __init__(self, transport: asyncio.Transport, variables: Variables) -> None:
        """`variables` are the context variables of the connection's owner: received data must not be handled in the
        context of the application that happened to resume reading."""
        self.transport = transport
        # The same if it is one of these, so that compiled code calls it directly.
        self._over_socket = transport if isinstance(transport, SocketTransport) else None
        self._variables = variables
        self.half_open = transport.can_write_eof()  # not with TLS
        self.write_paused = False
        self._written = 0  # bytes passed to the transport
        self._sent_before = 0  # bytes of those that had left at the last call of progressed()
        self._ended = False  # writing has, by end_writing(), close(), abort() or lost()
        self._reading = True
        self._waiters: list[asyncio.Future[None]] | None = None  # in drain()

    def write(self, data: bytes | memoryview) -> None:
        if self._drops_writes():
            return
        self._written += len(data)
        if self._over_socket is not None:
            self._over_socket.write(data)
        else:
            self.transport.write(data)

    def writelines(self, data: list[bytes | memoryview]) -> None:
        size = 0
        for piece in data:
            size += len(piece)
        if self._over_socket is None and size < _JOIN_MARK:
            self.write(b"".join(data))
            return
        if self._drops_writes():
            return
        self._written += size
        if self._over_socket is not None:
            self._over_socket.writelines(data)
        elif _NEVER_PAUSES:
            for piece in data:
                self.transport.write(piece)
        else:
            self.transport.writelines(data)

    def _drops_writes(self) -> bool:
        """Whether all that is written is dropped. Between a failure and connection_lost(), event loops would log a
        warning for each write, of which many tasks of an application may do one each; or raise; or, from Python 3.12
        on, watch a descriptor that is closed."""
        if self._over_socket is not None:
            return self._ended or self._over_socket.is_closing()
        transport = self.transport
        return self._ended or transport.is_closing() or (not self.half_open and _raw_transport(transport).is_closing())

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        waiters, self._waiters = self._waiters, None
        wake(waiters)

    async def drain(self) -> None:
        """Wait while the transport is over its high-water mark; otherwise yield to the event loop once."""
        if not self.write_paused:
            await asyncio.sleep(0)
        while self.write_paused:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters = add_waiter(self._waiters, waiter)
            await waiter

    def buffered(self) -> int:
        return self.transport.get_write_buffer_size()

    def unsent(self) -> int:
        return self.transport.get_write_buffer_size() + _unacknowledged(self.transport)

    def progressed(self) -> bool:
        unsent = self.transport.get_write_buffer_size()
        if unsent or not self.half_open:  # the transport below TLS may hold more, which a close would discard
            unsent += _unacknowledged(self.transport)
        acknowledged = -1 if self.half_open else _acknowledged(self.transport)
        before = self._sent_before
        self._sent_before = self._written - unsent if acknowledged < 0 else acknowledged
        return self._sent_before > before and unsent > 0  # some, but not all

    def is_reset(self) -> bool:
        """Whether the peer has reset the connection. Event loops notice only when they read or write, which may not
        happen any more after a half-close."""
        sock = extra_info(self.transport, "socket")
        try:
            return sock is not None and sock.getsockopt(SOL_SOCKET, SO_ERROR) != 0
        except (OSError, ValueError):  # closed
            return True

    def limit_buffer(self, size: int, low: int | None = None) -> None:
        if not self.transport.is_closing():
            self.transport.set_write_buffer_limits(size, low)

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._variables.copy().run(self.transport.resume_reading)  # asyncio reads in the context of this call

    def read_into(self, target: BufferTarget) -> None:
        protocol = self.transport.get_protocol()
        if self.half_open and not isinstance(protocol, DirectReadProtocol):  # over TLS it would save almost nothing
            self.transport.set_protocol(DirectReadProtocol(self.transport, protocol, target))

    def end_writing(self) -> None:
        if not self.half_open:
            self.close()
        elif not self._ended:
            self._ended = True
            try:
                self.transport.write_eof()
            except (OSError, RuntimeError):  # after a reset: asyncio raises if it has not read it yet, uvloop if it has
                self.transport.abort()

    def close(self) -> None:
        self._ended = True
        if not self.transport.is_closing():  # a second close() makes asyncio's TLS transport forget its connection
            self.transport.close()

    def abort(self) -> None:
        self._ended = True
        self.transport.abort()

    def lost(self) -> None:
        self._ended = True
        self._reading = True  # there is nothing to resume any more
        self.resume_writing()


def extra_info(transport: asyncio.BaseTransport, name: str) -> Any:
    """Like `transport.get_extra_info(name)`, but None for every transport that is closed."""
    try:
        return transport.get_extra_info(name)
    except (AttributeError, ValueError):  # uvloop, for a closed UNIX domain socket
        return None


def _raw_transport(transport: Any) -> Any:
    """Return the transport that asyncio's TLS transport writes to, as it notices a reset earlier; without TLS the
    transport itself."""
    return getattr(getattr(transport, "_ssl_protocol", None), "_transport", None) or transport


def _acknowledged(transport: asyncio.Transport) -> int:
    """Return the bytes that the peer has acknowledged since it connected (tcpi_bytes_acked of Linux's TCP_INFO), -1 if
    the system does not tell. Over TLS nothing else shows how much of a large write has left: event loops don't count
    what their transport below TLS holds, and while it does the send queue is full."""
    sock = extra_info(transport, "socket")
    if sock is None or not _TCP_INFO:
        return -1
    try:
        info = sock.getsockopt(IPPROTO_TCP, _TCP_INFO, _ACKED.stop)
    except (OSError, ValueError):  # a UNIX domain socket, or closed
        return -1
    return int.from_bytes(info[_ACKED], sys.byteorder) if len(info) == _ACKED.stop else -1


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Return the bytes in the socket's send queue, which the peer has not acknowledged (Linux's SIOCOUTQ, see tcp(7)).
    0 if the system does not report them.

    A slow peer may take minutes to empty a full send queue, which does not show in the transport's buffer.
    """
    sock = extra_info(transport, "socket")
    if sock is None or ioctl is None:
        return 0
    try:
        (count,) = unpack("i", ioctl(sock.fileno(), TIOCOUTQ, b"\0\0\0\0"))
    except (OSError, ValueError):  # not supported, or closed
        return 0
    return int(count)
