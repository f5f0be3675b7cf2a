"""The channel layer: what Django Channels calls."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from functools import cache, partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgpack
from channels.layers import BaseChannelLayer

from flowserve.errors import ConfigError
from flowserve.logs.loggers import logger
from flowserve.topics.api.connect import check_url
from flowserve.topics.channels.background import background_loop, take
from flowserve.topics.channels.channel import Limits
from flowserve.topics.channels.router import Router, RouterSettings
from flowserve.topics.hub.current import HubSource, server_source
from flowserve.topics.hub.open import open_hub
from flowserve.topics.message import Gap, Message
from flowserve.topics.settings import Settings

T = TypeVar("T")

_EXPIRY = 60.0
"""Seconds that a message waits in a normal channel, unless the layer says otherwise."""


class ChannelLayer(BaseChannelLayer):  # type: ignore[misc]  # it has no types
    """A channel layer for Django Channels, on the topics of flowserve.

    The methods are those of the specification of Channels, and can be called in any event loop. Messages are dicts of
    what msgpack can hold, at most --topics-max-size bytes.
    """

    extensions = ["groups", "flush"]  # noqa: RUF012  (the specification says a list)

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str = "channels",
        capacity: int | None = None,
        channel_capacity: Mapping[Any, int] | None = None,
        expiry: float | None = None,
        group_expiry: float = 86400,
        gap_type: str | None = None,
    ) -> None:
        """`url` is that of Redis, for processes that flowserve does not serve, and for servers that have another
        --topics-url; None: the topics of the server. `prefix` begins the names of all topics.

        `capacity` is how many messages wait in a channel, `channel_capacity` by patterns of names; by default as many
        as the memory for it holds (--topics-max-pending). `expiry` is how many seconds a message waits; by default 60
        in a normal channel, and for ever in one of a consumer. `group_expiry` has no effect: a channel is in a group as
        long as its consumer lives. `gap_type`: the type of a message, with the key "group", that a consumer gets where
        messages of a group are missing.

        Raises ConfigError for a URL that is wrong, or reaches no other process, and for limits that let nothing pass.
        """
        if (expiry is not None and expiry <= 0) or (capacity is not None and capacity < 1):
            raise ConfigError("the capacity and the expiry of a channel layer are above 0, or None")
        super().__init__(expiry=expiry or _EXPIRY, capacity=capacity)
        self.channel_capacity = self.compile_capacities(channel_capacity or {})
        self.group_expiry = group_expiry
        if url is not None:
            check_url(url)
        self._url = url
        self._gap_type = gap_type
        tells_gaps = gap_type is not None
        self._settings = RouterSettings(
            prefix, self.expiry, lambda name: Limits(self.get_capacity(name), expiry, tells_gaps)
        )
        self._routers: WeakKeyDictionary[HubSource, Router] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._own: HubSource | None = None
        self._process = 0  # in which `_own` is

    # Channels

    async def new_channel(self, prefix: str = "specific") -> str:
        """Return the name of a new channel of this process.

        The channel ends when nobody has this object any more, or when the task that has called this has ended and
        nobody has received for `expiry` seconds: both are so of a consumer that has ended.
        """
        task = asyncio.current_task()
        return await self._run(lambda router: router.new_channel(prefix, task))

    async def send(self, channel: str, message: Mapping[str, Any]) -> None:
        """Send a message to a channel. Raises ChannelFull if too many messages wait there, as far as this process can
        know, MessageTooLarge, and TopicsError if Redis is away."""
        self.require_valid_channel_name(channel)
        data = _packed(message)
        await self._run(lambda router: router.send(channel, data))

    async def receive(self, channel: str) -> dict[str, Any]:
        """Return the next message of a channel. If several wait for it, one of them gets it; cancelling this loses
        nothing. Raises ValueError for a channel of another process, RuntimeError if the channel ends."""
        self.require_valid_channel_name(channel)
        source = self._source()
        while True:
            if source.loop is asyncio.get_running_loop():
                item = await self._router(source).source_of(channel).receive()
            else:
                put_back = partial(self._put_back, source, channel)
                item = await take(source.loop, partial(self._get, source, channel), put_back)
            if item is None:
                raise RuntimeError(f"the channel {channel!r} has ended, as nobody keeps what new_channel() returned")
            if isinstance(item, Gap):
                return {"type": self._gap_type, "group": item.topic.partition(":")[2]}
            message = _unpacked(item)
            if message is not None:
                return message

    async def _get(self, source: HubSource, channel: str) -> Message | Gap | None:
        return await self._router(source).source_of(channel).receive()

    def _put_back(self, source: HubSource, channel: str, item: Message | Gap | None) -> None:
        if item is not None:
            self._router(source).source_of(channel).put_back(item)

    async def flush(self) -> None:
        """Drop the messages that wait in channels of this process, and in the normal channels that it has used; leave
        all groups. Raises TopicsError if Redis is away."""
        await self._run(lambda router: router.flush())

    async def close(self) -> None:
        """End the connection that the layer has of its own, if it has one. It is made again when it is needed."""
        with self._lock:
            own, self._own = self._own, None
        if own is not None and self._process == os.getpid():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._end(own), own.loop))

    async def _end(self, own: HubSource) -> None:
        router = self._routers.pop(own, None)
        if router is not None:
            router.close()
        await own.close()

    # Groups

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group, of whatever process it is. Raises TopicsError if that process does not answer."""
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self._run(lambda router: router.group_add(group, channel))

    async def group_discard(self, group: str, channel: str) -> None:
        """Remove a channel from a group, if it is in it."""
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self._run(lambda router: router.group_discard(group, channel))

    async def group_send(self, group: str, message: Mapping[str, Any]) -> None:
        """Send a message to all channels of a group, by one publish. Raises MessageTooLarge, and TopicsError if Redis
        is away, so that only channels of this process have got it."""
        self.require_valid_group_name(group)
        data = _packed(message)
        await self._run(lambda router: router.group_send(group, data))

    # The hub

    async def _run(self, work: Callable[[Router], Coroutine[Any, Any, T]]) -> T:
        source = self._source()

        async def here() -> T:
            return await work(self._router(source))

        return await source.call(here)

    def _router(self, source: HubSource) -> Router:
        """Return the router of a source. Call this in the loop of the source."""
        router = self._routers.get(source)
        if router is None:
            router = self._routers[source] = Router(source.hub, self._settings)
        return router

    def _source(self) -> HubSource:
        """Return the server's source, or, where there is no server or it has another URL, that of this layer."""
        found = server_source()
        if found is not None and self._url in (None, found.url):
            return found
        with self._lock:
            if self._own is None or self._process != os.getpid():
                if self._url is None:
                    _warn_once()
                self._process = os.getpid()
                self._own = HubSource(background_loop(), partial(open_hub, self._url, Settings()), self._url)
            return self._own


def _packed(message: Mapping[str, Any]) -> bytes:
    """Return the bytes of a message. Raises TypeError, ValueError or OverflowError for what msgpack can't hold."""
    if not isinstance(message, Mapping):
        raise TypeError(f"a message is a dict, not {type(message).__name__}")
    packed: bytes = msgpack.packb(message)
    return packed


def _unpacked(item: Message) -> dict[str, Any] | None:
    """Return a message; None for what another program has published to the topic, which is logged."""
    try:
        message = msgpack.unpackb(item.data, strict_map_key=False)
    except ValueError as error:
        message = error
    if isinstance(message, dict):
        return message
    logger.warning("Channel layer: what came on the topic %s is no message: %r", item.topic, message)
    return None


@cache
def _warn_once() -> None:
    logger.warning(
        "Channel layer: no server of flowserve runs in this process, so that messages stay in it; to reach servers, "
        'write CONFIG {"url": "redis://HOST"}, and serve with --topics-url'
    )
