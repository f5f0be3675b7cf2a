# cython: language_level=3, annotation_typing=False, binding=False
"""Flow control over one transport: pausing and resuming in both directions, written once for HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextvars import Context as Variables
from socket import SO_ERROR, SOL_SOCKET
from struct import unpack
from typing import TYPE_CHECKING, Any

from flowserve.transport.direct_read import DirectReadProtocol
from flowserve.transport.waiters import joined, wake

if TYPE_CHECKING:
    from flowserve.transport.interfaces import BufferTarget

try:
    from fcntl import ioctl
    from termios import TIOCOUTQ
except ImportError:  # Windows
    ioctl = None  # type: ignore[assignment]


_NEVER_PAUSES = (3, 12) <= sys.version_info < (3, 12, 9) or (3, 13) <= sys.version_info < (3, 13, 2)
"""Whether asyncio's own writelines() forgets the high-water mark (CVE-2024-12254)."""


class TransportStream:
    """A `stream.Stream` over an asyncio transport.

    Whatever is the transport's protocol passes on `pause_writing()`, `resume_writing()` and, as `lost()`,
    `connection_lost()`.

    None of its methods raises for what the peer, or this end, has done to the connection, though transports do, each
    event loop's in ways of its own: a reset that was not seen yet, the end of writing, a close. What is written then
    is dropped; `lost()` follows.
    """

    __slots__ = (
        "_over",
        "_reading",
        "_taken",
        "_variables",
        "_waiters",
        "_written",
        "half_open",
        "transport",
        "write_paused",
    )

    def __init__(self, transport: asyncio.Transport, variables: Variables) -> None:
        """`variables` are those of whoever owns the connection: what comes in does not belong to whichever application
        lets it come."""
        self.transport = transport
        self._variables = variables
        self.half_open: bool = transport.can_write_eof()  # TLS can not
        self.write_paused = False
        self._written = 0
        self._taken = 0  # of it, when that was last looked at
        self._over = False  # nothing is written any more
        self._reading = True
        self._waiters: list[asyncio.Future[None]] | None = None

    def write(self, data: bytes | memoryview) -> None:
        if not self._is_over():
            self._written += len(data)
            self.transport.write(data)

    def writelines(self, data: Sequence[bytes | memoryview]) -> None:
        if self._is_over():
            return
        for piece in data:
            self._written += len(piece)
        if _NEVER_PAUSES:
            for piece in data:
                self.transport.write(piece)
        else:
            self.transport.writelines(data)

    def _is_over(self) -> bool:
        """Whether nothing that is written gets anywhere. Until `lost()` tells so, event loops would put a warning into
        the log for each write, as many as there are tasks of the application that send; or raise; or, from Python 3.12
        on, watch a descriptor that is gone."""
        transport = self.transport
        return self._over or transport.is_closing() or (not self.half_open and _below_tls(transport).is_closing())

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        waiters, self._waiters = self._waiters, None
        wake(waiters)

    async def drain(self) -> None:
        """Wait while the transport is over its high-water mark; else only let others have their turn."""
        if not self.write_paused:
            await asyncio.sleep(0)
        while self.write_paused:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters = joined(self._waiters, waiter)
            await waiter

    def buffered(self) -> int:
        return self.transport.get_write_buffer_size()

    def unsent(self) -> int:
        return self.transport.get_write_buffer_size() + _in_kernel(self.transport)

    def progressed(self) -> bool:
        unsent = self.transport.get_write_buffer_size()
        if unsent or not self.half_open:  # with TLS more may wait in the transport below, which an end would discard
            unsent += _in_kernel(self.transport)
        before, self._taken = self._taken, self._written - unsent
        return self._taken > before and unsent > 0

    def is_reset(self) -> bool:
        """Whether the peer has reset the connection. Event loops find out by reading or writing, which neither side may
        do any more after a half-close."""
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
            self._variables.copy().run(self.transport.resume_reading)  # asyncio will read in the context of this call

    def read_into(self, target: BufferTarget) -> None:
        protocol = self.transport.get_protocol()
        if self.half_open and not isinstance(protocol, DirectReadProtocol):  # over TLS it would save next to nothing
            self.transport.set_protocol(DirectReadProtocol(self.transport, protocol, target))

    def end_writing(self) -> None:
        if not self.half_open:
            self.close()
        elif not self._over:
            self._over = True
            try:
                self.transport.write_eof()
            except (
                OSError,
                RuntimeError,
            ):  # asyncio's of a reset that it has not read yet, uvloop's of one that it has
                self.transport.abort()

    def close(self) -> None:
        self._over = True
        if not self.transport.is_closing():  # closed twice, asyncio's over TLS forgets what it is to close or abort
            self.transport.close()

    def abort(self) -> None:
        self._over = True
        self.transport.abort()

    def lost(self) -> None:
        self._over = True
        self._reading = True  # nothing left to pause or resume
        self.resume_writing()


def extra_info(transport: asyncio.BaseTransport, name: str) -> Any:
    """Return what a transport knows of itself (`get_extra_info()`); None where it doesn't, be it as it is closed."""
    try:
        return transport.get_extra_info(name)
    except AttributeError:  # uvloop's, of a UNIX domain socket that is closed
        return None


def _below_tls(transport: Any) -> Any:
    """The transport that asyncio's TLS writes to, which knows of a reset before it; else the transport itself."""
    return getattr(getattr(transport, "_ssl_protocol", None), "_transport", None) or transport


def _in_kernel(transport: asyncio.Transport) -> int:
    """Bytes that were sent and that the peer has not acknowledged (Linux's SIOCOUTQ, see tcp(7)); 0 where the system
    does not tell.

    A socket may be full for minutes while a slow peer takes what is in it: a transport alone does not see that.
    """
    sock = extra_info(transport, "socket")
    if sock is None or ioctl is None:
        return 0
    try:
        (count,) = unpack("i", ioctl(sock.fileno(), TIOCOUTQ, b"\0\0\0\0"))
    except (OSError, ValueError):  # not told, or closed
        return 0
    return int(count)
