"""The opening handshake of a client over a transport (RFC 6455 section 4.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from flowserve.compression import deflate_settings
from flowserve.errors import ASGIMisuse, ConfigError, HandshakeError
from flowserve.flow import Flow
from flowserve.http.response import Response, encode_request
from flowserve.library.exchange import Exchange
from flowserve.library.home import Home
from flowserve.library.uri import URI
from flowserve.library.websocket import WebSocket
from flowserve.session import Session
from flowserve.websocket import deflate
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import PerMessageDeflate
from flowserve.websocket.handshake import check_response, new_key, request_fields


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client asks for: `headers` (pairs of bytes) go with the request."""

    subprotocols: Sequence[str] = ()
    headers: Sequence[tuple[bytes, bytes]] = ()


async def open_websocket(transport: asyncio.Transport, uri: URI, wish: Wish, home: Home) -> WebSocket:
    """Ask for a WebSocket over a transport that nobody else reads from; its protocol is replaced.

    Raises HandshakeError for an answer that is none or no WebSocket, with its status, headers and body, and OSError.
    """
    key, settings = new_key(), deflate_settings(home.config, Role.CLIENT)
    offer = deflate.offer(settings) if settings is not None else None
    fields = request_fields(uri.authority, key, wish.subprotocols, offer)
    if uri.authorization is not None:
        fields.append((b"authorization", uri.authorization))
    try:
        request = encode_request("GET", uri.target, _merged(fields, wish.headers))
    except ASGIMisuse as error:
        raise ConfigError(f"additional_headers: {error}") from None
    exchange = Exchange(transport, "GET", home.config)
    response = await exchange.run(request)
    try:
        subprotocol = check_response(key, wish.subprotocols, response.status, response.headers)
        codec = _codec(settings, response)
    except HandshakeError as error:
        raise HandshakeError(response.status, error.detail, response.headers, response.body) from None
    config = home.config
    connection = Connection(Role.CLIENT, config.ws_max_size, config.ws_max_frames_per_message, codec)
    session = Session(connection, Flow(transport), home)
    ws = WebSocket(session, subprotocol, response=response)
    if exchange.lost:
        session.connection_lost(None)
        return ws
    transport.set_protocol(cast(asyncio.Protocol, session))
    transport.resume_reading()
    if exchange.parser.rest:
        session.data_received(exchange.parser.rest)
    return ws


def _codec(settings: deflate.DeflateSettings | None, response: Response) -> PerMessageDeflate | None:
    answers = [value for name, value in response.headers if name == b"sec-websocket-extensions"]
    if settings is None:
        if answers:
            raise HandshakeError(101, "the server chose an extension that was not offered")
        return None
    agreed = deflate.read_answer(settings, answers)
    return None if agreed is None else PerMessageDeflate(settings, agreed, Role.CLIENT)


def _merged(fields: list[tuple[bytes, bytes]], extra: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Both, where `extra` may have a host or an authorization of its own, but nothing else of the handshake."""
    names = {name.lower() for name, _ in extra}
    for name, _ in fields:
        if name in names and name not in (b"host", b"authorization"):
            raise ConfigError(f"additional_headers: {name.decode()!r} belongs to the handshake, and has its own option")
    return [field for field in fields if field[0] not in names] + list(extra)
