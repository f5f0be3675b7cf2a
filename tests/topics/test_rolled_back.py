"""A log that was rolled back: Redis after a failover that lost the last messages."""

from __future__ import annotations

import asyncio

import pytest
from support.helpers import until, within

from flowserve.errors import TopicsError
from flowserve.topics.backplane import Reading
from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.delivery.reads import SharedReads
from flowserve.topics.hub.hub import Hub
from flowserve.topics.message import Gap, Kind, Message
from flowserve.topics.position import BEGINNING, Place
from flowserve.topics.settings import Settings


def message(offset: int, check: str = "") -> Message:
    return Message("t", b"%d" % offset, Kind.TEXT, Place("e", offset, check))


class Log:
    """A backplane whose log the test writes, and whose reads end when it says so."""

    connected = None

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)
        self.readable = asyncio.Event()
        self.reads: list[Place] = []

    async def open(self, receiver):
        self.receiver = receiver

    async def close(self):
        pass

    async def subscribe(self, topics):
        return [self.messages[-1].place]

    def unsubscribe(self, topics):
        pass

    async def read(self, topic, after):
        head = self.messages[-1].place
        self.reads.append(after)
        answer = self._answer(after, head)
        await self.readable.wait()
        return answer

    def _answer(self, after, head):
        known = any(each.place == after for each in self.messages)
        later = [each for each in self.messages if each.place.offset > after.offset]
        return Reading(known, later, head, after if known else head)


async def test_a_message_that_comes_before_its_topic_has_begun():
    class Early(Log):
        async def subscribe(self, topics):
            self.receiver.received(self.messages[-1])  # the head covers it
            head = self.messages[-1].place
            self.messages.append(message(3))
            self.receiver.received(self.messages[-1])
            return [head]

    log = Early(message(1), message(2))
    hub, queue = Hub(log, Settings()), QueueSubscriber(1 << 20)
    position, _ = await hub.subscribe(queue, ["t"], {})
    assert position == {"t": message(3).position}
    hub.received(message(4))
    assert (await within(queue.get())).place == message(4).place
    await hub.close()


@pytest.mark.parametrize("behind", [0, 1, 2])
async def test_a_rollback_during_a_repair_is_noticed(behind):
    log = Log(message(1), message(2))
    hub, queue = Hub(log, Settings()), QueueSubscriber(1 << 20)
    await hub.subscribe(queue, ["t"], {})
    log.messages.append(message(3))
    hub.restored({"t": log.messages[-1].place})
    await until(lambda: bool(log.reads))
    lost = message(4)
    hub.received(lost)
    # The answer is on its way. Meanwhile the log loses messages, and gets others, which come.
    log.messages = [message(1), *(message(2 + n, "new") for n in range(behind))]
    hub.restored({"t": log.messages[-1].place})
    new = message(2 + behind, "new")
    log.messages.append(new)
    hub.received(new)
    log.readable.set()
    await until(lambda: len(log.reads) == 2 and hub._topics["t"].place == new.place)
    hub.received(newer := message(3 + behind, "new"))
    got = [await within(queue.get())]
    while got[-1] is not newer:
        got.append(await within(queue.get()))
    assert got[0].place == message(3).place
    assert isinstance(got[1], Gap)
    assert got[2:-1] == ([new] if behind == 2 else [])  # others have an offset that a message before them had
    await hub.close()


async def test_a_shared_read_gives_nobody_what_came_before_its_place():
    log = [message(1), message(2), message(3, "new"), message(4, "new")]

    async def read(after):
        return Reading(True, log[after.offset :], log[-1].place, after)

    reads, epoch = SharedReads(read), log[0].place.epoch
    places = log[0].place, message(3, "old").place, message(9, "old").place
    first, second, third = await asyncio.gather(*(reads.read(place, epoch) for place in places))
    assert (first.complete, [each.place.offset for each in first.messages]) == (True, [2, 3, 4])
    assert (second.complete, [each.place.offset for each in second.messages], second.start) == (False, [4], None)
    assert (third.complete, third.messages, third.start) == (False, [], log[-1].place)


async def test_a_shared_read_is_not_spoilt_by_places_that_are_none():
    """Anybody can send such a position; Redis has nothing to say of what follows it."""
    log = [message(1), message(2), message(3)]
    asked = []

    async def read(after):
        asked.append(after)
        known = after == BEGINNING or after in [each.place for each in log]
        return Reading(known, log[after.offset :] if after.epoch else (), log[-1].place, after)

    reads = SharedReads(read)
    made_up = [Place("", 0, ""), Place("made up", 0, "x"), Place("made up", 2**53, "y")]
    wanted = [log[0].place, log[2].place, BEGINNING]
    found = await asyncio.gather(*(reads.read(place, log[0].place.epoch) for place in (*made_up, *wanted)))
    assert [each.complete for each in found] == [False] * 3 + [True] * 3
    assert [len(each.messages) for each in found[3:]] == [2, 0, 3]
    assert len(asked) == 2


async def test_a_message_in_the_place_of_another_one_is_noticed():
    """The log lost the last one, and got others, without a word of the backplane."""
    log = Log(message(1), message(2))
    log.readable.set()
    hub, queue = Hub(log, Settings()), QueueSubscriber(1 << 20)
    await hub.subscribe(queue, ["t"], {})
    log.messages[1:] = [message(2, "new"), message(3, "new")]
    hub.received(log.messages[1])
    hub.received(log.messages[2])
    got = [await within(queue.get()) for _ in range(2)]
    assert isinstance(got[0], Gap)
    assert got[1].place == message(3, "new").place
    await hub.close()


async def test_a_message_in_the_place_of_another_one_is_a_gap_where_nothing_can_be_read():
    class Unreadable(Log):
        async def read(self, topic, after):
            raise TopicsError("not now")

    log = Unreadable(message(1), message(2))
    hub, queue = Hub(log, Settings()), QueueSubscriber(1 << 20)
    await hub.subscribe(queue, ["t"], {})
    hub.received(message(2, "new"))
    await until(lambda: not hub._topics["t"].is_behind)
    hub.received(message(3, "new"))
    got = [await within(queue.get()) for _ in range(2)]
    assert isinstance(got[0], Gap)
    assert got[1].place == message(3, "new").place
    await hub.close()
