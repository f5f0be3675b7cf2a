"""The opening handshake of a client over a transport (RFC 6455 section 4.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from flowserve.client.http_exchange import Exchange
from flowserve.client.uri import URI
from flowserve.errors import HandshakeError
from flowserve.http.client import ResponseHead, encode_request
from flowserve.library.context import LibraryContext
from flowserve.library.messages import pack
from flowserve.library.websocket import WebSocket
from flowserve.session.opening import deflate_settings, open_session
from flowserve.transport.stream import TransportStream
from flowserve.websocket import negotiation
from flowserve.websocket.client_handshake import check_response, new_key, request_fields
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateSettings, PerMessageDeflate


@dataclass(frozen=True, slots=True)
class HandshakeRequest:
    """What a client puts into the request of an opening handshake, beside the fields that RFC 6455 section 4.1
    defines."""

    subprotocols: Sequence[str] = ()
    """The subprotocols to offer, in order of preference."""
    headers: Sequence[tuple[bytes, bytes]] = ()
    """Further header fields; a Host field replaces the one made from the URI."""
    user_agent: str | None = None
    """The User-Agent to send to a proxy."""


async def open_websocket(
    transport: asyncio.Transport, uri: URI, request: HandshakeRequest, context: LibraryContext
) -> WebSocket:
    """Do the opening handshake of `uri` over a transport with paused reading; its protocol is replaced by the session.

    Raises HandshakeError if the response does not open a WebSocket, with its status, headers and body; OSError if the
    connection is lost.
    """
    key, settings = new_key(), deflate_settings(context.config, Role.CLIENT)
    offer = negotiation.offer(settings) if settings is not None else None
    fields = request_fields(uri.authority, key, request.subprotocols, offer)
    if uri.authorization is not None:
        fields.append((b"authorization", uri.authorization))
    given = {name.lower() for name, _ in request.headers}
    fields = [field for field in fields if field[0] not in given]
    head = encode_request("GET", uri.target, [*fields, *request.headers])
    exchange = Exchange(transport, "GET", context.config)
    response = await exchange.run(head)
    try:
        subprotocol = check_response(key, request.subprotocols, response.status, response.headers)
        if response.http_version != "1.1":
            raise HandshakeError(101, f"the server speaks HTTP/{response.http_version}; a WebSocket needs HTTP/1.1")
        codec = _codec(settings, response)
    except HandshakeError as error:
        raise HandshakeError(response.status, error.detail, response.headers, response.body) from None
    session = open_session(Role.CLIENT, codec, TransportStream(transport, context.variables), context)
    ws = WebSocket(session, subprotocol, head, _response_head(response))
    if exchange.lost:
        session.connection.feed(exchange.rest)  # the server may have sent frames before it closed the connection
        session.connection_lost(None)
    else:
        exchange.hand_over(cast(asyncio.Protocol, session), context.variables)
    return ws


def _response_head(response: ResponseHead) -> bytes:
    return pack(b"HTTP/1.1 %d %b" % (response.status, response.reason), response.headers)


def _codec(settings: DeflateSettings | None, response: ResponseHead) -> PerMessageDeflate | None:
    answers = [value for name, value in response.headers if name == b"sec-websocket-extensions"]
    if settings is None:
        if answers:
            raise HandshakeError(101, "the server chose an extension that was not offered")
        return None
    agreed = negotiation.read_answer(settings, answers)
    return None if agreed is None else PerMessageDeflate(settings, agreed, Role.CLIENT)
