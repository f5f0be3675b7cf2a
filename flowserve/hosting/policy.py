"""The policy by which `serve()` and `accept()` accept or refuse an opening handshake: their arguments and callbacks."""

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
from flowserve.library.messages import Request, Response, make_response
from flowserve.websocket.server_handshake import response_fields

_PLAIN_TEXT = (b"content-type", b"text/plain; charset=utf-8")

ProcessRequest = Callable[[Handshake, Request], Awaitable[Response | None] | Response | None]
ProcessResponse = Callable[[Handshake, Request, Response], Awaitable[Response | None] | Response | None]
SelectSubprotocol = Callable[[Handshake, Sequence[str]], str | None]
Fields = Sequence[tuple[bytes, bytes]]
Origins = Sequence[str | re.Pattern[str] | None]


@dataclass(frozen=True, slots=True)
class HandshakePolicy:
    """How a server decides on opening handshakes. Any callback may raise HandshakeError to refuse one;
    `process_request` and `process_response` may be functions or coroutine functions."""

    subprotocols: Sequence[str] | None = None
    """The server's subprotocols, in order of preference; a client that offers none of them is refused with 400.
    None for no subprotocol."""
    select_subprotocol: SelectSubprotocol | None = None
    """`select_subprotocol(handshake, offered)` chooses one of the offered subprotocols instead, or None for none."""
    origins: Origins | None = None
    """The allowed values of the Origin field: str, or patterns that match the whole value; None among them allows
    clients without an Origin. Others are refused with 403. None allows all."""
    process_request: ProcessRequest | None = None
    """`process_request(handshake, request)` returns None to continue, or the Response to send instead."""
    process_response: ProcessResponse | None = None
    """`process_response(handshake, request, response)` is called before a response is sent, also with a refusal. It may
    change the header fields of `response`, or return another Response."""

    def __post_init__(self) -> None:
        for name in ("subprotocols", "origins"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(f"{name}: a list is wanted, not one text")

    @property
    def may_wait(self) -> bool:
        """Whether answering may take long, as there is a callback that may be a coroutine function."""
        return self.process_request is not None or self.process_response is not None

    async def choose_subprotocol(self, handshake: Handshake, offered: Sequence[str]) -> str | None:
        """Check a request, and return the subprotocol of the WebSocket, one of the `offered` ones or None.

        Raises HandshakeError, with the response to send, if the handshake is refused; ValueError if
        `select_subprotocol` chose one that was not offered; and what the callbacks raise.
        """
        if (refusal := await self._call_process_request(handshake)) is not None:
            raise refusal
        if self.origins is not None:
            _check_origin(self.origins, handshake.request.headers)
        if self.select_subprotocol is None:
            return self._choose(offered)
        chosen = self.select_subprotocol(handshake, offered)
        if chosen is not None and chosen not in offered:
            raise ValueError(f"select_subprotocol: {chosen!r} is none of what the client offers: {list(offered)}")
        return None if chosen is None else plain_str(chosen)

    async def refuse_plain_request(self, handshake: Handshake, method: str) -> HandshakeError:
        """Return the response to a request that is not an opening handshake: that of `process_request` for a GET or
        HEAD, by default 426; 405 for another `method`."""
        if method not in ("GET", "HEAD"):
            return HandshakeError(405, "A WebSocket is opened with GET", [(b"allow", b"GET")])
        return await self._call_process_request(handshake) or HandshakeError(
            426, "There are WebSockets here, and nothing else", [
                (b"sec-websocket-version", b"13"), (b"upgrade", b"websocket"),
            ]
        )  # fmt: skip

    async def _call_process_request(self, handshake: Handshake) -> HandshakeError | None:
        if self.process_request is None:
            return None
        response = await _call("process_request", self.process_request, handshake, handshake.request)
        return None if response is None else _refusal("process_request", response)

    async def process_acceptance(self, handshake: Handshake, subprotocol: str | None, extra: Fields) -> Fields:
        """Pass the response that opens the WebSocket, with the `extra` fields, through `process_response`; return the
        fields to send beside those of the handshake.

        Raises HandshakeError if the callback returned a refusal instead, ValueError if it changed a field of the
        handshake.
        """
        if self.process_response is None:
            return extra
        key = handshake.request.headers["sec-websocket-key"].encode("latin-1")
        own = response_fields(key, subprotocol, None)
        response = await self._call_process_response(handshake, make_response(101, [*own, *extra]))
        if response.status_code != 101:
            raise _refusal("process_response", response)
        own_values, fields = dict(own), _fields_of(response)
        for name, value in fields:
            if own_values.get(name.lower(), value) != value:
                raise ValueError(f"process_response: {name.decode()!r} is the handshake's, and can't be changed")
        return [field for field in fields if field[0].lower() not in own_values]

    async def process_refusal(self, handshake: Handshake, error: HandshakeError) -> HandshakeError:
        """Pass the response that refuses the WebSocket through `process_response`; return the one to send."""
        if self.process_response is None:
            return error
        status, fields, body = answer_of(error)
        response = await self._call_process_response(handshake, make_response(status, fields, body))
        return _refusal("process_response", response)

    async def _call_process_response(self, handshake: Handshake, response: Response) -> Response:
        other = await _call("process_response", self.process_response, handshake, handshake.request, response)
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
    if len(given) != 1:  # a browser sends at most one field (RFC 6454 section 7.3)
        raise HandshakeError(403, "WebSockets from this origin are not allowed")


async def _call(name: str, callback: Any, *arguments: object) -> Response | None:
    """Call a function or coroutine function; return the Response or None that it returns. Raises TypeError for another
    result; `name` is the callback's name there."""
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
    return _CallbackResponse(status, f"{name} has answered", _fields_of(response), body)


class _CallbackResponse(HandshakeError):
    """A Response of `process_request` or `process_response`, to be sent without additions."""


def answer_of(error: HandshakeError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return the response for a refused handshake: status code, header fields and body, which is the error's
    detail in plain text if it has none."""
    fields = list(error.headers)
    if isinstance(error, _CallbackResponse) or error.body or any(name.lower() == b"content-type" for name, _ in fields):
        return error.status, fields, error.body
    return error.status, [*fields, _PLAIN_TEXT], error.detail.encode()
