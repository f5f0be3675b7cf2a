"""One HTTP request and its response, on a transport that another protocol takes over afterwards."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import Context as Variables
from contextvars import copy_context

from flowserve.config import Config
from flowserve.errors import HandshakeError
from flowserve.http.client import ResponseHead, ResponseParser
from flowserve.transport.stream import TransportStream

_BODY_TIMEOUT = 1.0
"""Seconds to wait for the body of a response after its head; it is needed for error messages only."""


class Exchange(asyncio.Protocol):
    """The protocol of a transport while one request is answered. Reading is paused after the response; bytes received
    behind it go to the protocol that `hand_over()` sets."""

    def __init__(self, transport: asyncio.Transport, method: str, config: Config) -> None:
        """`transport` has paused reading; `run()` makes this its protocol. `method` is that of the request."""
        self._parser = ResponseParser(method, config.h1_max_header_size, config.h1_max_header_count)
        self._loop = asyncio.get_running_loop()
        self._response: asyncio.Future[ResponseHead] = self._loop.create_future()
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self._successor: asyncio.Protocol | None = None
        self.lost = False
        """Whether the connection is lost."""

    @property
    def rest(self) -> bytes:
        """The bytes received behind the response, which are not HTTP."""
        return self._parser.rest

    async def run(self, request: bytes) -> ResponseHead:
        """Send `request`, an encoded head, and return its response. Raises HandshakeError (status 0) if the server
        closes the connection before or sends no valid response, OSError if the connection is lost."""
        if self._transport.is_closing():
            raise ConnectionResetError("the connection was closed at once")
        self._transport.set_protocol(self)
        self._transport.resume_reading()
        TransportStream(self._transport, copy_context()).write(request)
        try:
            return await self._response
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def hand_over(self, protocol: asyncio.Protocol, variables: Variables) -> None:
        """Make `protocol` the transport's protocol and feed it the bytes behind the response. The event loop calls it
        in a copy of the context `variables`. Must not be called if the connection is `lost`."""
        self._successor = protocol
        self._transport.set_protocol(protocol)
        variables.copy().run(self._transport.resume_reading)
        if self.rest:
            protocol.data_received(self.rest)

    # As the protocol of the transport

    def data_received(self, data: bytes) -> None:
        """May be called after reading was paused: a TLS transport can deliver one read in several pieces."""
        try:
            if self._parser.feed(data):
                self._finish()
            elif self._parser.in_body and self._timer is None:
                self._timer = self._loop.call_later(_BODY_TIMEOUT, self._finish)
        except HandshakeError as error:
            self._fail(error)

    def eof_received(self) -> None:
        try:
            self._parser.feed_eof()
            self._finish()
        except HandshakeError as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if (
            self._successor is not None
        ):  # a TLS transport may have scheduled this call for the protocol that it had before
            self._successor.connection_lost(exc)
        elif exc is not None:
            self._fail(exc)
        else:
            self.eof_received()

    def _finish(self) -> None:
        if not self._response.done():
            self._pause()
            with suppress(asyncio.InvalidStateError):  # a signal handler may have just cancelled it
                self._response.set_result(self._parser.response)

    def _fail(self, error: Exception) -> None:
        if not self._response.done():
            self._pause()
            with suppress(asyncio.InvalidStateError):
                self._response.set_exception(error)
                self._response.exception()  # mark as retrieved: after a KeyboardInterrupt nothing awaits it

    def _pause(self) -> None:
        if not self.lost and not self._transport.is_closing():
            self._transport.pause_reading()
