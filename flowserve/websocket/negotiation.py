"""Negotiation of permessage-deflate (RFC 7692 section 7), as functions over header values."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Final

from flowserve.errors import HandshakeError
from flowserve.grammar import TOKEN, is_token
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import MIN_BITS, DeflateParameters, DeflateSettings, PerMessageDeflate

NAME: Final = "permessage-deflate"
SERVER_NO_CONTEXT: Final = "server_no_context_takeover"
CLIENT_NO_CONTEXT: Final = "client_no_context_takeover"
SERVER_BITS: Final = "server_max_window_bits"
CLIENT_BITS: Final = "client_max_window_bits"

Extension = tuple[str, list[tuple[str, str | None]]]
"""A name and its parameters in order, each with its value or None."""

_BITS = {str(bits): bits for bits in range(8, 16)}  # valid values in their only valid form (RFC 7692 section 7.1.2)
_MAX_BITS = 15
_SERVER = int(Role.SERVER)
_MAX_CACHED = 256
"""Bytes of an offer up to which its answer is cached."""
_MAX_OFFERED = 2048
"""Bytes of all offers of a client. Browsers send 50, and some thousand parameters take as many microseconds to
parse."""

_ELEMENT = re.compile(rf"[ \t]*(?:({TOKEN})[ \t]*)?")
_PARAMETER = re.compile(rf';[ \t]*({TOKEN})[ \t]*(?:=[ \t]*(?:({TOKEN})|"((?:[^"\\]|\\.)*)")[ \t]*)?')


def parse_extensions(values: Iterable[bytes]) -> list[Extension]:
    """Return the extensions in all Sec-WebSocket-Extensions fields of a message, as one list (RFC 6455 section 9.1).

    Quoted values are unquoted, and must then be tokens. Empty list elements are ignored, but there must be an extension
    if there is a field. Raises HandshakeError (400) for values that break the grammar.
    """
    values = tuple(values)
    found: list[Extension] = []
    for value in values:
        text = value.decode("latin-1")
        at = 0
        while at < len(text):
            element = _ELEMENT.match(text, at)
            assert element is not None  # it can match nothing at all
            at = element.end()
            if element[1]:
                parameters, at = _parse_parameters(text, at)
                found.append((element[1], parameters))
            if at < len(text) and text[at] != ",":
                raise _malformed()
            at += 1
    if values and not found:
        raise _malformed()
    return found


def check_extensions(values: Sequence[bytes]) -> None:
    """Raise HandshakeError for Sec-WebSocket-Extensions fields that break the grammar (400) or are very large (431). A
    recipient must fail the connection for the former even if it uses no extension (RFC 6455 section 9.1)."""
    if sum(map(len, values)) > _MAX_OFFERED:
        raise HandshakeError(431, f"Sec-WebSocket-Extensions has more than {_MAX_OFFERED} bytes")
    if len(values) == 1 and len(values[0]) <= _MAX_CACHED:
        _check_grammar(values[0])
    else:
        parse_extensions(values)


@functools.lru_cache(maxsize=64)
def _check_grammar(value: bytes) -> None:
    """Like `check_extensions()`, but cached: clients make few different offers, and parsing is slow."""
    parse_extensions((value,))


def _parse_parameters(text: str, at: int) -> tuple[list[tuple[str, str | None]], int]:
    parameters: list[tuple[str, str | None]] = []
    while parameter := _PARAMETER.match(text, at):
        name, value, quoted = parameter.groups()
        if quoted is not None:
            value = re.sub(r"\\(.)", r"\1", quoted)
            if not is_token(value):
                raise _malformed()
        parameters.append((name, value))
        at = parameter.end()
    return parameters, at


def _malformed() -> HandshakeError:
    return HandshakeError(400, "malformed Sec-WebSocket-Extensions")


def _check(parameters: list[tuple[str, str | None]]) -> dict[str, int | None]:
    """Return the window bits by parameter. Raises ValueError for parameters that are valid neither in an offer nor in
    an answer."""
    checked: dict[str, int | None] = {}
    for name, value in parameters:
        if name in checked:
            raise ValueError(f"{name} given twice")
        if name in (SERVER_NO_CONTEXT, CLIENT_NO_CONTEXT):
            legal = value is None
        elif name in (SERVER_BITS, CLIENT_BITS):
            legal = value in _BITS or (value is None and name == CLIENT_BITS)
        else:
            raise ValueError(f"unknown parameter {name}")
        if not legal:
            raise ValueError(f"{name} {'without a value' if value is None else 'with a wrong value'}")
        checked[name] = None if value is None else _BITS.get(value)
    return checked


def accept(settings: DeflateSettings, values: Iterable[bytes]) -> tuple[DeflateParameters, bytes] | None:
    """Accept the first acceptable offer in a request's Sec-WebSocket-Extensions fields, as a server.

    Returns the agreed parameters and the value of the response's field, or None for no compression. An offer with an
    unknown, repeated or invalid parameter is declined (RFC 7692 section 7), and so is server_max_window_bits=8, which
    zlib does not support. Raises HandshakeError (400) for values that break the grammar.
    """
    offered = tuple(values)
    known = sum(map(len, offered)) <= _MAX_CACHED
    return _accept(settings, offered) if known else _accept.__wrapped__(settings, offered)


@functools.lru_cache(maxsize=64)
def _accept(settings: DeflateSettings, values: tuple[bytes, ...]) -> tuple[DeflateParameters, bytes] | None:
    """Like `accept()`, but cached."""
    for name, parameters in parse_extensions(values):
        if name == NAME and (accepted := _accept_offer(settings, parameters)):
            return accepted
    return None


def _accept_offer(
    settings: DeflateSettings, parameters: list[tuple[str, str | None]]
) -> tuple[DeflateParameters, bytes] | None:
    try:
        offer = _check(parameters)
    except ValueError:
        return None
    shared = settings.context == "shared"
    server_bits = min(offer.get(SERVER_BITS) or _MAX_BITS, settings.send_window_bits)
    client_bits = offer.get(CLIENT_BITS) or _MAX_BITS
    if CLIENT_BITS in offer:  # else the answer must not limit it (RFC 7692 section 7.1.2.2)
        client_bits = min(client_bits, settings.receive_window_bits)
    if server_bits < MIN_BITS:
        return None
    agreed = DeflateParameters(
        server_no_context_takeover=shared or SERVER_NO_CONTEXT in offer,
        client_no_context_takeover=shared or CLIENT_NO_CONTEXT in offer,
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
    )
    answer = _flag_parameters(agreed.server_no_context_takeover, agreed.client_no_context_takeover)
    if SERVER_BITS in offer:  # it is allowed without an offer, too, but some clients refused that
        answer.append(f"{SERVER_BITS}={server_bits}")
    if client_bits < _MAX_BITS:
        answer.append(f"{CLIENT_BITS}={client_bits}")
    return agreed, "; ".join(answer).encode()


def agree(settings: DeflateSettings | None, values: Sequence[bytes]) -> tuple[PerMessageDeflate | None, bytes | None]:
    """Return the codec of a connection whose request has these Sec-WebSocket-Extensions fields, and the value of the
    response's field, as a server. Both are None for no compression, which `settings` of None ask for. Raises
    HandshakeError like `accept()`."""
    accepted = accept(settings, values) if settings is not None and values else None
    if settings is None or accepted is None:
        return None, None
    agreed, answer = accepted
    return PerMessageDeflate(settings, agreed, _SERVER), answer


def _flag_parameters(server_no_context: bool, client_no_context: bool) -> list[str]:
    return [NAME] + [SERVER_NO_CONTEXT] * server_no_context + [CLIENT_NO_CONTEXT] * client_no_context


def offer(settings: DeflateSettings) -> bytes:
    """Return the value of the request's Sec-WebSocket-Extensions field, as a client."""
    shared = settings.context == "shared"
    parts = _flag_parameters(shared, shared)
    if settings.receive_window_bits < _MAX_BITS:
        parts.append(f"{SERVER_BITS}={settings.receive_window_bits}")
    limited = settings.send_window_bits < _MAX_BITS
    parts.append(f"{CLIENT_BITS}={settings.send_window_bits}" if limited else CLIENT_BITS)
    return "; ".join(parts).encode()


def read_answer(settings: DeflateSettings, values: Iterable[bytes]) -> DeflateParameters | None:
    """Return the parameters that the response's Sec-WebSocket-Extensions fields agree to, None for no compression, as a
    client.

    Raises HandshakeError (101, the response's status) for an answer to `offer(settings)` that is not allowed; the
    client must then fail the connection (RFC 6455 section 4.1, RFC 7692 section 7.1).
    """
    try:
        answers = parse_extensions(values)
    except HandshakeError as error:
        raise HandshakeError(101, error.detail) from None
    if not answers:
        return None
    name, parameters = answers[0]
    if name != NAME or len(answers) > 1:
        raise HandshakeError(101, "the server chose an extension that was not offered")
    try:
        return _read_parameters(settings, _check(parameters))
    except ValueError as error:
        raise HandshakeError(101, f"{NAME}: {error}") from None


def _read_parameters(settings: DeflateSettings, answer: dict[str, int | None]) -> DeflateParameters:
    """Check an answer to `offer(settings)`. Raises ValueError if it is not allowed.

    Servers that ignore server_no_context_takeover, as some do, are tolerated: it costs this end the memory of a window,
    but otherwise no connection to them would be possible.
    """
    shared = settings.context == "shared"
    server_bits = answer.get(SERVER_BITS)
    client_bits = answer.get(CLIENT_BITS, _MAX_BITS)
    if settings.receive_window_bits < (server_bits or _MAX_BITS):
        raise ValueError(f"{SERVER_BITS} is missing or above {settings.receive_window_bits}")
    if client_bits is None:
        raise ValueError(f"{CLIENT_BITS} without a value")
    if CLIENT_BITS in answer and client_bits > settings.send_window_bits:
        raise ValueError(f"{CLIENT_BITS} is above {settings.send_window_bits}")
    return DeflateParameters(
        server_no_context_takeover=SERVER_NO_CONTEXT in answer,
        client_no_context_takeover=shared or CLIENT_NO_CONTEXT in answer,  # as the offer promised (section 7.1.1.2)
        server_max_window_bits=server_bits or _MAX_BITS,
        client_max_window_bits=min(client_bits, settings.send_window_bits),
    )
