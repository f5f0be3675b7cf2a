"""Makes the sessions, in either role and for every owner, and the settings of permessage-deflate from the options."""

from __future__ import annotations

from flowserve.config import Config
from flowserve.session.host import SessionContext
from flowserve.session.metered import MeteredConnection, MeteredSession
from flowserve.session.session import Session
from flowserve.transport.bases import Stream
from flowserve.websocket.connection import Connection
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateSettings, PerMessageDeflate
from flowserve.websocket.deflate_backends import backend


def open_session(role: Role, deflate: PerMessageDeflate | None, stream: Stream, context: SessionContext) -> Session:
    """Return the session of a WebSocket whose opening handshake is complete, except that a server may still have to
    send the response. Its deadlines start now.

    `role` is this end's. `deflate` is the codec of permessage-deflate, None without it. The session counts its messages
    if the context has metrics.
    """
    config, metrics = context.config, context.metrics
    limits = config.ws_max_size, config.ws_max_frames_per_message
    if metrics is None:
        return Session(Connection(role, *limits, deflate), stream, context)
    return MeteredSession(MeteredConnection(role, *limits, deflate, metrics), stream, context)


def deflate_settings(config: Config, role: Role) -> DeflateSettings | None:
    """Return the settings of permessage-deflate for an end in `role`, None if it is off. Raises ConfigError if
    FLOWSERVE_ZLIB names a module that can't be used."""
    if not config.ws_per_message_deflate:
        return None
    backend()  # raises now instead of at the first WebSocket
    send, receive = config.ws_deflate_server_window_bits, config.ws_deflate_client_window_bits
    if role == Role.CLIENT:
        send, receive = max(receive, 9), max(send, 9)  # the options are a server's
    return DeflateSettings(
        config.ws_deflate_context,
        config.ws_deflate_level,
        send,
        receive,
        config.ws_deflate_mem_level,
        config.ws_deflate_threshold,
    )
