"""The constants of RFC 6455. This module is not compiled, so that Python code can import them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Appended to the key in the opening handshake (RFC 6455 section 1.3)."""

MAX_CONTROL_PAYLOAD: Final = 125
"""Bytes that the payload of a control frame may have (RFC 6455 section 5.5)."""


class Opcode(IntEnum):
    """Frame types (RFC 6455 section 5.2)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class Role(IntEnum):
    """Which end of the connection this is: a client masks its frames, a server must not (RFC 6455 section 5.1)."""

    SERVER = 0
    CLIENT = 1


class State(IntEnum):
    """State of the closing handshake, seen from this end (RFC 6455 section 7.1)."""

    OPEN = 0
    """This end has sent no close frame."""
    CLOSING = 1
    """This end has sent a close frame."""
    CLOSED = 2
    """Both ends have sent a close frame; as `WebSocket.state`, the connection is closed as well."""


class CloseCode(IntEnum):
    """Status codes (RFC 6455 section 7.4.1, and the IANA WebSocket Close Code Number Registry)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015

    # Their names in the websockets library.
    NORMAL_CLOSURE = NORMAL
    NO_STATUS_RCVD = NO_STATUS
    ABNORMAL_CLOSURE = ABNORMAL


def is_sendable(code: int) -> bool:
    """Whether a close frame may carry `code` (RFC 6455 sections 7.4.1 and 7.4.2): 1005, 1006 and 1015 are reserved."""
    return (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999
