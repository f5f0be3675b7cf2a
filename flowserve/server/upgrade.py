# cython: language_level=3, annotation_typing=False, binding=False
"""The server's side of an opening handshake: the client's request, the response, and the session (RFC 6455 section
4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from flowserve.asgi.context import Context
from flowserve.errors import ASGIMisuse
from flowserve.grammar import is_token
from flowserve.http.messages import RequestHead
from flowserve.http.response_encoder import encode_switching
from flowserve.session.host import SessionContext
from flowserve.session.opening import open_session
from flowserve.session.session import Session
from flowserve.transport.interfaces import Peer
from flowserve.transport.stream import TransportStream
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateSettings
from flowserve.websocket.negotiation import agree as agree_on_compression
from flowserve.websocket.server_handshake import check_request, response_fields

_SERVER = Role.SERVER


class Upgrade:
    """The opening handshake that a client requests. `subprotocols` are those that it offers, in its order."""

    __slots__ = ("_key", "_offers", "subprotocols")

    def __init__(self, request: RequestHead) -> None:
        """Raises HandshakeError for a request that RFC 6455 section 4.2.1 does not allow."""
        self._key, self.subprotocols = check_request(request.method, request.http_version, request.headers)
        self._offers = request.values(b"sec-websocket-extensions")

    def agree(self, subprotocol: str, context: Context, peer: Peer) -> str | None:
        """Return `subprotocol`, which the application has chosen, or None if the client does not offer it, as a client
        must then fail the connection (RFC 6455 section 4.1). Raises ASGIMisuse if it can't be a subprotocol."""
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
        context: SessionContext,
        default_headers: bytes,
    ) -> tuple[bytes, Session]:
        """Return the head of the 101, which is not sent yet, and the session over `stream`.

        `subprotocol` is one that the client offers, or None; `headers` are the application's header fields; `deflate`
        has the settings of permessage-deflate, None to disable it; `default_headers` are the header lines that every
        response gets. Raises ASGIMisuse for header fields that can't be sent.
        """
        codec, extensions = agree_on_compression(deflate, self._offers)
        own = response_fields(self._key, subprotocol, extensions, headers)
        head = encode_switching(own, headers, default_headers)
        return head, open_session(_SERVER, codec, stream, context)
