"""One HTTP request of a client and its response, on a transport that something else takes over afterwards."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import Context as Variables
from contextvars import copy_context

from flowserve.config import Config
from flowserve.errors import HandshakeError
from flowserve.http.client import ResponseHead, ResponseParser
from flowserve.transport.stream import TransportStream

_BODY_PATIENCE = 1.0
"""Seconds that the body of a refusal may take behind its head: it only explains it."""


class Exchange(asyncio.Protocol):
    """The protocol of a transport until the response has come; then reading is paused. What comes behind it belongs
    to whoever is called by `hand_over()`."""

    def __init__(self, transport: asyncio.Transport, method: str, config: Config) -> None:
        """`transport` is one whose reading is paused; this becomes its protocol."""
        self._parser = ResponseParser(method, config.h1_max_header_size, config.h1_max_header_count)
        self._loop = asyncio.get_running_loop()
        self._response: asyncio.Future[ResponseHead] = self._loop.create_future()
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self._successor: asyncio.Protocol | None = None
        self.lost = False

    @property
    def rest(self) -> bytes:
        """What has come behind the response: it is no HTTP."""
        return self._parser.rest

    async def run(self, request: bytes) -> ResponseHead:
        """Send `request` and return its response. Raises HandshakeError (status 0) if none comes that can be
        understood, OSError if the connection is lost."""
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
        """Make `protocol` the transport's, and give it what has come behind the response; it is called with `variables`
        from now on. Not if the connection is `lost`."""
        self._successor = protocol
        self._transport.set_protocol(protocol)
        variables.copy().run(self._transport.resume_reading)
        if self.rest:
            protocol.data_received(self.rest)

    # As the protocol of the transport

    def data_received(self, data: bytes) -> None:
        """Also called when reading is paused already: TLS may give in pieces what it has read at once."""
        try:
            if self._parser.feed(data):
                self._finish()
            elif self._parser.in_body and self._timer is None:
                self._timer = self._loop.call_later(_BODY_PATIENCE, self._finish)
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
        if self._successor is not None:  # TLS had this end in mind before the successor came
            self._successor.connection_lost(exc)
        elif exc is not None:
            self._fail(exc)
        else:
            self.eof_received()

    def _finish(self) -> None:
        if not self._response.done():
            self._pause()
            with suppress(asyncio.InvalidStateError):  # a signal's handler may have cancelled it just now
                self._response.set_result(self._parser.response)

    def _fail(self, error: Exception) -> None:
        if not self._response.done():
            self._pause()
            with suppress(asyncio.InvalidStateError):
                self._response.set_exception(error)
                self._response.exception()  # looked at: nobody need wait for it any more, after a KeyboardInterrupt

    def _pause(self) -> None:
        if not self.lost and not self._transport.is_closing():
            self._transport.pause_reading()
