# cython: language_level=3, annotation_typing=False, binding=False
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"
"""Accepting connections on a listening socket, which a Poller watches."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from flowserve.transport.poller import Poller, Watched
from flowserve.transport.socket_transport import SocketTransport

_MAX_ACCEPTS = 16
"""Connections that are accepted in an iteration of the event loop: the more of them, the less each takes, and the
longer the others wait."""
_ANY_ADDRESS = ("0.0.0.0", "::")


class Listener(Watched):
    """Accepts on a bound socket, and closes it, like an asyncio.Server."""

    __slots__ = ("_factory", "_family", "_on_shortage", "_poller", "_sockname", "sockets")

    def __init__(
        self,
        poller: Poller,
        sock: socket.socket,
        backlog: int,
        factory: Callable[[], Any],
        on_shortage: Callable[[], None],
    ) -> None:
        """`factory` makes the protocol of a connection. `on_shortage` is called when none can be accepted, for want of
        descriptors or memory; it should `close()` this, as it is called again soon otherwise. Raises OSError."""
        sock.listen(backlog)
        self.sockets = (sock,)
        self._descriptor = sock.fileno()
        self._reads = self._writes = False
        self._poller = poller
        self._family = int(sock.family)
        name = sock.getsockname()
        # of all connections, so that the kernel need not be asked for each
        self._sockname = None if isinstance(name, tuple) and name[0] in _ANY_ADDRESS else name
        self._factory = factory
        self._on_shortage = on_shortage
        self._poller.watch(self, True, False)

    def close(self) -> None:
        """Accept no more. Connections that wait to be accepted are reset, unless another process accepts them."""
        if self._descriptor >= 0:
            self._poller.watch(self, False, False)
            self._descriptor = -1
            self.sockets[0].close()

    def on_ready(self, readable: bool, writable: bool) -> None:
        """See `Watched`."""
        left = _MAX_ACCEPTS
        while left > 0 and self._reads:
            left -= 1
            descriptor = accept(self._descriptor, address)
            if descriptor >= 0:
                self._connect(descriptor, address_of(address))
            elif not may_accept_more():
                if is_short():
                    self._on_shortage()
                return

    def _connect(self, descriptor: int, peername: Any) -> None:
        sockname = self._sockname
        if sockname is None:
            sockname = local_address(descriptor)
        transport = None
        try:
            transport = SocketTransport(self._poller, self._factory())
            transport.begin(descriptor, self._family, peername, sockname)
        except Exception as error:  # it must not affect other connections
            if transport is None:
                close_descriptor(descriptor)
            else:
                transport.abort()
            report = {"message": "A connection could not begin", "exception": error}
            self._poller.loop.call_exception_handler(report)
