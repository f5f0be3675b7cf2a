"""Publish and subscribe: `from flowserve import topics`.

`publish()` sends a message to all that are subscribed to a topic, `subscribe()` has a WebSocket get them, `listen()`
yields them to the application itself. `event_source()` is a response with server-sent events of topics, and `stream()`
writes a topic that has an end. `presence()` and `count()` tell who is there, and how many. `serve()` lets clients
subscribe by themselves, and `topics.client` is such a client. `ChannelLayer` is a layer for Django Channels.

To read the code, begin with `hub/hub.py`, where all of it meets; flowserve/README.md tells the way of a message.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flowserve.errors import MissedMessages, RequestRefused, TopicsError
from flowserve.topics.api.connect import Connection, connect
from flowserve.topics.api.event_source import event_source
from flowserve.topics.api.functions import Subscription, count, listen, presence, publish, subscribe
from flowserve.topics.api.stream import OLDEST, START, Stream, stream
from flowserve.topics.message import Kind, Message
from flowserve.topics.position import Position
from flowserve.topics.presence.entries import Presence, PresenceMember
from flowserve.topics.serving.grants import grant
from flowserve.topics.serving.protocol import SUBPROTOCOL
from flowserve.topics.serving.serve import serve

if TYPE_CHECKING:
    from flowserve.topics.channels.layer import ChannelLayer as ChannelLayer

__all__ = [
    "OLDEST",
    "START",
    "SUBPROTOCOL",
    "Connection",
    "Kind",
    "Message",
    "MissedMessages",
    "Position",
    "Presence",
    "PresenceMember",
    "RequestRefused",
    "Stream",
    "Subscription",
    "TopicsError",
    "connect",
    "count",
    "event_source",
    "grant",
    "listen",
    "presence",
    "publish",
    "serve",
    "stream",
    "subscribe",
]


def __getattr__(name: str) -> Any:
    """Import at its first use what servers do without: the client, and what needs Django Channels. Raises ImportError
    that says what to install."""
    if name == "client":
        return import_module("flowserve.topics.client")
    if name != "ChannelLayer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from flowserve.topics.channels.layer import ChannelLayer
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("flowserve"):
            raise
        raise ImportError(
            f"flowserve.topics.ChannelLayer needs {error.name}: pip install 'flowserve[channels]'", name=error.name
        ) from error
    return ChannelLayer
