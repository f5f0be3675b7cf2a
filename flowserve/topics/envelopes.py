"""How messages look on the wire."""

from __future__ import annotations

import base64
import inspect
import json
from typing import Any

from flowserve.topics.message import Kind, Message
from flowserve.topics.position import Position


class JSONEnvelope:
    """A JSON object: {"topic", "position", "data"}, and for a gap {"topic", "gap": true, "position"}.

    `data` is a string for a text message, any value for one that was published as JSON. For a binary message it is its
    base64 (RFC 4648 section 4), and the object has "encoding": "base64" as well. The end of a stream is {"topic",
    "position", "end": true}, with a text "failure" as well if it is not complete. The position is null for a message
    that reached only this machine. Presence is {"topic", "members", "complete"}, then {"topic", "joins", "leaves"}.
    """

    def __call__(self, message: Message) -> str:
        if message.kind == Kind.PRESENCE:
            return f'{{"topic":{json.dumps(message.topic)},{message.text[1:]}'
        return "".join((f'{{"topic":{json.dumps(message.topic)},"position":{_text(message.position)},', _data(message)))

    def gap(self, topic: str, position: Position) -> str:
        """Return what says that messages are missing before or at `position`."""
        return json.dumps({"topic": topic, "gap": True, "position": position or None}, separators=(",", ":"))


def _text(position: Position) -> str:
    return f'"{position}"' if position else "null"


def _data(message: Message) -> str:
    if message.kind == Kind.JSON:
        return f'"data":{message.data.decode()}}}'
    if message.kind == Kind.TEXT:
        return f'"data":{json.dumps(message.data.decode(), ensure_ascii=False)}}}'
    if message.kind == Kind.END:
        return f'"end":true,"failure":{json.dumps(message.text)}}}' if message.data else '"end":true}'
    return f'"data":"{base64.b64encode(message.data).decode()}","encoding":"base64"}}'


JSON = JSONEnvelope()

_BY_NAME: dict[Any, Any] = {None: None, "json": JSON}


def envelope_of(envelope: Any) -> Any:
    """Return the function for the parameter `envelope` of subscribe(). Raises TypeError for what is none."""
    if inspect.iscoroutinefunction(envelope):
        raise TypeError(f"envelope is a function without async, not {envelope!r}")
    if callable(envelope):
        return envelope
    try:
        return _BY_NAME[envelope]
    except (KeyError, TypeError):
        raise TypeError(f"envelope is None, 'json' or a function, not {envelope!r}") from None
