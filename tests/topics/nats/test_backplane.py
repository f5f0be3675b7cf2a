"""Topics in NATS, in fair weather, as far as test_every_backplane.py does not have it; test_faults.py has the rest."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.helpers import until, within
from support.machines import Machines
from support.nats_server import NATSServer, nats_needed

from flowserve.errors import TopicsError
from flowserve.topics.message import Kind, Message
from flowserve.topics.nats.link import as_it_is
from flowserve.topics.nats.log import Log
from flowserve.topics.position import BEGINNING, parse

pytestmark = nats_needed


@pytest.mark.both_loops
async def test_publishers_that_compete(nats: NATSServer, machine: Machines) -> None:
    """Each message has a place of its own, and all see the same order."""
    machines = [machine(nats.url) for _ in range(4)]
    readers = [await each.reader("t") for each in machines]

    async def publish(number: int) -> list[str]:
        return [await machines[number].publish("t", f"{number}.{n}") for n in range(100)]

    positions = [each for some in await within(asyncio.gather(*map(publish, range(4))), 30) for each in some]
    got = [[await reader.next() for _ in range(400)] for reader in readers]
    assert [each.place.offset for each in got[0]] == list(range(1, 401))
    assert {each.position for each in got[0]} == set(positions)
    for each in got[1:]:
        assert [(item.text, item.position) for item in each] == [(item.text, item.position) for item in got[0]]


async def test_closing_waits_for_what_is_published(nats: NATSServer, machine: Machines) -> None:
    here, there = machine(nats.url), machine(nats.url)
    reader = await there.reader("t")
    await here.hub.open()
    publishing = [asyncio.ensure_future(here.publish("t", str(n))) for n in range(100)]
    await asyncio.sleep(0)  # they have begun
    await asyncio.sleep(0)
    await here.hub.close()
    assert all(await asyncio.gather(*publishing))
    assert await reader.texts(100) == [str(n) for n in range(100)]
    assert not await here.publish("t", "too late")
    await here.hub.close()


async def test_what_is_not_kept_is_purged(nats: NATSServer, machine: Machines) -> None:
    """With a history of 10 messages, some 200 batches are in the stream at most."""
    here = machine(nats.url, history=10)
    for n in range(500):
        await here.publish("t", str(n))

    async def stored() -> int:
        return int((await nats.call("STREAM.INFO.flowserve"))["state"]["messages"])

    while await stored() > 210:
        pass
    assert [each.text for each in (await here.backplane.read("t", BEGINNING)).messages] == [
        str(n) for n in range(490, 500)
    ]


async def test_bytes_and_age(nats: NATSServer, machine: Machines) -> None:
    here = machine(nats.url, history_size=100, history_age=0.5)
    for n in range(5):
        await here.publish("t", str(n) * 40)
    reading = await here.backplane.read("t", BEGINNING)
    assert [each.text[0] for each in reading.messages] == ["3", "4"]
    last = reading.head

    async def expired() -> None:
        while (await here.backplane.read("t", BEGINNING)).messages:
            pass

    await within(expired())
    reading = await here.backplane.read("t", last)
    assert (reading.complete, reading.head) == (True, last)


async def test_the_stream_keeps_what_the_publisher_wants_longest(nats: NATSServer, machine: Machines) -> None:
    here = machine(nats.url, history_age=1)
    await here.publish("t", "0")
    assert (await nats.call("STREAM.INFO.flowserve"))["config"]["max_age"] == 60 * 10**9
    there = machine(nats.url, history_age=3600)
    await there.publish("t", "1")
    config = (await nats.call("STREAM.INFO.flowserve"))["config"]
    assert config["max_age"] == config["duplicate_window"] == 3600 * 10**9
    assert (await here.backplane.read("t", BEGINNING)).complete


async def test_the_place_of_a_quiet_topic_is_kept(nats: NATSServer, machine: Machines) -> None:
    """Its last batch expires; those who are subscribed publish one without messages before."""
    here, there = machine(nats.url), machine(nats.url)
    reader = await here.reader("t")
    position = await there.publish("t", "1")
    assert await reader.texts(1) == ["1"]
    subscriptions = here.backplane._subscriptions
    topic = subscriptions._topics["t"]
    topic.fresh = False
    await subscriptions._keep(subscriptions._log, topic)
    await until(lambda: topic.fresh)
    await nats.call("STREAM.PURGE.flowserve", keep=1)
    await there.publish("t", "2")
    item = await reader.next()
    before = parse(position)
    assert isinstance(item, Message)
    assert item.place is not None
    assert before is not None
    assert (item.text, item.place.offset) == ("2", before.offset + 1)


async def test_a_subject_that_is_purged(nats: NATSServer, machine: Machines) -> None:
    here, there = machine(nats.url), machine(nats.url)
    reader = await here.reader("t")
    position = await there.publish("t", "1")
    await nats.call("STREAM.PURGE.flowserve")
    assert (await there.reader("t", since={"t": position})).recovered == {"t": False}
    await there.publish("t", "2")
    assert await reader.texts(3) == ["1", "gap", "2"]


async def test_a_key_whose_message_is_not_kept_any_more(nats: NATSServer, machine: Machines) -> None:
    here = machine(nats.url)
    await here.publish("t", "1", key="k")
    await nats.call("STREAM.PURGE.flowserve")
    position = await here.publish("t", "1", key="k")
    assert position
    assert (await here.reader("t", since={"t": position})).recovered == {"t": False}


async def test_a_message_larger_than_nats_takes(nats: NATSServer, machine: Machines) -> None:
    here = machine(nats.url, max_size=1 << 30)
    await here.hub.open()
    with pytest.raises(TopicsError, match="more than NATS takes: raise max_payload, which is 1048576"):
        await here.hub.publish("t", bytes(1 << 20), Kind.BINARY)
    assert await here.publish("t", "1")


async def test_what_is_no_message_is_logged(nats: NATSServer, machine: Machines, logs: Any) -> None:
    here = machine(nats.url)
    reader = await here.reader("t")
    here.backplane._subscriptions._log.link.ask("flowserve.log.t", b"nonsense", "", lambda answer: None, as_it_is)
    await until(lambda: any("is no message" in line for line in logs.lines()))
    with pytest.raises(TopicsError, match="no batch of messages"):
        await here.publish("t", "1")
    assert reader.quiet
    assert here.connected


async def test_prefixes_keep_applications_apart(nats: NATSServer, machine: Machines) -> None:
    one, two = machine(nats.url + "?prefix=one"), machine(nats.url + "?prefix=two&storage=memory")
    readers = [await one.reader("t"), await two.reader("t")]
    await one.publish("t", "1")
    await two.publish("t", "2")
    assert [await reader.texts(1) for reader in readers] == [["1"], ["2"]]
    assert (await nats.call("STREAM.INFO.two"))["config"]["storage"] == "memory"


async def test_one_topic_is_purged_at_a_time(
    nats: NATSServer, machine: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JetStream stores nothing meanwhile: many topics that come to their marks together would stop all publishers."""
    running, most, purged = 0, 0, set[str]()
    purge = Log.purge

    async def counted(log: Log, topic: str, seq: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await purge(log, topic, seq)
        running -= 1
        purged.add(topic)

    here = machine(nats.url, history=100)
    topics = [f"t{number}" for number in range(10)]
    await asyncio.gather(*(here.publish(topic, "first") for topic in topics))
    monkeypatch.setattr(Log, "purge", counted)
    for number in range(220):  # a batch each; every hundredth gets a mark
        await within(asyncio.gather(*(here.publish(topic, str(number)) for topic in topics)))
    await until(lambda: purged == set(topics))
    assert most == 1
