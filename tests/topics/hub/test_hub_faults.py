"""The hub while a backplane fails as none should: nothing is lost in silence, and nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.helpers import until, within

from flowserve.errors import TopicsError
from flowserve.topics.backplane import Reading, Receiver
from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.hub.hub import Hub
from flowserve.topics.local.memory import MemoryBackplane
from flowserve.topics.message import Kind, Message
from flowserve.topics.names import CONTROL, ChangesName
from flowserve.topics.position import Place
from flowserve.topics.presence import tracker
from flowserve.topics.presence.limits import limits
from flowserve.topics.settings import Settings

pytestmark = pytest.mark.both_loops


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowserve.topics.delivery.topic._RETRY_INTERVAL", 0.0)


def message(offset: int) -> Message:
    return Message("t", b"%d" % offset, Kind.TEXT, Place("epoch", offset, f"{offset}"))


class Unreadable(MemoryBackplane):
    """Its history raises what no backplane should, as a package may; its topics are where the test says."""

    async def read(self, topic: str, after: Place) -> Reading:
        raise ValueError("the history can't be decoded")

    async def subscribe(self, topics: Any) -> list[Place]:
        return [Place("epoch", 0, "0") for _ in topics]


async def test_a_history_that_can_not_be_decoded_is_a_gap(caplog: pytest.LogCaptureFixture) -> None:
    """What comes behind a hole is delivered behind a gap, and the topic goes on."""
    hub, queue = Hub(Unreadable(Settings()), Settings()), QueueSubscriber(10_000)
    await hub.subscribe(queue, ["t"], {})
    for offset in (1, 3, 4):
        hub.received(message(offset))
    got = [await within(queue.get()) for _ in range(4)]
    assert [each.data if isinstance(each, Message) else None for each in got] == [b"1", None, b"3", b"4"]
    assert "the history can't be decoded" in caplog.text
    await hub.close()


async def test_who_resumes_from_a_history_that_can_not_be_decoded_is_not_kept_waiting() -> None:
    hub, queue = Hub(Unreadable(Settings()), Settings()), QueueSubscriber(10_000)
    with pytest.raises(ValueError, match="can't be decoded"):
        await within(hub.subscribe(queue, ["t"], {"t": "epoch.5.5"}))
    assert not queue.members
    await hub.close()


async def test_a_slow_subscriber_whose_history_can_not_be_decoded_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    hub, queue = Hub(Unreadable(Settings()), Settings(max_pending=1)), QueueSubscriber(1)
    await hub.subscribe(queue, ["t"], {})
    for offset in (1, 2, 3):
        hub.received(message(offset))
    assert isinstance(await within(queue.get()), Message)
    assert await within(queue.get()) is None
    assert "can't catch up, and is closed" in caplog.text
    await hub.close()


async def test_a_message_that_can_not_be_delivered_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backplane, whose connection it comes on, hears nothing."""
    hub = Hub(MemoryBackplane(Settings()), Settings())
    monkeypatch.setattr(hub.tracker.exchange, "received", lambda message: 1 / 0)
    hub.received(Message(CONTROL, b"", Kind.BINARY, Place("epoch", 1, "1")))
    assert "could not be delivered" in caplog.text
    await hub.close()


class Slow(MemoryBackplane):
    """Opens when the test lets it."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self.opened = asyncio.Event()
        self.steps: list[str] = []

    async def open(self, receiver: Receiver) -> None:
        self.steps.append("opening")
        try:
            await self.opened.wait()
            self.steps.append("open")
        except asyncio.CancelledError:
            self.steps.append("cancelled")
            raise

    async def close(self) -> None:
        self.steps.append("closed")


async def test_a_hub_that_is_closed_while_its_backplane_opens() -> None:
    """As where a server ends while Redis does not answer: no connection is made behind the end."""
    backplane = Slow()
    hub = Hub(backplane, Settings())
    publishing = asyncio.ensure_future(hub.publish("t", b"", Kind.TEXT))
    await until(lambda: backplane.steps == ["opening"])
    await hub.close()
    backplane.opened.set()
    with pytest.raises(TopicsError, match="has ended"):
        await within(publishing)
    assert backplane.steps == ["opening", "cancelled", "closed"]


async def test_changes_that_can_not_be_followed_leave_those_of_no_other_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call for two topics where one is beyond the limit of those that a process follows."""
    monkeypatch.setattr(tracker, "limits", limits._replace(watches=1))

    class Reaching(MemoryBackplane):
        connected = True  # type: ignore[assignment]

    hub, queue = Hub(Reaching(Settings()), Settings()), QueueSubscriber(10_000)
    names = [ChangesName.of("a"), ChangesName.of("b")]
    with pytest.raises(TopicsError, match="can be followed"):
        await within(hub.subscribe(queue, names, {}))
    assert not hub.tracker._changes
    await hub.close()


async def test_a_task_that_fails_is_logged_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise ValueError("a defect")

    hub = Hub(MemoryBackplane(Settings()), Settings())
    await asyncio.wait([hub.spawn(work())])
    assert "A task of topics has failed" in caplog.text
    assert "a defect" in caplog.text
    assert not hub._tasks
    await hub.close()
