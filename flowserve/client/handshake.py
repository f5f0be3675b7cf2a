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
    """What a client asks for: `headers` (pairs of bytes) go with the request; none of them belongs to the handshake but
    Host, which then goes instead of the URI's. `user_agent` is what a proxy is told."""

    subprotocols: Sequence[str] = ()
    headers: Sequence[tuple[bytes, bytes]] = ()
    user_agent: str | None = None


async def open_websocket(
    transport: asyncio.Transport, uri: URI, wish: HandshakeRequest, home: LibraryContext
) -> WebSocket:
    """Ask for a WebSocket over a transport that nobody else reads from; its protocol is replaced.

    Raises HandshakeError for an answer that is none or no WebSocket, with its status, headers and body, and OSError.
    """
    key, settings = new_key(), deflate_settings(home.config, Role.CLIENT)
    offer = negotiation.offer(settings) if settings is not None else None
    fields = request_fields(uri.authority, key, wish.subprotocols, offer)
    if uri.authorization is not None:
        fields.append((b"authorization", uri.authorization))
    given = {name.lower() for name, _ in wish.headers}
    fields = [field for field in fields if field[0] not in given]
    request = encode_request("GET", uri.target, [*fields, *wish.headers])
    exchange = Exchange(transport, "GET", home.config)
    response = await exchange.run(request)
    try:
        subprotocol = check_response(key, wish.subprotocols, response.status, response.headers)
        if response.http_version != "1.1":
            raise HandshakeError(101, f"the server speaks HTTP/{response.http_version}; a WebSocket needs HTTP/1.1")
        codec = _codec(settings, response)
    except HandshakeError as error:
        raise HandshakeError(response.status, error.detail, response.headers, response.body) from None
    session = open_session(Role.CLIENT, codec, TransportStream(transport, home.variables), home)
    ws = WebSocket(session, subprotocol, request, _shown(response))
    if exchange.lost:
        session.connection.feed(exchange.rest)  # which may be all that the server had to say
        session.connection_lost(None)
    else:
        exchange.hand_over(cast(asyncio.Protocol, session), home.variables)
    return ws


def _shown(response: ResponseHead) -> bytes:
    return pack(b"HTTP/1.1 %d %b" % (response.status, response.reason), response.headers)


def _codec(settings: DeflateSettings | None, response: ResponseHead) -> PerMessageDeflate | None:
    answers = [value for name, value in response.headers if name == b"sec-websocket-extensions"]
    if settings is None:
        if answers:
            raise HandshakeError(101, "the server chose an extension that was not offered")
        return None
    agreed = negotiation.read_answer(settings, answers)
    return None if agreed is None else PerMessageDeflate(settings, agreed, Role.CLIENT)
