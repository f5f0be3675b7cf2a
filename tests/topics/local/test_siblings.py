"""The backplane between workers, against a broker in the same process; with real workers it is tested in
supervisor/test_topics_of_workers.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.helpers import until, within

from flowserve.errors import TopicsError
from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.hub.hub import Hub
from flowserve.topics.local.broker import Broker
from flowserve.topics.local.siblings import SiblingsBackplane
from flowserve.topics.local.wire import VERSION
from flowserve.topics.message import Kind, Message
from flowserve.topics.names import CONTROL
from flowserve.topics.settings import Retention, Settings

pytestmark = pytest.mark.both_loops


@asynccontextmanager
async def hubs(settings: Settings, count: int = 2) -> AsyncIterator[tuple[Broker, list[Hub]]]:
    """A broker, and the hubs of its workers."""
    broker = Broker(settings)
    await broker.open()
    found = [Hub(SiblingsBackplane(broker.path), settings) for _ in range(count)]
    try:
        yield broker, found
    finally:
        for hub in found:
            await hub.close()
        broker.close()


async def texts(queue: QueueSubscriber, count: int) -> list[str]:
    found = []
    for _ in range(count):
        item = await within(queue.get())
        assert isinstance(item, Message)
        found.append(item.text)
    return found


async def test_only_this_machine_was_reached() -> None:
    """Promise 4, with the supervisor gone: who is subscribed here gets the message, and the position is empty."""
    async with hubs(Settings(), 1) as (broker, (hub,)):
        queue = QueueSubscriber(1000)
        await hub.subscribe(queue, ["t"], {})
        assert await hub.publish("t", b"1", Kind.TEXT)
        broker.close()
        await until(lambda: hub._backplane._transport is None)  # type: ignore[attr-defined]
        assert await hub.publish("t", b"2", Kind.TEXT) == ""
        assert await texts(queue, 2) == ["1", "2"]
        with pytest.raises(TopicsError, match="the supervisor is gone"):
            await hub.subscribe(queue, ["other"], {})
        assert [member.topic for member in queue.members] == ["t"]


async def test_a_worker_gets_what_it_is_subscribed_to_and_no_more() -> None:
    async with hubs(Settings()) as (broker, (one, two)):
        queue = QueueSubscriber(10_000)
        await one.subscribe(queue, ["a", "b"], {})
        await two.publish("a", b"1", Kind.TEXT)
        await two.publish("c", b"-", Kind.TEXT)
        await two.publish("b", b"2", Kind.TEXT)
        assert await texts(queue, 2) == ["1", "2"]
        one.unsubscribe(queue, ["a"])
        await until(lambda: set(broker._subscribers) == {CONTROL, "b"})
        await two.publish("a", b"3", Kind.TEXT)
        await two.publish("b", b"4", Kind.TEXT)
        assert await texts(queue, 1) == ["4"]
        one.ended(queue)
        await until(lambda: set(broker._subscribers) == {CONTROL})


async def test_what_is_published_when_a_process_has_ended() -> None:
    """Also when it had connected again meanwhile, and not when the supervisor itself ends."""
    async with hubs(Settings(), 3) as (broker, (one, two, three)):
        queue = QueueSubscriber(1000)
        await three.subscribe(queue, ["t"], {})
        for hub, data in ((one, b"one"), (two, b"two")):
            await hub.open()
            hub._backplane.publish_at_end("t", data, Retention(10, 1000, 60.0))  # type: ignore[attr-defined]
        await one.publish("t", b"0", Kind.TEXT)  # so that all before it was taken
        await two.publish("t", b"0", Kind.TEXT)
        one._backplane._transport.abort()  # type: ignore[attr-defined]
        assert await texts(queue, 3) == ["0", "0", "one"]
        await until(lambda: one._backplane.reconnects == 1)
        await one.close()
        assert await texts(queue, 1) == ["one"]
        broker.close()
        await until(lambda: not broker._workers)
        assert not queue._items


async def test_a_subscription_in_the_turn_of_an_unsubscription() -> None:
    """The last subscriber goes while a new one comes."""
    async with hubs(Settings()) as (_, (one, two)):
        for _ in range(20):
            old, new = QueueSubscriber(10_000), QueueSubscriber(10_000)
            await one.subscribe(old, ["t"], {})
            joining = asyncio.ensure_future(one.subscribe(new, ["t"], {}))
            one.ended(old)
            await joining
            await two.publish("t", b"x", Kind.TEXT)
            assert await texts(new, 1) == ["x"]
            one.ended(new)


async def test_a_history_that_is_longer_than_a_frame_buffer() -> None:
    settings = Settings(history=1000, history_size=1 << 26, max_pending=1 << 26)
    async with hubs(settings) as (_, (one, two)):
        first = await one.publish("t", b"-1", Kind.TEXT)
        for number in range(100):
            await one.publish("t", (b"%d" % number).ljust(100_000), Kind.TEXT, retention=Retention(1000, 1 << 26, 60))
        queue = QueueSubscriber(1 << 26)
        _, recovered = await two.subscribe(queue, ["t"], {"t": first})
        assert recovered == {"t": True}
        assert [int(text) for text in await texts(queue, 100)] == list(range(100))


async def test_an_empty_key_is_one() -> None:
    async with hubs(Settings(), 1) as (_, (hub,)):
        first = await hub.publish("t", b"1", Kind.TEXT, key="")
        assert await hub.publish("t", b"1", Kind.TEXT, key="") == first
        assert await hub.publish("t", b"1", Kind.TEXT) != first


async def test_a_broker_that_is_not_there(tmp_path) -> None:
    hub = Hub(SiblingsBackplane(str(tmp_path / "none")), Settings())
    with pytest.raises(TopicsError, match="can't be reached at"):
        await hub.publish("t", b"x", Kind.TEXT)
    with pytest.raises(TopicsError, match="can't be reached at"):
        await hub.subscribe(QueueSubscriber(10), ["t"], {})


async def test_a_connection_that_is_lost_is_made_anew() -> None:
    """What is published meanwhile is read from the history."""
    async with hubs(Settings()) as (_, (hub, other)):
        queue = QueueSubscriber(1000)
        await hub.subscribe(queue, ["t"], {})
        hub._backplane._transport.abort()  # type: ignore[attr-defined]
        await until(lambda: hub._backplane._transport is None)  # type: ignore[attr-defined]
        assert await other.publish("t", b"1", Kind.TEXT)
        assert await texts(queue, 1) == ["1"]
        assert await other.publish("t", b"2", Kind.TEXT)
        assert await texts(queue, 1) == ["2"]
        assert hub._backplane.connected
        assert (hub._backplane.reconnects, other._backplane.reconnects) == (1, 0)


HELLO = bytes.fromhex("0000000a 00 00000000 00000001")
"""All of it but the version."""
PUBLISH = bytes.fromhex("0000000a 01 00000007 00000001 74")


async def test_a_worker_of_another_version_is_told_the_brokers() -> None:
    async with hubs(Settings(), 0) as (broker, _):
        for hello in (HELLO + b"9", HELLO + b"9" + PUBLISH, PUBLISH):
            reader, writer = await asyncio.open_unix_connection(broker.path)
            writer.write(hello)
            answer = await within(reader.read())
            number = hello[5:9]
            assert answer[:14] == HELLO[:5] + number + HELLO[9:] + VERSION
            writer.close()
        await until(lambda: not broker._workers)


async def test_a_broker_of_another_version(tmp_path, caplog) -> None:
    """Nobody is subscribed, and nothing is published, where others would not be reached; the log says what to do."""
    got = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readexactly(14))
        writer.write(HELLO + b"0")
        got.append(await reader.read())
        writer.close()

    server = await asyncio.start_unix_server(answer, tmp_path / "topics.sock")
    hub = Hub(SiblingsBackplane(str(tmp_path / "topics.sock")), Settings())
    with pytest.raises(TopicsError, match=r"version 2 .* version 0, .*: restart the supervisor"):
        await hub.publish("t", b"x", Kind.TEXT)
    with pytest.raises(TopicsError, match="restart the supervisor"):
        await hub.subscribe(QueueSubscriber(10), ["t"], {})
    assert [record.levelname for record in caplog.records if "restart the supervisor" in record.message] == ["ERROR"]
    await until(lambda: len(got) == 4)
    assert got == [HELLO + VERSION, b"", HELLO + VERSION, b""]
    await hub.close()
    server.close()


async def test_a_broker_that_goes_before_it_has_answered(tmp_path) -> None:
    async def go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_unix_server(go, tmp_path / "topics.sock")
    hub = Hub(SiblingsBackplane(str(tmp_path / "topics.sock")), Settings())
    with pytest.raises(TopicsError, match="is lost"):
        await within(hub.publish("t", b"x", Kind.TEXT))
    await hub.close()
    server.close()


async def test_where_no_socket_can_be_made_nothing_is_left_behind(tmp_path, monkeypatch) -> None:
    """As with a folder whose path is longer than that of a socket may be."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(OSError, match="path too long"):
        await Broker(Settings()).open()
    assert list(folder.iterdir()) == []


async def test_a_hub_whose_backplane_was_not_there_at_first(tmp_path) -> None:
    broker = Broker(Settings())
    hub = Hub(SiblingsBackplane(str(tmp_path / "topics.sock")), Settings())
    with pytest.raises(TopicsError, match="can't be reached"):
        await hub.publish("t", b"1", Kind.TEXT)
    await broker.open()
    (tmp_path / "topics.sock").symlink_to(broker.path)
    assert await hub.publish("t", b"1", Kind.TEXT)
    await hub.close()
    broker.close()


async def test_a_hub_that_is_closed_waits_for_what_is_being_published() -> None:
    """As the docstring of `Hub.close()` says: publishers learn the positions."""
    async with hubs(Settings(), 1) as (broker, (hub,)):
        await hub.open()
        publishing = [asyncio.ensure_future(hub.publish("t", b"%d" % number, Kind.TEXT)) for number in range(10)]
        await asyncio.sleep(0)  # they have begun
        await hub.close()
        positions = await within(asyncio.gather(*publishing))
        assert all(positions)
        assert broker._store.head("t").offset == 10


class DeafBroker(asyncio.Protocol):
    """Says HELLO, takes whatever else comes without an answer, and goes when the test says so."""

    transport: asyncio.Transport
    taken = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if not self.taken:
            self.transport.write(HELLO[:5] + bytes(4) + HELLO[9:] + VERSION)
        self.taken += 1


async def test_a_message_of_which_nobody_knows_whether_it_was_published(tmp_path) -> None:
    """Promise 4. The connection is lost while it is on its way: the history may have it, so nobody here gets it."""
    broker = DeafBroker()
    server = await asyncio.get_running_loop().create_unix_server(lambda: broker, str(tmp_path / "topics.sock"))
    backplane = SiblingsBackplane(str(tmp_path / "topics.sock"))
    hub = Hub(backplane, Settings())
    publishing = asyncio.ensure_future(hub.publish("t", b"x", Kind.TEXT))
    await until(lambda: broker.taken > 1)
    broker.transport.abort()
    with pytest.raises(TopicsError, match="unknown whether it was published"):
        await within(publishing)
    await hub.close()
    server.close()


async def test_a_subscription_that_fails_is_not_made_on_the_next_connection() -> None:
    async with hubs(Settings(), 1) as (broker, (hub,)):
        await hub.subscribe(QueueSubscriber(1000), ["s"], {})
        backplane = hub._backplane
        assert isinstance(backplane, SiblingsBackplane)
        backplane._transport.abort()  # type: ignore[union-attr]
        await until(lambda: backplane._transport is None)
        with pytest.raises(TopicsError):
            await hub.subscribe(QueueSubscriber(1000), ["t"], {})
        await until(lambda: backplane.reconnects == 1)
        assert set(broker._subscribers) == {CONTROL, "s"}


async def test_what_is_no_message_about_presence_costs_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with hubs(Settings()) as (_, (hub, other)):
        queue = QueueSubscriber(1000)
        await hub.subscribe(queue, ["t"], {})
        await other.open()
        packet = b'{"version":1,"sender":"another","number":"seven"}'
        await other._backplane.publish(CONTROL, packet, Kind.BINARY, None, "", Retention(0, 0, 60.0))
        await other.publish("t", b"1", Kind.TEXT)
        assert await texts(queue, 1) == ["1"]
        assert hub._backplane.reconnects == 0


async def test_a_caller_that_is_cancelled_leaves_nothing_behind() -> None:
    async with hubs(Settings(), 1) as (_, (hub,)):
        assert await hub.publish("t", b"1", Kind.TEXT)
        publishing = asyncio.ensure_future(hub.publish("t", b"2", Kind.TEXT))
        await asyncio.sleep(0)
        assert len(hub._backplane._places) == 1  # type: ignore[attr-defined]
        publishing.cancel()
        await until(lambda: not hub._backplane._places)  # type: ignore[attr-defined]
        assert publishing.cancelled()
