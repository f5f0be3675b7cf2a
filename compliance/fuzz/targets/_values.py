"""What a target and the comparison with other implementations both know."""

from __future__ import annotations

from typing import Any, NamedTuple

from flowserve.websocket.deflate import DeflateParameters

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455 section 1.3; its answer is s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
SUBPROTOCOLS = ("chat", "superchat")


class Given(NamedTuple):
    """What the application says, and of what request."""

    method: str
    version: str
    at_once: bool  # the body comes whole
    status: int
    fields: list[tuple[bytes, bytes]]
    body: list[bytes]

    @classmethod
    def of(cls, data: bytes) -> Given:
        parts = data[3:].split(b"\xfe")
        count = 2 * (data[0] >> 4)
        names, rest = parts[:count], parts[count:]
        fields = list(zip(names[::2], names[1::2], strict=False))
        status = 200 + (int.from_bytes(data[1:3], "big") % 800)
        version = "1.0" if data[0] & 2 else "1.1"
        return cls("HEAD" if data[0] & 1 else "GET", version, bool(data[0] & 4), status, fields, rest)


def plain(agreed: DeflateParameters) -> Any:
    return [getattr(agreed, name) for name in DeflateParameters.__dataclass_fields__]
