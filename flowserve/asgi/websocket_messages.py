# cython: language_level=3, annotation_typing=False, binding=False
"""Checks of the events that an application sends for a WebSocket (ASGI specification, WebSocket)."""

from __future__ import annotations

from typing import Any

from flowserve.errors import ASGIMisuse
from flowserve.http.messages import as_bytes
from flowserve.websocket.constants import is_sendable


def header_fields(headers: Any) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a websocket.accept as pairs of bytes, not of subclasses. Raises ASGIMisuse for
    anything that is not an iterable of pairs of bytes-like objects."""
    try:
        return [(as_bytes(name, "a header's name"), as_bytes(value, "a header's value")) for name, value in headers]
    except (TypeError, ValueError):
        raise ASGIMisuse("headers must be pairs of bytes: (name, value)") from None


def send_payload(message: dict[str, Any]) -> str | bytes:
    """Return the payload of a websocket.send: a str for text, bytes for binary, no subclasses of them. Raises
    ASGIMisuse unless it has exactly one of 'text' and 'bytes', of the right type."""
    text = message.get("text")
    if type(text) is str and len(message) == 2:  # the usual case: only 'type' and 'text'
        return text
    data = message.get("bytes")
    if (text is None) == (data is None):
        raise ASGIMisuse("'websocket.send' takes exactly one of 'text' and 'bytes'")
    if text is None:
        return as_bytes(data, "'bytes'")
    if not isinstance(text, str):
        raise ASGIMisuse(f"'text' must be str, not {type(text).__name__}")
    return text if type(text) is str else str.__str__(text)


def check_close(code: Any, reason: Any) -> None:
    """Raise ASGIMisuse for a code or reason that a close frame can't have (RFC 6455 section 7.4). A reason over 123
    bytes is no error; `Connection.close()` cuts it."""
    if not isinstance(code, int) or not is_sendable(code):
        raise ASGIMisuse(f"{code!r} is not a code that a close frame may carry (RFC 6455 section 7.4)")
    if not isinstance(reason, str):
        raise ASGIMisuse(f"'reason' must be str, not {type(reason).__name__}")
    try:
        reason.encode("utf-8")
    except UnicodeEncodeError:
        raise ASGIMisuse("'reason' has a lone surrogate, which UTF-8 can't carry") from None
