"""Conversion of what users pass to send into exactly str or exactly bytes, the only types that compiled modules accept.

The content of a subclass of str or bytes, a bytearray or a memoryview of any shape is taken; methods that a subclass
overrides are not called.
"""

from __future__ import annotations

from flowserve.websocket.constants import MAX_CONTROL_PAYLOAD

Data = str | bytes | bytearray | memoryview


def plain_str(value: str) -> str:
    """Return the content of `value`, which may be of a subclass, as a str."""
    return str.__str__(value)


def plain_bytes(value: bytes | bytearray | memoryview) -> bytes:
    """Return the content of `value` as bytes; all bytes of a memoryview, whatever its item size."""
    return value if type(value) is bytes else memoryview(value).tobytes()


def encoded(value: Data, what: str) -> bytes:
    """Return `value` as bytes, a str encoded in UTF-8. Raises TypeError for another type; `what` names the value
    there."""
    if isinstance(value, str):
        return str.encode(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return plain_bytes(value)
    raise TypeError(f"{what} is str or bytes, not {type(value).__name__}")


def message_payload(message: Data, text: bool | None) -> str | bytes:
    """Return `message` as a session takes it: a str to send as text, bytes to send as binary. `text` is as for
    `WebSocket.send()`. Raises TypeError for another type, UnicodeDecodeError for text that is not UTF-8."""
    if isinstance(message, str) and text is not False:
        return plain_str(message)
    data = encoded(message, "a message")
    return data.decode() if text else data


def control_payload(data: Data, what: str) -> bytes:
    """Return the payload of a ping or pong; `what` names the frame in errors. Raises ValueError for more than 125 bytes
    (RFC 6455 section 5.5), TypeError for another type."""
    payload = encoded(data, f"what a {what} carries")
    if len(payload) > MAX_CONTROL_PAYLOAD:
        raise ValueError(f"a {what} holds {MAX_CONTROL_PAYLOAD} bytes at most, not {len(payload)}")
    return payload
