"""The messages of the protocol for clients that subscribe by themselves, as values; PROTOCOL.md is the specification.

Nothing here does I/O. What a client sends wrong is a `Refusal`, which becomes the answer.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from flowserve.topics.message import Kind
from flowserve.topics.payload import STRICT, json_of

SUBPROTOCOL = "flowserve.topics.v1"
"""The subprotocol of the WebSocket (RFC 6455 section 1.9), which says the version of the protocol."""

_MAX_ID = 2**53 - 1
"""Up to here JavaScript counts exactly."""


class Refusal(Exception):
    """A request can't be done."""

    def __init__(self, code: str, message: str, request_id: int | None = None, **details: Any) -> None:
        """`code` is one of the specification's, `message` for people, `details` other members of the error."""
        super().__init__(message)
        self.request_id = request_id
        self.error = {"code": code, "message": message, **details}


class Request:
    """A request. Its members are read by the methods, which raise Refusal for what is missing or of another type."""

    def __init__(self, members: dict[str, Any], request_id: int, type: str) -> None:
        self._members = members
        self.id = request_id
        self.type = type

    def text(self, name: str) -> str:
        """Return a member that is a string."""
        found = self._members.get(name)
        if not isinstance(found, str):
            raise Refusal("bad_request", f'"{name}" is a string')
        return found

    def optional_text(self, name: str) -> str | None:
        """Return a member that is a string if it is there, and not null."""
        return None if self._members.get(name) is None else self.text(name)

    def flag(self, name: str) -> bool:
        """Return a member that is true or false; one that is not there, or null, is false."""
        found = self._members.get(name)
        if found is not None and not isinstance(found, bool):
            raise Refusal("bad_request", f'"{name}" is true or false')
        return bool(found)

    def payload(self) -> tuple[bytes, Kind]:
        """Return what is to be published: a string as text, any other value as JSON; binary if it is base64."""
        if "data" not in self._members:
            raise Refusal("bad_request", 'publish has "data"')
        data, encoding = self._members["data"], self._members.get("encoding")
        try:
            if encoding == "base64":
                return base64.b64decode(data, validate=True), Kind.BINARY
            if encoding is None:
                return (data.encode(), Kind.TEXT) if isinstance(data, str) else (json_of(data).encode(), Kind.JSON)
        except (TypeError, ValueError, RecursionError, binascii.Error):
            raise Refusal("bad_request", '"data" can\'t be published: it is no valid text, base64 or JSON') from None
        raise Refusal("bad_request", '"encoding" is "base64", or is left out')


def parse_request(message: str | bytes, max_size: int) -> Request:
    """Return the request in a message of at most `max_size` characters. Raises Refusal."""
    if isinstance(message, bytes):
        raise Refusal("bad_request", "requests are text messages, not binary")
    if len(message) > max_size:
        raise Refusal("too_big", f"a request has {max_size} characters at most")
    try:
        members = STRICT.decode(message)
    except (ValueError, RecursionError):
        raise Refusal("bad_request", "a request is a JSON object") from None
    if not isinstance(members, dict):
        raise Refusal("bad_request", "a request is a JSON object")
    request_id, kind = members.get("id"), members.get("type")
    if type(request_id) is not int or not 0 <= request_id <= _MAX_ID:
        raise Refusal("bad_request", '"id" is an integer from 0 to 2**53 - 1')
    if not isinstance(kind, str):
        raise Refusal("bad_request", '"type" is a string', request_id)
    return Request(members, request_id, kind)


def encode_answer(request_id: int, **members: Any) -> str:
    """Return the answer to a request that was done."""
    return json_of({"id": request_id, **members})


def encode_refusal(request_id: int | None, refusal: Refusal) -> str:
    """Return the answer to a request that was refused; its id is None if it could not be read."""
    return json_of({"id": request_id, "error": refusal.error})


def encode_ended(topic: str, code: str, message: str) -> str:
    """Return what tells a client that the server has ended a subscription."""
    return json_of({"topic": topic, "error": {"code": code, "message": message}})
