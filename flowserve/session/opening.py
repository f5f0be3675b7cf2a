"""What the configuration says of permessage-deflate, for either role."""

from __future__ import annotations

from flowserve.config import Config
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateSettings
from flowserve.websocket.deflate_backends import backend


def deflate_settings(config: Config, role: Role) -> DeflateSettings | None:
    """Return what permessage-deflate is to be like at this end, None when it is off. Raises ConfigError."""
    if not config.ws_per_message_deflate:
        return None
    backend()  # a wrong FLOWSERVE_ZLIB is to be noticed now
    send, receive = config.ws_deflate_server_window_bits, config.ws_deflate_client_window_bits
    if role == Role.CLIENT:
        send, receive = max(receive, 9), max(send, 9)
    return DeflateSettings(
        config.ws_deflate_context,
        config.ws_deflate_level,
        send,
        receive,
        config.ws_deflate_mem_level,
        config.ws_deflate_threshold,
    )
