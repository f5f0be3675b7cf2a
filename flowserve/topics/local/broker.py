"""The broker in a supervisor, through which its workers publish to each other.

Theory of operation. The broker has the logs of all topics, which so survive a worker's death, and a connection to each
worker. What a worker has left as its will is published when its connection ends, as it does at once if it is killed. A
message is passed on to the workers that have subscribed to its topic. A worker that does not read is waited
for at first: nothing more is read from any of them, so that those who publish have to wait too. After `_STALL_TIMEOUT`
seconds it is left out; once it reads again, it is told the heads of its topics, and reads what it has missed. One that
speaks another version of the protocol is told so, and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from typing import cast

from flowserve.topics.local.store import Store, Sweep
from flowserve.topics.local.wire import (
    VERSION,
    Frame,
    FrameReader,
    FrameType,
    encode,
    message_fields,
    place_fields,
    places_of,
    publish_of,
    reading_fields,
)
from flowserve.topics.position import Place
from flowserve.topics.settings import Settings

_STALL_TIMEOUT = 1.0
_HIGH_WATER = 4 << 20
"""Bytes that may wait for a worker."""


class Broker:
    """Accepts the connections of workers at the UNIX domain socket `path`, in a folder of this user's alone."""

    def __init__(self, settings: Settings) -> None:
        self._store = Store(settings)
        self._sweep = Sweep(self._store)
        self.path = ""  # from `open()` on
        self._server: asyncio.Server
        self._workers: set[_Worker] = set()
        self._subscribers: dict[str, set[_Worker]] = {}

    async def open(self) -> None:
        """Listen. Raises OSError where no folder or socket can be made."""
        folder = tempfile.mkdtemp(prefix="flowserve-")
        path = os.path.join(folder, "topics.sock")
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Worker(self), path)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.path = path

    def close(self) -> None:
        """Close the socket, and remove it."""
        self._server.close()
        self._sweep.close()
        for worker in list(self._workers):
            worker.will = None
            worker.close()
        shutil.rmtree(os.path.dirname(self.path), ignore_errors=True)

    # Called by the workers' connections

    def begun(self, worker: _Worker) -> None:
        self._workers.add(worker)

    def ended(self, worker: _Worker) -> None:
        self._workers.discard(worker)
        self.unsubscribe(worker, list(worker.topics))
        if worker.will is not None:
            self._publish(worker.will)
        self.flow()

    def flow(self) -> None:
        """Read from the workers only while none has to be waited for."""
        reading = not any(worker.is_waited_for for worker in self._workers)
        for worker in self._workers:
            worker.read(reading)

    def handle(self, worker: _Worker, frame: Frame) -> None:
        """Do what a frame asks for, and answer."""
        fields, number = frame.fields, frame.number
        match frame.type:
            case FrameType.PUBLISH:
                place = self._publish(fields)
                # last: when publish() returns, the publisher's own worker has the message
                worker.write(encode(FrameType.PUBLISHED, number, place_fields(place)))
            case FrameType.SUBSCRIBE:
                worker.write(encode(FrameType.SUBSCRIBED, number, self._subscribe(worker, fields)))
            case FrameType.UNSUBSCRIBE:
                self.unsubscribe(worker, [field.decode() for field in fields])
            case FrameType.READ:
                reading = self._store.read(fields[0].decode(), places_of(fields[1:])[0])
                worker.write(encode(FrameType.READING, number, reading_fields(reading)))
            case FrameType.WILL:
                worker.will = fields

    def _publish(self, fields: list[bytes]) -> Place:
        place, message = self._store.publish(*publish_of(fields))
        self._sweep.begin()
        if message is not None:
            subscribers = self._subscribers.get(message.topic)
            if subscribers:
                data = encode(FrameType.MESSAGE, 0, message_fields(message))
                for each in subscribers:
                    each.pass_on(data)
        return place

    def _subscribe(self, worker: _Worker, names: list[bytes]) -> list[bytes]:
        heads = []
        for name in names:
            topic = name.decode()
            worker.topics.add(topic)
            self._subscribers.setdefault(topic, set()).add(worker)
            heads += place_fields(self._store.head(topic))
        return heads

    def unsubscribe(self, worker: _Worker, topics: list[str]) -> None:
        for topic in topics:
            worker.topics.discard(topic)
            subscribers = self._subscribers.get(topic)
            if subscribers is not None:
                subscribers.discard(worker)
                if not subscribers:
                    del self._subscribers[topic]

    def heads(self, topics: set[str]) -> list[bytes]:
        """Return the fields of RESTORED."""
        fields = []
        for topic in topics:
            fields += [topic.encode(), *place_fields(self._store.head(topic))]
        return fields


class _Worker(asyncio.Protocol):
    """The connection of one worker."""

    def __init__(self, broker: Broker) -> None:
        self.topics: set[str] = set()
        self.will: list[bytes] | None = None
        """The fields of what is to be published when the connection ends."""
        self.is_waited_for = False
        self._broker = broker
        self._transport: asyncio.Transport
        self._reader = FrameReader()
        self._reading = True
        self._stall_timer: asyncio.TimerHandle | None = None
        self._left_out = False
        self._is_known = False  # it speaks the same version

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def pass_on(self, data: bytes) -> None:
        """Write a message, unless the worker is left out."""
        if not self._left_out:
            self.write(data)

    def read(self, wanted: bool) -> None:
        if wanted != self._reading and not self._transport.is_closing():
            self._reading = wanted
            self._transport.resume_reading() if wanted else self._transport.pause_reading()

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(_HIGH_WATER)
        self._broker.begun(self)

    def data_received(self, data: bytes) -> None:
        for frame in self._reader.feed(data):
            if self._is_known:
                self._broker.handle(self, frame)
            else:
                self._greet(frame)

    def _greet(self, frame: Frame) -> None:
        """Take the first frame."""
        self._is_known = frame.type == FrameType.HELLO and frame.fields[:1] == [VERSION]
        self.write(encode(FrameType.HELLO, frame.number, [VERSION]))
        if not self._is_known:
            self.close()

    def pause_writing(self) -> None:
        self.is_waited_for = True
        self._stall_timer = asyncio.get_running_loop().call_later(_STALL_TIMEOUT, self._leave_out)
        self._broker.flow()

    def _leave_out(self) -> None:
        self._left_out = True
        self.is_waited_for = False
        self._broker.flow()

    def resume_writing(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        if self._left_out:
            self._left_out = False
            self.write(encode(FrameType.RESTORED, 0, self._broker.heads(self.topics)))
        self.is_waited_for = False
        self._broker.flow()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_waited_for = False
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self._broker.ended(self)
