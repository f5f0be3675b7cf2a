# cython: language_level=3, annotation_typing=False, binding=False
"""The opening handshake of a WebSocket, from the server's side: what the client asks for, and the session that comes of
it (RFC 6455 section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from flowserve.asgi.context import Context
from flowserve.errors import ASGIMisuse
from flowserve.http.messages import RequestHead
from flowserve.http.response_encoder import encode_switching
from flowserve.session.metered import MeteredConnection, MeteredSession
from flowserve.session.session import Session
from flowserve.transport.interfaces import Peer
from flowserve.transport.stream import TransportStream
from flowserve.websocket import negotiation
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateSettings
from flowserve.websocket.server_handshake import check_request, is_token, response_fields

_SERVER = int(Role.SERVER)


class Upgrade:
    """What a request for a WebSocket asks for: `subprotocols` are those that the client offers, in its order."""

    __slots__ = ("_key", "_offers", "subprotocols")

    def __init__(self, request: RequestHead) -> None:
        """Raises HandshakeError for a request that RFC 6455 does not allow."""
        self._key, self.subprotocols = check_request(request.method, request.http_version, request.headers)
        self._offers = request.values(b"sec-websocket-extensions")

    def agree(self, subprotocol: str, context: Context, peer: Peer) -> str | None:
        """Return the application's choice, or None if the client does not offer it: such a client must fail what names
        it (RFC 6455 section 4.1). Raises ASGIMisuse for what can't be a subprotocol."""
        if subprotocol in self.subprotocols:
            return subprotocol
        if not is_token(subprotocol):
            raise ASGIMisuse(f"{subprotocol!r} can't be a subprotocol")
        context.warn_once(
            f"subprotocol {subprotocol}",
            "The application chose subprotocol %r, which %s does not offer; the answer names none (told once)",
            subprotocol,
            peer,
        )
        return None

    def answer(
        self,
        subprotocol: str | None,
        headers: Sequence[tuple[bytes, bytes]],
        deflate: DeflateSettings | None,
        stream: TransportStream,
        context: Context,
    ) -> tuple[bytes, Session]:
        """Return the head of the 101, and the session over `stream`.

        `subprotocol` is one that the client offers, `headers` are the application's, `deflate` is what
        permessage-deflate is to be like. Raises ASGIMisuse.
        """
        config = context.config
        codec, extensions = negotiation.agree(deflate, self._offers)
        own = response_fields(self._key, subprotocol, extensions, headers)
        head = encode_switching(own, headers, context.default_headers())
        limits = config.ws_max_size, config.ws_max_frames_per_message
        if context.metrics is None:
            return head, Session(Connection(_SERVER, *limits, codec), stream, context)
        connection = MeteredConnection(_SERVER, *limits, codec, context.metrics)
        return head, MeteredSession(connection, stream, context)
