"""Messages of topics as they come, in the order of their positions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from types import TracebackType

from flowserve.errors import ClientDisconnected, MissedMessages, TopicsError
from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.hub.current import HubSource
from flowserve.topics.message import Gap, Kind, Message
from flowserve.topics.position import Position
from flowserve.topics.presence.membership import Membership


class Listener:
    """A queue that is subscribed to topics while in the context. `positions` has where those without `since` begin."""

    def __init__(
        self,
        source: HubSource,
        topics: tuple[str, ...],
        since: Mapping[str, str],
        membership: Membership | None = None,
        presence: bool = False,
    ) -> None:
        """`since` as for `Hub.subscribe()`, `membership` and `presence` for `Hub.join_presence()`. It ends when the
        source drains. Raises RuntimeError in another event loop than the source's."""
        if source.loop is not asyncio.get_running_loop():
            raise RuntimeError("listen in the event loop of the server, not in that of another thread")
        self._hub = source.hub
        self._queue = QueueSubscriber(self._hub.settings.max_pending)
        source.close_on_drain(self._queue)
        self._topics = topics
        self._since = since
        self._membership = membership
        self._presence = presence

    async def __aenter__(self) -> Listener:
        """Subscribe to the topics. Raises as `Hub.subscribe()`."""
        try:
            for topic in self._topics:
                self._hub.check_name(topic)
            new = [topic for topic in self._topics if topic not in self._since]
            self.positions: dict[str, Position] = {}
            with suppress(ClientDisconnected):  # the source drains already, so that there is nothing to be got
                self.positions, _ = await self._hub.subscribe(self._queue, new, {})
            # In a task: the queue has to be emptied while what came since the positions is put into it.
            self._joining = asyncio.ensure_future(self._join())
        except BaseException:
            self._hub.ended(self._queue)
            raise
        self._joining.add_done_callback(self._on_joined)
        return self

    async def _join(self) -> None:
        await self._hub.subscribe(self._queue, self._topics, self._since)
        await self._hub.join_presence(self._queue, self._topics, self._membership, self._presence)

    def _on_joined(self, joining: asyncio.Future[None]) -> None:
        if joining.cancelled() or joining.exception() is not None:
            self._queue.close()

    async def get(self, timeout: float | None = None) -> Message | Gap | None:
        """Return the next item, None if the server drains. Cancelling this loses nothing. Raises what the subscription
        raises, and TimeoutError if none came for `timeout` seconds."""
        item = await self._queue.get(timeout)
        if item is None and self._joining.done():
            with suppress(ClientDisconnected):
                self._joining.result()
        return item

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the subscription, if it has not ended."""
        self._joining.cancel()
        self._queue.close()
        self._hub.ended(self._queue)


async def messages(
    source: HubSource, topics: tuple[str, ...], since: Mapping[str, str], presence: bool = False
) -> AsyncGenerator[Message, None]:
    """Yield messages as `topics.listen()` does."""
    ended: set[str] = set()
    async with Listener(source, topics, since, presence=presence) as listener:
        while len(ended) < len(topics):
            item = await listener.get()
            if item is None:
                return
            if isinstance(item, Gap):
                raise MissedMessages(item.topic, item.position)
            if item.kind == Kind.END:
                if item.data:
                    raise TopicsError(f"the stream {item.topic!r} is not complete: {item.text}")
                ended.add(item.topic)
            else:
                yield item
