"""On which terms a server opens WebSockets: what `serve()` and `accept()` are told to look at, and to answer."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flowserve.errors import ConfigError, HandshakeError
from flowserve.hosting.handshake import Handshake
from flowserve.http.headers import Headers
from flowserve.library.data import plain_bytes, plain_str
from flowserve.library.messages import Request, Response
from flowserve.websocket.server_handshake import response_fields

_TEXT = (b"content-type", b"text/plain; charset=utf-8")

ProcessRequest = Callable[[Handshake, Request], Awaitable[Response | None] | Response | None]
ProcessResponse = Callable[[Handshake, Request, Response], Awaitable[Response | None] | Response | None]
SelectSubprotocol = Callable[[Handshake, Sequence[str]], str | None]
Fields = Sequence[tuple[bytes, bytes]]
Origins = Sequence[str | re.Pattern[str] | None]


@dataclass(frozen=True, slots=True)
class HandshakePolicy:
    """What a server asks of those who want a WebSocket.

    `process_request(handshake, request)`, a function or a coroutine function, returns None to go on, or the Response to
    answer with. `origins` are those allowed, as text or as pattern for the whole of it; None among them stands for
    no Origin. `subprotocols` are what the server speaks, in its order of preference: a client that offers none of them
    is refused. `select_subprotocol(handshake, offered)` chooses instead, or returns None for none.
    `process_response(handshake, request, response)` sees the answer, a refusal too, before it is sent, and may change
    its fields, or return another. All of them may raise HandshakeError, which says the answer.
    """

    subprotocols: Sequence[str] | None = None
    select_subprotocol: SelectSubprotocol | None = None
    origins: Origins | None = None
    process_request: ProcessRequest | None = None
    process_response: ProcessResponse | None = None

    def __post_init__(self) -> None:
        for name in ("subprotocols", "origins"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(f"{name}: a list is wanted, not one text")

    @property
    def waits(self) -> bool:
        """Whether answering may take a while: there are callbacks that may be coroutine functions."""
        return self.process_request is not None or self.process_response is not None

    async def agree(self, handshake: Handshake, offered: Sequence[str]) -> str | None:
        """Return the subprotocol of a WebSocket that may be opened; `offered` is what the client speaks.

        Raises HandshakeError, with the answer to give, for one that may not, and what the callbacks raise.
        """
        if (refusal := await self._processed(handshake)) is not None:
            raise refusal
        if self.origins is not None:
            _check_origin(self.origins, handshake.request.headers)
        if self.select_subprotocol is None:
            return self._choose(offered)
        chosen = self.select_subprotocol(handshake, offered)
        if chosen is not None and chosen not in offered:
            raise ValueError(f"select_subprotocol: {chosen!r} is none of what the client offers: {list(offered)}")
        return None if chosen is None else plain_str(chosen)

    async def turn_away(self, handshake: Handshake, method: str) -> HandshakeError:
        """Return what to answer to a request that asks for no WebSocket: `process_request` may know, of a GET."""
        if method not in ("GET", "HEAD"):
            return HandshakeError(405, "A WebSocket is opened with GET", [(b"allow", b"GET")])
        return await self._processed(handshake) or HandshakeError(
            426, "There are WebSockets here, and nothing else", [
                (b"sec-websocket-version", b"13"), (b"upgrade", b"websocket"),
            ]
        )  # fmt: skip

    async def _processed(self, handshake: Handshake) -> HandshakeError | None:
        if self.process_request is None:
            return None
        response = await _called("process_request", self.process_request, handshake, handshake.request)
        return None if response is None else _refusal("process_request", response)

    async def accepted(self, handshake: Handshake, subprotocol: str | None, extra: Fields) -> Fields:
        """Show the answer that opens the WebSocket, with the `extra` fields, to `process_response`; return the extra
        fields to send.

        Raises HandshakeError for a refusal that it has returned instead, and ValueError if it has changed what is the
        handshake's.
        """
        if self.process_response is None:
            return extra
        key = handshake.request.headers["sec-websocket-key"].encode("latin-1")
        own = response_fields(key, subprotocol, None)
        shown = await self._shown(handshake, Response.made_of(101, [*own, *extra]))
        if shown.status_code != 101:
            raise _refusal("process_response", shown)
        kept, fields = dict(own), _fields_of(shown)
        for name, value in fields:
            if kept.get(name.lower(), value) != value:
                raise ValueError(f"process_response: {name.decode()!r} is the handshake's, and can't be changed")
        return [field for field in fields if field[0].lower() not in kept]

    async def refused(self, handshake: Handshake, error: HandshakeError) -> HandshakeError:
        """Show the answer that refuses the WebSocket to `process_response`; return what is to be answered."""
        if self.process_response is None:
            return error
        status, fields, body = answer_of(error)
        shown = await self._shown(handshake, Response.made_of(status, fields, body))
        return _refusal("process_response", shown)

    async def _shown(self, handshake: Handshake, response: Response) -> Response:
        other = await _called("process_response", self.process_response, handshake, handshake.request, response)
        return other or response

    def _choose(self, offered: Sequence[str]) -> str | None:
        if not self.subprotocols:
            return None
        for each in self.subprotocols:
            if each in offered:
                return each
        raise HandshakeError(400, f"One of these subprotocols is wanted: {', '.join(self.subprotocols)}")


def _check_origin(origins: Origins, headers: Headers) -> None:
    given: list[str | None] = [*headers.get_all("origin")] or [None]
    for allowed in origins:
        if isinstance(allowed, re.Pattern) and given[0] is not None and allowed.fullmatch(given[0]):
            break
        if allowed == given[0]:
            break
    else:
        given = []
    if len(given) != 1:  # a browser sends one (RFC 6454 section 7.3)
        raise HandshakeError(403, "WebSockets from this origin are not allowed")


async def _called(name: str, callback: Any, *arguments: object) -> Response | None:
    """Call a function or a coroutine function that may return a Response."""
    response = callback(*arguments)
    if inspect.isawaitable(response):
        response = await response
    if response is not None and not isinstance(response, Response):
        raise TypeError(f"{name}: a Response or None is wanted, not {type(response).__name__}")
    return response


def _fields_of(response: Response) -> list[tuple[bytes, bytes]]:
    return [(str.encode(name, "latin-1"), str.encode(value, "latin-1")) for name, value in response.headers.raw_items()]


def _refusal(name: str, response: Response) -> HandshakeError:
    status, body = int(response.status_code), plain_bytes(response.body)
    if status < 200:
        raise ValueError(f"{name}: a Response with {status} refuses nothing; return None to open the WebSocket")
    return _Answer(status, f"{name} has answered", _fields_of(response), body)


class _Answer(HandshakeError):
    """What `process_request` or `process_response` has answered, whole."""


def answer_of(error: HandshakeError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return the response that refuses a handshake: status, header fields and body."""
    fields = list(error.headers)
    if isinstance(error, _Answer) or error.body or any(name.lower() == b"content-type" for name, _ in fields):
        return error.status, fields, error.body
    return error.status, [*fields, _TEXT], error.detail.encode()
