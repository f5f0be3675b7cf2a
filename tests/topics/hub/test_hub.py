"""The promise, held against a backplane that loses, repeats and delays: each message once and in order, or a gap."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.away_backplane import NOWHERE, AwayBackplane, nothing_after_nowhere, told
from support.helpers import until, within

from flowserve.errors import ClientDisconnected, TopicsError
from flowserve.topics.api.stream import OLDEST, START
from flowserve.topics.backplane import Reading, Receiver
from flowserve.topics.counts import Counts, TopicCounts
from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.hub.hub import Hub
from flowserve.topics.local.memory import MemoryBackplane
from flowserve.topics.local.store import Store
from flowserve.topics.message import Gap, Kind, Message
from flowserve.topics.position import Place, parse
from flowserve.topics.settings import Retention, Settings


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowserve.topics.delivery.topic._RETRY_INTERVAL", 0.0)


class BadBackplane:
    """Passes messages on late, not at all, or twice, answers late, and can't be reached while it is `away`."""

    connected = None

    def __init__(self, store: Store, seed: int, peers: list[BadBackplane]) -> None:
        """`peers` are all who share the store; this one is added."""
        self._store = store
        self._peers = peers
        peers.append(self)
        self._random = random.Random(seed)
        self._topics: set[str] = set()
        self._receiver: Receiver
        self._waiting: list[Message] = []
        self.away = False

    async def open(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def close(self) -> None:
        pass

    async def _pause(self) -> None:
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)

    async def publish(
        self, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> Place | None:
        await self._pause()
        if self.away or self._random.random() < 0.1:
            return None
        place, message = self._store.publish(topic, data, kind, key, origin, retention)
        for peer in self._peers:
            if message is not None and not peer.away:
                peer._waiting.append(message)
            if self._random.random() < 0.7:
                peer.deliver()
        await self._pause()
        return place

    def deliver(self) -> None:
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            for _ in range(self._random.choice((0, 1, 1, 1, 1, 2))):
                if message.topic in self._topics:
                    self._receiver.received(message)

    def leave(self) -> None:
        """Be away until `restore()`; what was to be passed on is lost."""
        self.away = True
        self._waiting = []

    def restore(self) -> None:
        """What does a connection that was lost and is restored."""
        self.away = False
        self._receiver.restored({topic: self._store.head(topic) for topic in self._topics})

    async def subscribe(self, topics: Sequence[str]) -> list[Place]:
        await self._pause()
        self._topics.update(topics)
        heads = [self._store.head(topic) for topic in topics]
        await self._pause()
        return heads if not self.away else [NOWHERE for _ in topics]

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self._topics.difference_update(topics)

    async def read(self, topic: str, after: Place) -> Reading:
        await self._pause()
        if self.away or self._random.random() < 0.05:
            raise TopicsError("lost")
        reading = self._store.read(topic, after)
        await self._pause()
        return nothing_after_nowhere(reading, after)


class Counting(QueueSubscriber):
    """Counts the gaps that it is told of."""

    gaps = 0

    def tell_gap(self, topic: str, head: Place | None, counts: TopicCounts) -> bool:
        self.gaps += 1
        return super().tell_gap(topic, head, counts)


class Reader:
    """A subscriber, and what it got: the numbers of messages, None for a gap."""

    def __init__(self, hub: Hub, max_pending: int) -> None:
        self.hub = hub
        self.queue = Counting(max_pending)
        self.got: list[int | None] = []
        self.local: list[int] = []

    def has(self, last: int) -> bool:
        """Whether it got everything: nothing is on its way, and the last message came, or a gap instead of it."""
        waits = bool(self.queue._items) or any(member.backlog for member in self.queue.members)
        return bool(self.queue.members) and not waits and (not self.got or self.got[-1] in (last, None))

    async def run(self, pauses: random.Random) -> None:
        while (item := await self.queue.get()) is not None:
            if isinstance(item, Gap):
                self.got.append(None)
            elif item.place is None:
                self.local.append(int(item.data))
            else:
                self.got.append(item.place.offset)
            for _ in range(pauses.choice((0, 1, 2, 100))):
                await asyncio.sleep(0)


def holds(got: list[int | None]) -> bool:
    """Whether numbers follow each other without a hole where there is no gap, and never go back."""
    last: int | None = None
    gap = False
    for number in got:
        if number is None:
            gap = True
            continue
        if last is not None and number <= last:
            return False
        if last is not None and number != last + 1 and not gap:
            return False
        last, gap = number, False
    return True


@given(st.integers(0, 2**32), st.sampled_from([0, 5, 1000]), st.sampled_from([1, 20, 600, 10_000]))
def test_each_message_once_and_in_order_or_a_gap(seed: int, history: int, max_pending: int) -> None:
    asyncio.run(asyncio.wait_for(storm(seed, history, max_pending), 20))


async def storm(seed: int, history: int, max_pending: int) -> None:
    """Two workers, each with its connection to one store; on the second one all resume."""
    settings, dice = Settings(history=history, max_pending=max_pending), random.Random(seed + 1)
    store, backplanes = Store(settings), []
    hubs = [Hub(BadBackplane(store, seed + n, backplanes), settings) for n in range(2)]
    readers = [Reader(hub, dice.choice((1, max_pending))) for hub in hubs for _ in range(2)]
    tasks = [asyncio.ensure_future(reader.run(random.Random(seed + n))) for n, reader in enumerate(readers)]
    await asyncio.gather(*(reader.hub.subscribe(reader.queue, ["t"], {}) for reader in readers[:2]))
    await hubs[1].open()
    since = ""
    local: dict[Hub, list[int]] = {hub: [] for hub in hubs}
    for number in range(60):
        hub = dice.choice(hubs)
        position = await hub.publish("t", b"%d" % number, Kind.TEXT)
        if not position:
            local[hub].append(number)
        elif number <= 20:
            since = position
        if number == 30:  # these resume while others publish
            tasks += [asyncio.ensure_future(resume(each, since)) for each in readers[2:]]
        for backplane in backplanes:
            if (chance := dice.random()) < 0.15:
                backplane.restore() if chance < 0.1 else backplane.leave()
    last = store.head("t").offset
    while not all(each.has(last) for each in readers):
        for backplane in backplanes:
            backplane.deliver()
            backplane.restore()  # as often as its reads fail
        await asyncio.sleep(0.001)
    for number, reader in enumerate(readers):
        assert holds(reader.got), reader.got
        assert reader.local == sorted(set(reader.local))
        there = local[reader.hub][0 if number < 2 else len(local[reader.hub]) - len(reader.local) :]
        assert reader.queue.gaps or reader.local == there
    for reader in readers:
        reader.queue.close()
        reader.hub.ended(reader.queue)
    await asyncio.gather(*tasks, *(hub.close() for hub in hubs))


async def resume(reader: Reader, since: str) -> None:
    with suppress(ClientDisconnected):  # the test is over
        _, recovered = await reader.hub.subscribe(reader.queue, ["t"], {"t": since} if since else {})
        assert not since or recovered["t"] == (not reader.queue.gaps)


@pytest.fixture
def hub() -> Hub:
    settings = Settings(max_per_connection=2, max_size=10, max_name=5)
    return Hub(MemoryBackplane(settings), settings)


async def test_limits(hub: Hub) -> None:
    queue = QueueSubscriber(100)
    with pytest.raises(TopicsError, match="1 to 5 characters, not 6"):
        await hub.publish("abcdef", b"", Kind.TEXT)
    with pytest.raises(TopicsError, match="the message has 11 bytes; at most 10 can be published"):
        await hub.publish("a", b"x" * 11, Kind.TEXT)
    await hub.subscribe(queue, ["a", "b"], {})
    with pytest.raises(TopicsError, match="at most"):
        await hub.subscribe(queue, ["c"], {})


async def test_a_new_subscriber_gets_what_is_kept() -> None:
    settings = Settings(history=3)
    hub = Hub(MemoryBackplane(settings), settings)
    for number in range(5):
        await hub.publish("t", b"%d" % number, Kind.TEXT)
    assert await joined(hub, OLDEST) == (True, [b"2", b"3", b"4", b"new"])
    assert await joined(hub, START) == (False, [None, b"new"])  # as some are missing


async def joined(hub: Hub, since: str) -> tuple[bool, list[bytes | None]]:
    """Subscribe, and publish a message. Return whether all was recovered, and what came, None for a gap."""
    queue = QueueSubscriber(10_000)
    _, recovered = await hub.subscribe(queue, ["t"], {"t": since})
    await hub.publish("t", b"new", Kind.TEXT)
    queue.close()
    items: list[bytes | None] = []
    while (item := await queue.get()) is not None:
        items.append(item.data if isinstance(item, Message) else None)
    hub.ended(queue)
    return recovered["t"], items


async def test_who_resumes_while_the_backplane_is_away_gets_all_and_no_gap() -> None:
    """Though the topic itself, which began without the backplane, has one."""
    backplane, queue = AwayBackplane(Settings()), QueueSubscriber(10_000)
    hub = Hub(backplane, Settings())
    since = await hub.publish("t", b"1", Kind.TEXT)
    await hub.publish("t", b"2", Kind.TEXT)
    backplane.away = True
    joining = asyncio.ensure_future(hub.subscribe(queue, ["t"], {"t": since}))
    await until(lambda: bool(queue.members))
    assert await hub.publish("t", b"of this machine", Kind.TEXT) == ""
    backplane.return_()
    assert (await within(joining))[1] == {"t": True}
    await hub.publish("t", b"3", Kind.TEXT)
    assert await told(queue, 4) == ["2", "of this machine", None, "3"]  # others may have published alone, too


async def test_who_is_slow_gets_what_reached_only_this_machine_behind_the_history() -> None:
    backplane, queue = AwayBackplane(Settings()), QueueSubscriber(1)
    hub = Hub(backplane, Settings(max_pending=900))
    await hub.subscribe(queue, ["t"], {})
    for number in range(5):  # one is taken, and the others are too many
        await hub.publish("t", b"%d" % number, Kind.TEXT)
    backplane.away = True
    await hub.publish("t", b"of this machine", Kind.TEXT)
    backplane.away = False
    await hub.publish("t", b"5", Kind.TEXT)
    assert await told(queue, 8) == ["0", "1", "2", "3", "4", None, "5", "of this machine"]


async def test_a_gap_that_is_told_before_the_subscription_returns() -> None:
    backplane, queue = AwayBackplane(Settings()), QueueSubscriber(1)
    hub = Hub(backplane, Settings())
    since = await hub.publish("t", b"1", Kind.TEXT)
    await hub.publish("t", b"2", Kind.TEXT)
    await hub.publish("t", b"3", Kind.TEXT)
    joining = asyncio.ensure_future(hub.subscribe(queue, ["t"], {"t": since}))
    await until(lambda: bool(queue._items))
    backplane.lose_all()
    await until(lambda: not hub._topics["t"].is_behind)
    assert await told(queue, 3) == ["2", "3", None]
    assert (await within(joining))[1] == {"t": False}


class EagerBackplane(MemoryBackplane):
    """Passes a message on before it has confirmed the subscription."""

    async def subscribe(self, topics: Sequence[str]) -> list[Place]:
        heads = await super().subscribe(topics)
        await self.publish(topics[0], b"eager", Kind.TEXT, None, "", Settings().retention)
        return heads


async def test_messages_that_come_before_the_subscription_is_confirmed_are_delivered() -> None:
    assert await joined(Hub(EagerBackplane(Settings()), Settings()), START) == (True, [b"eager", b"new"])


async def test_those_who_resume_at_once_from_the_same_place_by_another_name() -> None:
    hub = Hub(MemoryBackplane(Settings()), Settings())
    head = (await hub.subscribe(QueueSubscriber(10_000), ["t"], {}))[0]["t"]
    await hub.publish("t", b"1", Kind.TEXT)
    for sinces in ((START, head), (head, START), ("", START), ("", head), (OLDEST, "", head)):
        found = await asyncio.gather(*(hub.subscribe(QueueSubscriber(10_000), ["t"], {"t": since}) for since in sinces))
        assert [recovered["t"] for _, recovered in found] == [since != "" for since in sinces]


async def test_a_subscription_is_made_once(hub: Hub) -> None:
    queue = QueueSubscriber(100)
    await asyncio.gather(*(hub.subscribe(queue, ["a", "a"], {}) for _ in range(3)))
    await hub.publish("a", b"x", Kind.TEXT)
    queue.close()
    assert isinstance(await queue.get(), Message)
    assert await queue.get() is None


@pytest.mark.parametrize("ended", ["a", "b", "c"])
async def test_one_of_several_subscriptions_ends(ended: str) -> None:
    hub, queue = Hub(MemoryBackplane(Settings()), Settings()), QueueSubscriber(10_000)
    await hub.subscribe(queue, ["a", "b", "c"], {})
    hub.unsubscribe(queue, [ended])
    hub.unsubscribe(queue, [ended])
    left = {"a", "b", "c"} - {ended}
    assert {member.topic for member in queue.members} == left
    for topic in ("a", "b", "c"):
        await hub.publish(topic, b"x", Kind.TEXT)
    queue.close()
    got = []
    while isinstance(item := await queue.get(), Message):
        got.append(item.topic)
    assert got == sorted(left)
    hub.ended(queue)
    assert queue.members == []
    assert not hub._topics


async def test_a_cancelled_subscription_leaves_nothing_behind(hub: Hub) -> None:
    queue = QueueSubscriber(100)
    joining = asyncio.ensure_future(hub.subscribe(queue, ["a"], {}))
    await asyncio.sleep(0)
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    assert queue.members == []
    await hub.subscribe(queue, ["a"], {})


async def test_a_closed_subscriber_is_refused(hub: Hub) -> None:
    queue = QueueSubscriber(100)
    queue.close()
    with pytest.raises(ClientDisconnected):
        await hub.subscribe(queue, ["a"], {})
    assert queue.members == []


class EarlyBackplane(MemoryBackplane):
    """Passes on a message before the hub has seen that its subscription is confirmed."""

    async def subscribe(self, topics: Sequence[str]) -> list[Place]:
        heads = await super().subscribe(topics)
        for topic in topics:
            await self.publish(topic, b"early", Kind.TEXT, None, "", Retention(10, 100, 10.0))
        return heads


async def test_a_message_that_comes_before_the_subscription_is_confirmed() -> None:
    settings, queue = Settings(), QueueSubscriber(100)
    hub = Hub(EarlyBackplane(settings), settings)
    positions, _ = await hub.subscribe(queue, ["a"], {})
    await hub.publish("a", b"late", Kind.TEXT)
    message = await queue.get()
    assert isinstance(message, Message)
    assert message.text == "late"
    assert (place := parse(positions["a"])) is not None
    assert place.offset == 1  # that of the early one


class RestoredBackplane(MemoryBackplane):
    """Says that messages were missed before the hub has seen that its subscription is confirmed."""

    async def subscribe(self, topics: Sequence[str]) -> list[Place]:
        heads = [self._store.head(topic) for topic in topics]
        place, _ = self._store.publish(topics[0], b"missed", Kind.TEXT, None, "", Retention(10, 100, 10.0))
        self._receiver.restored({topics[0]: place})
        return heads


async def test_what_was_missed_before_the_subscription_is_confirmed() -> None:
    settings, queue = Settings(), QueueSubscriber(100)
    hub = Hub(RestoredBackplane(settings), settings)
    await hub.subscribe(queue, ["a"], {})
    message = await queue.get(5)
    assert isinstance(message, Message)
    assert message.text == "missed"


class HeldBackplane(MemoryBackplane):
    """Holds back what is asked of the topics that are `held`."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self.held: set[str] = set()

    async def _free(self, *topics: str) -> None:
        await until(lambda: self.held.isdisjoint(topics))

    async def publish(
        self, topic: str, data: bytes, kind: Kind, key: str | None, origin: str, retention: Retention
    ) -> Place | None:
        await self._free(topic)
        return await super().publish(topic, data, kind, key, origin, retention)

    async def subscribe(self, topics: Sequence[str]) -> list[Place]:
        await self._free(*topics)
        return await super().subscribe(topics)

    async def read(self, topic: str, after: Place) -> Reading:
        await self._free(topic)
        return await super().read(topic, after)


@pytest.mark.parametrize("alone", [False, True])
async def test_what_comes_while_a_topic_is_repaired_waits_in_bounds(alone: bool) -> None:
    """What is beyond them comes from the history, or is a gap if that can't have it as it reached this process only."""
    backplane, queue = HeldBackplane(), QueueSubscriber(1 << 20)
    hub = Hub(backplane, Settings(max_pending=10_000), counts := Counts())
    await hub.subscribe(queue, ["t"], {})

    def append(text: str) -> Message:
        message = backplane._store.publish("t", text.encode(), Kind.TEXT, None, "", Settings().retention)[1]
        assert message is not None
        return message

    append("0")  # it is missed, which the next one shows
    hub.received(append("1"))
    backplane.held.add("t")
    for number in range(2, 100):
        if alone:
            hub.publish_alone("t", b"%d" % number, Kind.TEXT)
        else:
            hub.received(append(str(number)))
        assert sum(each.cost for each in hub._topics["t"]._waiting or ()) <= 10_000
    backplane.held.clear()
    found = await told(queue, 1)
    while found[-1] != "99":
        found += await told(queue, 1)
    if alone:
        assert found[:3] == ["0", "1", None]
        assert counts.of("t").dropped == 98 - len(found[3:])
    else:
        assert found == [str(number) for number in range(100)]
    await hub.close()


async def turns() -> None:
    """Let tasks go on as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_nothing_comes_behind_unsubscribe() -> None:
    """Though its history was being read."""
    backplane, queue = HeldBackplane(), QueueSubscriber(1)
    hub = Hub(backplane, Settings(max_pending=1))
    await hub.subscribe(queue, ["t"], {})
    for number in range(3):
        await hub.publish("t", b"%d" % number, Kind.TEXT)
    backplane.held = {"t"}
    assert await told(queue, 1) == ["0"]
    await turns()
    hub.unsubscribe(queue, ["t"])
    backplane.held = set()
    await turns()
    assert not queue._items
    await until(lambda: not hub._tasks)


async def test_a_cancelled_subscription_leaves_that_of_another_call() -> None:
    backplane, queue = HeldBackplane(), QueueSubscriber(100)
    hub = Hub(backplane, Settings())
    backplane.held = {"a", "b"}
    first = asyncio.ensure_future(hub.subscribe(queue, ["a"], {}))
    await turns()
    second = asyncio.ensure_future(hub.subscribe(queue, ["a", "b"], {}))
    await turns()
    backplane.held = {"b"}
    await within(first)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert [member.topic for member in queue.members] == ["a"]


async def test_a_topic_that_begins_again_while_its_subscription_returns() -> None:
    backplane, queue = HeldBackplane(), QueueSubscriber(100)
    hub = Hub(backplane, Settings())
    since = await hub.publish("t", b"1", Kind.TEXT)
    await hub.publish("t", b"2", Kind.TEXT)
    await hub.subscribe(queue, ["u"], {})
    backplane.held = {"t"}
    resuming = asyncio.ensure_future(hub.subscribe(queue, ["t"], {"t": since}))
    backplane.held = set()
    await until(lambda: queue.member("t") is not None)
    hub.unsubscribe(queue, ["t"])
    backplane.held = {"t"}
    again = asyncio.ensure_future(hub.subscribe(queue, ["t"], {}))
    await turns()
    backplane.held = set()
    assert set((await within(resuming))[0]) == set((await within(again))[0]) == {"t"}


async def test_the_limit_holds_for_calls_at_once() -> None:
    hub, queue = Hub(MemoryBackplane(Settings()), Settings(max_per_connection=10)), QueueSubscriber(100)
    calls = (hub.subscribe(queue, [str(number)], {}) for number in range(50))
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(each, TopicsError) for each in found) == 40
    assert len(queue.members) == 10


async def test_any_number_of_messages_that_exclude_their_sender_may_be_on_their_way() -> None:
    backplane, sender, other = HeldBackplane(), QueueSubscriber(10**7), QueueSubscriber(10**7)
    hub = Hub(backplane, Settings())
    await hub.subscribe(sender, ["t"], {})
    await hub.subscribe(other, ["t"], {})
    backplane.held = {"t"}
    publishing = [asyncio.ensure_future(hub.publish("t", b"x", Kind.TEXT, None, sender)) for _ in range(1500)]
    await turns()
    backplane.held = set()
    await asyncio.gather(*publishing)
    assert (len(sender._items), len(other._items)) == (0, 1500)
    assert not hub.excluded


async def test_a_repeated_key_with_an_excluded_sender_is_remembered_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is, where its message came before; where it may still come, a bounded number is."""
    monkeypatch.setattr("flowserve.topics.hub.hub._MAX_LATE", 5)

    class Late(MemoryBackplane):
        def __init__(self, settings: Settings, late: bool) -> None:
            super().__init__(settings)
            self.late = late

        async def publish(self, *arguments: Any) -> Place:
            place = await super().publish(*arguments)
            return place._replace(offset=place.offset + 100) if self.late else place

    for late, remembered in ((False, 0), (True, 5)):
        hub, sender = Hub(Late(Settings(), late), Settings()), QueueSubscriber(100)
        await hub.subscribe(sender, ["t"], {})
        for _ in range(20):
            await hub.publish("t", b"x", Kind.TEXT, "k", sender)
        assert len(hub.excluded) == remembered
        assert not sender._items


class Failing(QueueSubscriber):
    """Which has a fault of its own."""

    def deliver(self, message: Message, counts: TopicCounts) -> bool:
        if message.data == b"bad":
            raise ZeroDivisionError
        return super().deliver(message, counts)

    def tell_gap(self, topic: str, head: Place | None, counts: TopicCounts) -> bool:
        raise ZeroDivisionError


async def test_a_subscriber_that_fails_is_closed_and_harms_nobody(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    """With a message, live or of the history, and with a gap."""
    others = [QueueSubscriber(10_000) for _ in range(2)]
    failing = [Failing(10_000) for _ in range(3)]
    await hub.subscribe(others[0], ["t"], {})
    await hub.subscribe(failing[0], ["t"], {})
    await hub.subscribe(others[1], ["t"], {})
    for data in (b"one", b"bad"):
        await hub.publish("t", data, Kind.TEXT)
    await hub.subscribe(failing[1], ["t"], {"t": START})
    await hub.subscribe(failing[2], ["t"], {"t": "garbage"})
    await hub.publish("t", b"two", Kind.TEXT)
    for queue in others:
        assert [getattr(await queue.get(5), "data", None) for _ in range(3)] == [b"one", b"bad", b"two"]
    assert all(queue.closed for queue in failing)
    assert [record.getMessage() for record in caplog.records] == [
        "A subscriber of the topic 't' failed, and is closed"
    ] * 3
