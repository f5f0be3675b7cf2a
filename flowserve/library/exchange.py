"""One HTTP request of a client and its response, on a transport that something else takes over afterwards."""

from __future__ import annotations

import asyncio

from flowserve.config import Config
from flowserve.errors import HandshakeError
from flowserve.http.response import Response, ResponseParser


class Exchange(asyncio.Protocol):
    """The protocol of a transport until the response has come. Then reading is paused, `response` is done and
    `parser.rest` is what came behind the response, up to `resume_reading()` by the next protocol."""

    def __init__(self, transport: asyncio.Transport, method: str, config: Config) -> None:
        """`transport` is one whose reading is paused; this becomes its protocol."""
        self.parser = ResponseParser(method, config.h1_max_header_size, config.h1_max_header_count)
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.lost = False
        self._transport = transport

    async def run(self, request: bytes) -> Response:
        """Send `request` and return its response. Raises HandshakeError (status 0) if none comes that can be
        understood, OSError if the connection is lost."""
        if self._transport.is_closing():
            raise ConnectionResetError("the server closed the connection at once")
        self._transport.set_protocol(self)
        self._transport.resume_reading()
        self._transport.write(request)
        return await self.response

    def data_received(self, data: bytes) -> None:
        if self.response.done():
            return
        try:
            if self.parser.feed(data):
                self._finish()
        except HandshakeError as error:
            self.response.set_exception(error)

    def eof_received(self) -> None:
        if not self.response.done():
            try:
                self.parser.feed_eof()
                self._finish()
            except HandshakeError as error:
                self.response.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if exc is not None and not self.response.done():
            self.response.set_exception(exc)
        else:
            self.eof_received()

    def _finish(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()
        self.response.set_result(self.parser.response)
