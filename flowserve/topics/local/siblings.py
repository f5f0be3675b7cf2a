"""The backplane between the workers of one supervisor, which has the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, cast

from flowserve.errors import TopicsError
from flowserve.logs.loggers import logger
from flowserve.topics.backplane import Reading, Receiver, unknown_whether_published
from flowserve.topics.local.wire import (
    VERSION,
    Frame,
    FrameReader,
    FrameType,
    encode,
    frame_of,
    message_of,
    place_fields,
    place_in,
    places_of,
    publish_body,
    reading_of,
)
from flowserve.topics.message import Kind
from flowserve.topics.position import Place
from flowserve.topics.settings import Retention
from flowserve.transport.waiters import add_waiter, wake

_RECONNECT_INTERVAL = 0.1
"""Seconds before each attempt to connect again."""
_HELLO = 0
"""The number of HELLO."""
_LOST = "the connection to the supervisor's topics is lost"
_GRACE = 2.0
"""Seconds that `close()` waits for the answers that are due."""


class SiblingsBackplane(asyncio.Protocol):
    """A `Backplane` over the UNIX domain socket of a broker. A connection that is lost is made anew, as the broker
    lives as long as the supervisor."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._receiver: Receiver
        self._loop: asyncio.AbstractEventLoop  # as that
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._outgoing: list[bytes] = []  # frames that were not written yet
        self._hello: asyncio.Future[list[bytes]]  # on this connection
        self._answers: dict[int, asyncio.Future[list[bytes]]] = {}  # that are due, by number,
        self._places: dict[int, asyncio.Future[Place | None]] = {}  # and those to PUBLISH
        self._numbers = count(1)
        self._paused = False
        self._waiters: list[asyncio.Future[None]] | None = None
        self._topics: set[str] = set()
        self._will: bytes | None = None  # the fields of WILL
        self._is_open = False  # from `open()` to `close()`
        self._is_logged = False  # that the supervisor speaks another version
        self._reconnecting: asyncio.Task[None] | None = None
        self.reconnects = 0

    @property
    def connected(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def open(self, receiver: Receiver) -> None:
        """See `Backplane.open()`. Raises TopicsError if the supervisor can't be reached, or speaks another version of
        the protocol, which is logged once."""
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        try:
            await self._connect()
        except OSError as error:
            raise TopicsError(f"the supervisor's topics can't be reached at {self._path}: {error}") from None
        self._is_open = True

    async def _connect(self) -> None:
        """Connect, and hear which version the broker speaks."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, self._path)
        theirs = (await self._hello)[0]
        if theirs != VERSION:
            raise self._refused(theirs)
        if self._transport is None:
            raise TopicsError(_LOST)
        self._leave_will()

    def _refused(self, theirs: bytes) -> TopicsError:
        """Leave a broker of another version alone; return what to raise."""
        if self._transport is not None:
            self._transport.close()
        text = (
            f"this worker speaks version {VERSION.decode()} of the protocol of topics, the supervisor version"
            f" {theirs.decode()}, as another flowserve was installed since it started: restart the supervisor"
        )
        if not self._is_logged:
            logger.error("Topics can't be used: %s", text)
        self._is_logged = True
        return TopicsError(text)

    async def close(self) -> None:
        """Close the connection, after the answers that are due have come, as long as that takes no longer than
        _GRACE."""
        self._is_open = False
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.wait({self._reconnecting})
        deadline = asyncio.get_running_loop().time() + _GRACE
        while (due := self._due()) and self.connected:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await asyncio.wait(due, timeout=left)
            await asyncio.sleep(0)  # those who waited to write have written, those who were answered have gone
        if self._transport is not None:
            self._write()
            self._transport.close()

    def _due(self) -> list[asyncio.Future[Any]]:
        """Return what somebody waits for."""
        due: list[asyncio.Future[Any]] = [*self._answers.values(), *self._places.values(), *(self._waiters or ())]
        return [each for each in due if not each.done()]

    async def _reconnect(self) -> None:
        """Connect again, subscribe to all topics, and have what was missed read from the history."""
        while True:
            await asyncio.sleep(_RECONNECT_INTERVAL)
            with suppress(OSError, TopicsError):
                await self._connect()
                topics = list(self._topics)
                heads = places_of(await self._ask(FrameType.SUBSCRIBE, [topic.encode() for topic in topics]))
                self.reconnects += 1
                self._receiver.restored(dict(zip(topics, heads, strict=True)))
                return

    def publish(
        self, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> Awaitable[Place | None]:
        """See `Backplane.publish()`. Raises TopicsError if the connection was lost before the answer came."""
        body = publish_body(topic, data, kind, key, origin, retention)
        return self._publish_later(body) if self._paused else self._publish(body)

    def _publish(self, body: bytes) -> asyncio.Future[Place | None]:
        place: asyncio.Future[Place | None] = self._loop.create_future()
        if self.connected:
            number = next(self._numbers) & 0xFFFFFFFF
            self._places[number] = place
            self._send(frame_of(FrameType.PUBLISH, number, body))
        else:
            place.set_result(None)
        return place

    async def _publish_later(self, body: bytes) -> Place | None:
        await self._writable()
        return await self._publish(body)

    def publish_at_end(self, topic: str, data: bytes, retention: Retention) -> None:
        """Have the broker publish a message when this process has ended, in whatever way."""
        self._will = publish_body(topic, data, Kind.BINARY, None, "", retention)
        self._leave_will()

    def _leave_will(self) -> None:
        if self._will is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame_of(FrameType.WILL, 0, self._will))

    async def subscribe(self, topics: Sequence[str]) -> list[Place]:
        self._topics.update(topics)
        try:
            return places_of(await self._ask(FrameType.SUBSCRIBE, [topic.encode() for topic in topics]))
        except BaseException:
            self.unsubscribe(topics)
            raise

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self._topics.difference_update(topics)
        if self._transport is not None and not self._transport.is_closing():
            self._send(encode(FrameType.UNSUBSCRIBE, 0, [topic.encode() for topic in topics]))

    async def read(self, topic: str, after: Place) -> Reading:
        return reading_of(await self._ask(FrameType.READ, [topic.encode(), *place_fields(after)]))

    async def _ask(self, type: FrameType, fields: list[bytes]) -> list[bytes]:
        """Return the fields of the answer. Raises TopicsError without a connection, or if it is lost before the answer
        comes."""
        await self._writable()
        if not self.connected:
            raise TopicsError("the supervisor is gone")
        number = next(self._numbers) & 0xFFFFFFFF
        answer: asyncio.Future[list[bytes]] = self._loop.create_future()
        self._answers[number] = answer
        self._send(encode(type, number, fields))
        return await answer

    async def _writable(self) -> None:
        while self._paused:
            waiter = self._loop.create_future()
            self._waiters = add_waiter(self._waiters, waiter)
            await waiter

    def _send(self, frame: bytes) -> None:
        """Have a frame written at the end of this event loop iteration, with all others."""
        if not self._outgoing:
            self._loop.call_soon(self._write)
        self._outgoing.append(frame)

    def _write(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(outgoing))

    # As the transport's asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._reader = FrameReader()
        self._hello = self._loop.create_future()
        self._transport.write(encode(FrameType.HELLO, _HELLO, [VERSION]))

    def data_received(self, data: bytes) -> None:
        for frame in self._reader.feed(data):
            self._handle(frame)

    def _handle(self, frame: Frame) -> None:
        fields = frame.fields
        if frame.type == FrameType.PUBLISHED:
            place = self._places.pop(frame.number, None)
            if place is not None and not place.done():
                place.set_result(place_in(fields))
        elif frame.type == FrameType.MESSAGE:
            self._receiver.received(message_of(fields))
        elif frame.type == FrameType.RESTORED:
            names = [field.decode() for field in fields[::4]]
            places = [places_of(fields[at + 1 : at + 4])[0] for at in range(0, len(fields), 4)]
            self._receiver.restored(dict(zip(names, places, strict=True)))
        elif frame.type == FrameType.HELLO:
            _resolve(self._hello, fields)
        elif (answer := self._answers.pop(frame.number, None)) is not None:
            _resolve(answer, fields)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        waiters, self._waiters = self._waiters, None
        wake(waiters)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.resume_writing()
        if self._is_open and (self._reconnecting is None or self._reconnecting.done()):
            logger.debug("The connection to the supervisor's topics is lost: %s", exc)
            self._reconnecting = asyncio.get_running_loop().create_task(self._reconnect())
        answers, self._answers = [self._hello, *self._answers.values()], {}
        places, self._places = self._places, {}
        for answer in answers:
            if not answer.done():
                answer.set_exception(TopicsError(_LOST))
        for place in places.values():
            if not place.done():
                place.set_exception(unknown_whether_published("the supervisor"))


def _resolve(answer: asyncio.Future[list[bytes]], fields: list[bytes]) -> None:
    if not answer.done():
        answer.set_result(fields)
