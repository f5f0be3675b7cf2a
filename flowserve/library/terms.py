"""On which terms a server opens WebSockets: what `serve()` and `accept()` are told to look at, and to answer."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flowserve.errors import ConfigError, HandshakeError
from flowserve.http.headers import Headers
from flowserve.library.heads import Request, Response

_TEXT = (b"content-type", b"text/plain; charset=utf-8")


@dataclass(frozen=True, slots=True)
class Handshake:
    """An opening handshake that waits for its answer; the addresses are what a socket's getpeername() and
    getsockname() say, or what a trusted proxy does."""

    request: Request
    remote_address: Any
    local_address: Any

    def respond(self, status: int, text: str) -> Response:
        """Return a plain-text response, to be returned by `process_request`."""
        return Response.made_of(status, [_TEXT], text.encode())


ProcessRequest = Callable[[Handshake, Request], Awaitable[Response | None] | Response | None]
SelectSubprotocol = Callable[[Handshake, Sequence[str]], str | None]
Origins = Sequence[str | re.Pattern[str] | None]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a server asks of those who want a WebSocket.

    `process_request(handshake, request)`, a function or a coroutine function, returns None to go on, or the Response to
    answer with. `origins` are those allowed, as text or as pattern for the whole of it; None among them stands for
    no Origin. `subprotocols` are what the server speaks, in its order of preference: a client that offers none of them
    is refused. `select_subprotocol(handshake, offered)` chooses instead, or returns None for none. All of them may
    raise HandshakeError, which says the answer.
    """

    subprotocols: Sequence[str] | None = None
    select_subprotocol: SelectSubprotocol | None = None
    origins: Origins | None = None
    process_request: ProcessRequest | None = None

    def __post_init__(self) -> None:
        for name in ("subprotocols", "origins"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(f"{name}: a list is wanted, not one text")

    async def agree(self, handshake: Handshake, offered: Sequence[str]) -> str | None:
        """Return the subprotocol of a WebSocket that may be opened; `offered` is what the client speaks.

        Raises HandshakeError, with the answer to give, for one that may not, and what the callbacks raise.
        """
        if (refusal := await self._processed(handshake)) is not None:
            raise refusal
        self._check_origin(handshake.request.headers)
        if self.select_subprotocol is None:
            return self._choose(offered)
        chosen = self.select_subprotocol(handshake, offered)
        if chosen is not None and chosen not in offered:
            raise ValueError(f"select_subprotocol: {chosen!r} is none of what the client offers: {list(offered)}")
        return chosen

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
        response = self.process_request(handshake, handshake.request)
        if inspect.isawaitable(response):
            response = await response
        if response is None:
            return None
        if not isinstance(response, Response):
            raise TypeError(f"process_request: a Response or None is wanted, not {type(response).__name__}")
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.raw_items()]
        return _Answer(response.status_code, "process_request has answered", fields, response.body)

    def _check_origin(self, headers: Headers) -> None:
        if self.origins is None:
            return
        given: list[str | None] = [*headers.get_all("origin")] or [None]
        for allowed in self.origins:
            if isinstance(allowed, re.Pattern) and given[0] is not None and allowed.fullmatch(given[0]):
                break
            if allowed == given[0]:
                break
        else:
            given = []
        if len(given) != 1:  # a browser sends one (RFC 6454 section 7.3)
            raise HandshakeError(403, "WebSockets from this origin are not allowed")

    def _choose(self, offered: Sequence[str]) -> str | None:
        if not self.subprotocols:
            return None
        for each in self.subprotocols:
            if each in offered:
                return each
        raise HandshakeError(400, f"One of these subprotocols is wanted: {', '.join(self.subprotocols)}")


class _Answer(HandshakeError):
    """What `process_request` has answered, whole."""


def answer_of(error: HandshakeError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return the response that refuses a handshake: status, header fields and body."""
    fields = list(error.headers)
    if isinstance(error, _Answer) or error.body or any(name.lower() == b"content-type" for name, _ in fields):
        return error.status, fields, error.body
    return error.status, [*fields, _TEXT], error.detail.encode()
