"""Gaps of what one process alone has got while its backplane was away: they are told once, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.away_backplane import AwayBackplane, told
from support.helpers import until, within

from flowserve.errors import TopicsError
from flowserve.topics.api.stream import OLDEST, START
from flowserve.topics.backplane import NotPublished
from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.hub.hub import Hub
from flowserve.topics.local.memory import MemoryBackplane
from flowserve.topics.message import Gap, Kind, Message
from flowserve.topics.position import BEGINNING
from flowserve.topics.settings import Retention, Settings

pytestmark = pytest.mark.both_loops


class Reaching(AwayBackplane):
    """Reaches other processes."""

    @property
    def connected(self) -> bool:  # type: ignore[override]
        return not self.away


@pytest.fixture
async def backplane() -> Reaching:
    return Reaching(Settings())


@pytest.fixture
async def hub(backplane: Reaching) -> AsyncIterator[Hub]:
    hub = Hub(backplane, Settings(max_topics=2))
    yield hub
    await hub.close()


async def publish(hub: Hub, text: str, topic: str = "t", key: str | None = None) -> str:
    return await hub.publish(topic, text.encode(), Kind.TEXT, key)


def kinds(backplane: Reaching, topic: str = "t") -> list[Kind]:
    return [each.kind for each in backplane._store.read(topic, BEGINNING).messages]


async def test_the_gap_is_told_by_itself(hub: Hub, backplane: Reaching) -> None:
    """With what is kept of the topic as the publisher has said, though nobody is subscribed here."""
    await hub.open()
    backplane.away = True
    await hub.publish("t", b"alone", Kind.TEXT, retention=Retention(1, 1000, 7.0))
    backplane.away = False
    await until(lambda: "t" not in hub.owed_gaps)
    assert kinds(backplane) == [Kind.GAP]
    assert backplane._store._logs["t"].retention == Retention(1, 1000, 7.0)


async def test_the_gap_is_before_what_is_published_next(hub: Hub, backplane: Reaching) -> None:
    queue = QueueSubscriber(10_000)
    await hub.subscribe(queue, ["t"], {})
    backplane.away = True
    assert await publish(hub, "1") == await publish(hub, "2") == ""
    backplane.away = False
    await asyncio.gather(*(publish(hub, text) for text in "345"))
    items = [await within(queue.get()) for _ in range(6)]
    assert [each.text if isinstance(each, Message) else None for each in items] == ["1", "2", None, "3", "4", "5"]
    assert isinstance(items[2], Gap)
    for since, recovered in ((START, False), (items[2].position, True)):
        found = await hub.subscribe(late := QueueSubscriber(10_000), ["t"], {"t": since})
        assert found[1] == {"t": recovered}
        assert await told(late, 3 if recovered else 4) == [*([] if recovered else [None]), "3", "4", "5"]


async def test_a_gap_of_which_it_is_unknown_whether_it_was_told(
    hub: Hub, backplane: Reaching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, as it has a key."""
    await hub.open()
    backplane.away = True
    await publish(hub, "alone")
    backplane.away = False
    original, tries = backplane.publish, []

    async def lost(*arguments: object) -> None:
        tries.append(await original(*arguments))  # type: ignore[arg-type]
        raise TopicsError("unknown")

    with monkeypatch.context() as patched:
        patched.setattr(backplane, "publish", lost)
        await until(lambda: len(tries) > 1)
        assert "t" in hub.owed_gaps
    await publish(hub, "next")
    assert kinds(backplane) == [Kind.GAP, Kind.TEXT]


async def test_what_is_delivered_alone_while_a_gap_is_being_told(
    hub: Hub, backplane: Reaching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backplane is lost again: that is another gap."""
    await hub.open()
    backplane.away = True
    await publish(hub, "alone")
    original = backplane.publish

    async def slow(*arguments: object) -> object:
        place = await original(*arguments)  # type: ignore[arg-type]
        hub.publish_alone("t", b"meanwhile", Kind.TEXT)
        return place

    with monkeypatch.context() as patched:
        patched.setattr(backplane, "publish", slow)
        backplane.away = False
        await hub.owed_gaps.tell("t")
    await publish(hub, "next")
    assert kinds(backplane) == [Kind.GAP, Kind.GAP, Kind.TEXT]


async def test_more_topics_than_are_remembered(hub: Hub, backplane: Reaching) -> None:
    """Rather than be silent, it is not delivered at all."""
    queue, owner = QueueSubscriber(10_000), QueueSubscriber(10_000)
    await hub.subscribe(queue, ["a", "c"], {})
    backplane.away = True
    assert [await publish(hub, "1", topic) for topic in "aba"] == ["", "", ""]
    with pytest.raises(NotPublished, match="it can be published again"):
        await hub.publish("c", b"2", Kind.TEXT, exclude=owner)
    assert await told(queue, 2) == ["1", "1"]
    assert not queue._items
    assert not hub.excluded
    backplane.away = False
    assert await publish(hub, "2", "c")


async def test_a_gap_that_is_owed_at_the_end(backplane: Reaching, caplog: pytest.LogCaptureFixture) -> None:
    """It is told if that is possible; else the log says so."""
    for away in (False, True):
        hub = Hub(backplane, Settings())
        await hub.open()
        backplane.away = True
        await publish(hub, "alone")
        backplane.away = away
        await hub.close()
        assert kinds(backplane) == [Kind.GAP]
        assert ("is missing there, and nobody is told" in caplog.text.replace("\n", " ")) == away


async def test_who_is_slow_and_drops_what_comes_is_told_of_the_gap(hub: Hub, backplane: Reaching) -> None:
    """By each policy; others have it in its place."""
    queues = [QueueSubscriber(1, drops=drops, conflates=conflates) for drops, conflates in ((1, 0), (0, 1), (0, 0))]
    for queue in queues:
        await hub.subscribe(queue, ["t"], {})
    await publish(hub, "0")
    await hub.publish("t", b"", Kind.GAP)
    assert [await told(queue, 2) for queue in queues] == [["0", None]] * 3
    await publish(hub, "1")
    assert [await told(queue, 1) for queue in queues] == [["1"]] * 3


async def test_who_is_slow_and_wants_the_newest_message_gets_it_before_the_gap(hub: Hub) -> None:
    """A gap does not stand for it; what comes behind the gap does."""
    queue = QueueSubscriber(1, conflates=True)
    await hub.subscribe(queue, ["t"], {})
    for text in ("0", "1", "2"):
        await publish(hub, text)
    await hub.publish("t", b"", Kind.GAP)
    assert await told(queue, 4) == ["0", None, "2", None]
    for text in ("3", "4"):
        await publish(hub, text)
    await hub.publish("t", b"", Kind.GAP)
    await publish(hub, "5")
    assert await told(queue, 3) == ["3", None, "5"]


async def outages(backplane: Reaching, count: int) -> None:
    """Each of them ends with a gap that another process tells."""
    for _ in range(count):
        await MemoryBackplane.publish(backplane, "t", b"", Kind.GAP, None, "", Settings().retention)


@pytest.mark.parametrize("is_kept", [True, False])
async def test_several_gaps_in_a_row_are_told_as_one(hub: Hub, backplane: Reaching, is_kept: bool) -> None:
    """Whoever reads them from the history: a subscriber that missed them, one that resumes, one that is slow. So is
    that behind which they begin, where the history has no more."""
    since = await publish(hub, "0")
    live, slow = QueueSubscriber(10_000), QueueSubscriber(1)
    for queue in (live, slow):
        await hub.subscribe(queue, ["t"], {"t": since})
    await publish(hub, "1")
    topics, backplane._topics = backplane._topics, set()  # the connection is lost
    await outages(backplane, 3)
    await publish(hub, "2")
    await outages(backplane, 2)
    for _ in range(0 if is_kept else 3):  # the messages before, and a gap
        backplane._store._logs["t"].drop_first()
    backplane._topics = topics
    backplane.return_()
    await publish(hub, "3")
    late = QueueSubscriber(10_000)
    joining = asyncio.ensure_future(hub.subscribe(late, ["t"], {"t": OLDEST}))
    for queue in (live, slow):
        assert await told(queue, 5) == ["1", None, "2", None, "3"]
    assert (await within(joining))[1] == {"t": False}
    kept = ["0", "1"] if is_kept else []
    assert await told(late, len(kept) + 4) == [*kept, None, "2", None, "3"]
    assert not [*live._items, *slow._items, *late._items]
    assert kinds(backplane)[-4:] == [Kind.TEXT, Kind.GAP, Kind.GAP, Kind.TEXT], "in the history they are"


async def test_through_several_outages_one_gap_is_owed(hub: Hub, backplane: Reaching) -> None:
    """A supervisor is told once of it, and once when it is told."""
    await hub.open()
    told_of: list[tuple[str, Retention | None]] = []
    hub.owed_gaps.report_to(lambda topic, retention, key: told_of.append((topic, retention)))
    for _ in range(3):
        backplane.away = True
        await publish(hub, "alone")
        await hub.owed_gaps.tell("t")
    backplane.away = False
    await publish(hub, "next")
    assert kinds(backplane) == [Kind.GAP, Kind.TEXT]
    assert told_of == [("t", Settings().retention), ("t", None)]


async def test_a_gap_of_a_process_that_has_ended_is_told_once(hub: Hub, backplane: Reaching) -> None:
    """Its marker may have been on its way. What this process got alone meanwhile needs another one."""
    await hub.open()
    keys: list[str] = []
    hub.owed_gaps.report_to(lambda topic, retention, key: keys.append(key))
    kept = Settings().retention
    await backplane.publish("t", b"", Kind.GAP, "other.1", "", kept)
    hub.owed_gaps.add("t", kept, "other.1")
    await until(lambda: "t" not in hub.owed_gaps)
    assert kinds(backplane) == [Kind.GAP]
    assert keys == ["other.1", "other.1"]
    backplane.away = True
    hub.owed_gaps.add("t", kept, "other.1")
    await publish(hub, "alone")
    hub.owed_gaps.add("t", kept, "other.2")
    backplane.away = False
    await until(lambda: "t" not in hub.owed_gaps)
    assert kinds(backplane) == [Kind.GAP, Kind.GAP]
    assert keys[2] == "other.1"
    assert len({*keys[3:]}) == 1
    assert keys[3] not in ("other.1", "other.2")


async def test_a_supervisor_is_told_of_what_was_owed_before(hub: Hub, backplane: Reaching) -> None:
    await hub.open()
    backplane.away = True
    await publish(hub, "alone")
    told_of: list[str] = []
    hub.owed_gaps.report_to(lambda topic, retention, key: told_of.append(topic))
    assert told_of == ["t"]
    hub.owed_gaps.add("t", Retention(1, 1000, 7.0))  # of a worker that has ended
    assert told_of == ["t", "t"], "what is kept of it is another"
    hub.owed_gaps.report_to(None)
    backplane.away = False
    await publish(hub, "next")
    assert kinds(backplane) == [Kind.GAP, Kind.TEXT]
    assert told_of == ["t", "t"]
