"""Streams: topics with a beginning and an end, such as the tokens of an answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType

from flowserve.errors import TopicsError
from flowserve.logs.loggers import logger
from flowserve.topics.hub.current import in_hub
from flowserve.topics.hub.hub import Hub
from flowserve.topics.message import Kind
from flowserve.topics.position import BEGINNING, KEPT, Position
from flowserve.topics.settings import Retention

START = BEGINNING.position()
"""As `since`: from the first message on, which has to be kept still."""

OLDEST = KEPT.position()
"""As `since`: from the oldest message on that is kept."""

_MAX_MESSAGES = 1_000_000


class Stream:
    """Writes a stream; `async with` ends it, so that its readers know that it is complete, or, after an exception, that
    it is not."""

    def __init__(self, topic: str, retention: Retention) -> None:
        self.topic = topic
        self._retention = retention
        self._ended = False

    async def write(self, text: str, *, key: str | None = None) -> Position:
        """Append a text; parameters, result and errors as for `publish()`. Raises RuntimeError after `end()`: nobody
        would read it."""
        if not isinstance(text, str):
            raise TypeError(f"a stream is written as str, not {type(text).__name__}")
        if self._ended:
            raise RuntimeError(f"the stream {self.topic!r} has ended")
        data = text.encode()
        return await in_hub(lambda hub: self._publish(hub, data, Kind.TEXT, key))

    async def end(self, failure: str = "") -> Position:
        """Append the end. `failure` tells the readers why the stream is not complete.

        It is published even if the caller is cancelled. If it did not reach those readers whom it should, that is
        logged: they wait for it, or another end has to be published, by another `stream()`. Raises RuntimeError for a
        second end.
        """
        if self._ended:
            raise RuntimeError(f"the stream {self.topic!r} has ended")
        self._ended = True
        data = failure.encode()

        async def work(hub: Hub) -> Position:
            try:
                position = await self._publish(hub, data, Kind.END, None)
            except (TopicsError, asyncio.CancelledError) as error:
                logger.warning(
                    "Topics: the stream %r may have no end: %s", self.topic, str(error) or "the server ended"
                )
                raise
            if not position:
                logger.warning("Topics: the end of the stream %r was published in this process only", self.topic)
            return position

        return await in_hub(work, lasting=True)

    async def _publish(self, hub: Hub, data: bytes, kind: Kind, key: str | None) -> Position:
        return await hub.publish(self.topic, data, kind, key, retention=self._retention)

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ended:
            return
        if kind is None:
            await self.end()
        else:
            with suppress(TopicsError):  # logged; what the writer has raised tells more
                await self.end("failed")


def stream(topic: str, *, ttl: float = 600.0, max_size: int = 16 << 20) -> Stream:
    """Return what writes a stream: a topic that is written once, and read by any number of readers, from `START` or
    from where they were, until its end.

    A part is kept for `ttl` seconds. The stream has at most `max_size` bytes; beyond that its beginning is dropped. One
    writer writes it: whoever reads sees nothing behind the first end. Raises ValueError and TypeError for limits that
    are none.
    """
    return Stream(topic, Retention(_MAX_MESSAGES, max_size, ttl).checked())
