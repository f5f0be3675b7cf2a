"""The clients of the load generator that a message is sent to by many, and those who have the server do something."""

from __future__ import annotations

import asyncio
import itertools
import time
import zlib
from collections.abc import Callable

from compliance.performance.clients import COMPRESSED, Client, Run
from compliance.performance.messages import RSV1, TAIL, deflated, frame, text, updates


class Room:
    """What its members share: the turn that they are in. In each, some messages go to all of them."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.members = 0
        self.missing = 0  # messages of this turn that are on their way to members
        self.started = 0.0
        self.said = b""  # the text of each message
        self.frames = b""  # all of them as a member gets them, if that is known before
        self.payload = b""  # the compressed message that the first member has got
        self.say: Callable[[bytes], None]
        self.inflater = zlib.decompressobj(-15)  # of use with takeover and without
        one, times = text(run.case.size), run.case.in_flight
        if run.case.compressed:
            frames = [(each, frame(RSV1 | 1, deflated(each), True), b"") for each in updates(run.case.size)]
        else:
            frames = [(one, frame(1, one, True) * times, frame(1, one, False) * times)]
        self.turns = itertools.cycle(frames)

    def speak(self) -> None:
        """Begin the next turn."""
        self.said, outgoing, self.frames = next(self.turns)
        self.payload = b""
        self.started = time.perf_counter()
        self.missing = self.members * self.run.case.in_flight
        self.say(outgoing)

    def inflates(self, payload: bytes) -> bool:
        """Whether a compressed message is that of this turn. All members have got the same before, and so get the
        same bytes."""
        if self.payload:
            return payload == self.payload
        self.payload = payload
        return self.inflater.decompress(payload + TAIL) == self.said

    def heard(self, messages: int) -> None:
        """A member has got messages; the last one of a turn has the next turn begin."""
        self.run.took(self.started, messages)
        self.missing -= messages
        if not self.missing:
            self.speak()


class Member(Client):
    """One of the many that a message goes to."""

    __slots__ = ("room",)

    def __init__(self, room: Room, path: bytes = b"/member") -> None:
        super().__init__(room.run, path)
        self.room = room

    def received(self, data: bytes) -> None:
        room = self.room
        if data == room.frames and not self.buffer:
            room.heard(self.run.case.in_flight)
            return
        for first, payload, size in self.frames(data):
            if not (room.inflates(payload) if first == COMPRESSED else first == 0x81 and payload == room.said):
                self.run.fail(f"not the message that was sent: {first:#x}, {payload[:80]!r}")
                return
            self.run.bytes_in += size
            room.heard(1)


class Subscriber(Member):
    """A member that is settled when the server says that it is subscribed to all topics."""

    __slots__ = ()

    def __init__(self, room: Room) -> None:
        super().__init__(room, b"/subscriber")
        self.settled = self.run.loop.create_future()

    def opened(self) -> None:
        self.transport.write(frame(1, b"%d" % self.run.case.topics, True))

    def received(self, data: bytes) -> None:
        if self.settled.done():
            super().received(data)
        elif any(True for _ in self.frames(data)):
            self.settled.set_result(None)


class Asker(Client):
    """Sends a text, and gets it back when the server has done what it says."""

    __slots__ = ("answer", "asked")

    def ask(self, what: bytes) -> asyncio.Future[None]:
        self.asked = what
        self.answer = self.run.loop.create_future()
        self.transport.write(frame(1, what, True))
        return self.answer

    def received(self, data: bytes) -> None:
        for first, payload, _ in self.frames(data):
            if first != 0x81 or payload != self.asked:
                self.run.fail(f"not the answer to {self.asked!r}: {first:#x}, {payload[:80]!r}")
            else:
                self.answer.set_result(None)
