"""What users hand over, as what goes to the wire: exactly str, or exactly bytes.

A subclass of str or bytes, a bytearray or a memoryview of any shape is taken for what it holds, not for what its class
says of itself: the compiled modules take nothing but the plain types.
"""

from __future__ import annotations

from flowserve.websocket.constants import MAX_CONTROL_PAYLOAD

Data = str | bytes | bytearray | memoryview


def plain_str(value: str) -> str:
    """Return `value` as a str and no subclass of it."""
    return str.__str__(value)


def plain_bytes(value: bytes | bytearray | memoryview) -> bytes:
    """Return the bytes that `value` holds; of a memoryview all of them, whatever its items are."""
    return value if type(value) is bytes else memoryview(value).tobytes()


def encoded(value: Data, what: str) -> bytes:
    """Return `value` as bytes, a str in UTF-8. Raises TypeError that says `what` it should be."""
    if isinstance(value, str):
        return str.encode(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return plain_bytes(value)
    raise TypeError(f"{what} is str or bytes, not {type(value).__name__}")


def message_payload(message: Data, text: bool | None) -> str | bytes:
    """Return what a session sends as text, a str, or as binary, bytes. `text` as for `WebSocket.send()`."""
    if isinstance(message, str) and text is not False:
        return plain_str(message)
    data = encoded(message, "a message")
    return data.decode() if text else data


def control_payload(data: Data, what: str) -> bytes:
    """Return what a ping or pong carries. Raises ValueError for more than RFC 6455 section 5.5 allows."""
    payload = encoded(data, f"what a {what} carries")
    if len(payload) > MAX_CONTROL_PAYLOAD:
        raise ValueError(f"a {what} holds {MAX_CONTROL_PAYLOAD} bytes at most, not {len(payload)}")
    return payload
