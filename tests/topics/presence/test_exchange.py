"""What processes tell each other of presence: how much, how soon, and what happens if some of it is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from support.helpers import until, within
from support.presence import QUICK, OpenProcesses, Process, next_change, until_told

from flowserve.errors import TopicsError
from flowserve.topics.delivery.queue import QueueSubscriber
from flowserve.topics.local.siblings import SiblingsBackplane
from flowserve.topics.message import Kind
from flowserve.topics.names import CONTROL
from flowserve.topics.presence.entries import Presence
from flowserve.topics.presence.limits import limits

pytestmark = pytest.mark.both_loops


async def until_found(process: Process, topic: str, condition: Callable[[Presence], bool]) -> Presence:
    """Ask until the condition holds."""
    found: list[Presence] = []

    async def wait() -> None:
        while not found or not condition(found[-1]):
            found.append(await process.presence(topic))
            await until_next_iterations()

    await within(wait())
    return found[-1]


async def until_next_iterations() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def until_ids(process: Process, topic: str, *ids: str) -> None:
    await until_found(process, topic, lambda found: sorted(each.id for each in found) == sorted(ids))


async def until_count(process: Process, topic: str, count: int) -> None:
    async def wait() -> None:
        while await process.count(topic) != count:
            await until_next_iterations()

    await within(wait())


async def test_members_of_all_processes(processes: OpenProcesses) -> None:
    one, two, three = await processes(3)
    await one.join("t", "ada", {"name": "Ada"})
    await two.join("t", "bob")
    await two.join("other", "eve")
    found = await until_found(three, "t", lambda found: found.complete and len(found) == 2)
    assert [(each.id, each.info, each.connections) for each in found] == [("ada", {"name": "Ada"}, 1), ("bob", None, 1)]
    await until_ids(one, "t", "ada", "bob")
    await until_ids(one, "nowhere")
    await until_found(one, "nowhere", lambda found: found.complete)


async def test_one_member_with_connections_in_several_processes(processes: OpenProcesses) -> None:
    one, two = await processes(2, **QUICK)
    first = await one.join("t", "ada", {"tab": 1})
    await two.join("t", "ada", {"tab": 2})
    await two.join("t", "ada", {"tab": 3})
    (ada,) = await until_found(one, "t", lambda found: found.connections == 3)
    assert (ada.id, ada.info, ada.connections) == ("ada", {"tab": 3}, 3)
    since = ada.since
    one.hub.ended(first)
    (ada,) = await until_found(one, "t", lambda found: found.connections == 2)
    assert ada.connections == 2
    assert ada.since > since


async def test_a_count_asks_for_no_members(processes: OpenProcesses) -> None:
    """A thousand members are a number to those who ask for no more, also when some come and go."""
    one, two = await processes(2, **QUICK)
    await one.join_many("t", [f"member {number}" for number in range(1000)], "x" * 500)
    guest = await one.subscribe("t")
    await until_count(two, "t", 1)
    await one.join_many("t", ["another"])
    await one.subscribe("t")
    one.hub.ended(guest)
    await one.subscribe("t")
    await until_count(two, "t", 2)
    assert not any(statement.entries for packet in one.told for statement in packet.topics.values())
    assert len((await until_found(two, "t", lambda found: found.complete)).members) == 1001
    assert await two.count("t") == 2


async def test_counts_of_processes_that_never_asked(processes: OpenProcesses) -> None:
    one, two, three = await processes(3, **QUICK)
    mine = await one.subscribe("t")
    await one.subscribe("t")
    await two.subscribe("t", "u")
    await until_count(three, "t", 3)
    await until_count(three, "u", 1)
    await two.subscribe("t")
    await until_count(three, "t", 4)
    one.hub.ended(mine)
    await until_count(three, "t", 3)


async def test_a_process_that_comes_later(processes: OpenProcesses) -> None:
    """It hears of those who follow by their heartbeats, or because somebody joins."""
    room = await processes(1, **QUICK)
    (one,) = room
    await until_count(one, "t", 0)
    silent, loud = room.add(), room.add()
    await silent.subscribe("t")
    await until_count(one, "t", 1)
    await loud.join("t", "ada")
    await until_count(one, "t", 2)
    await until_ids(one, "t", "ada")


async def test_nothing_is_published_where_nobody_asks(processes: OpenProcesses) -> None:
    one, two = await processes(2, **QUICK)
    queue = await one.subscribe("t")
    await two.subscribe("t")
    one.hub.ended(queue)
    await two.hub.publish("t", b"x", Kind.TEXT)
    assert one.told == two.told == []
    for number in range(10):
        await one.join("t", str(number))
    await until(lambda: len(one.told) == 1)  # it asks once whether anybody follows
    await asyncio.sleep(0.5)
    assert len(one.told) + len(two.told) <= 3


async def test_a_storm_of_joins_costs_few_messages(processes: OpenProcesses) -> None:
    """2,000 in two processes, while a third follows, who has subscribers to the changes."""
    one, two, three = await processes(3)
    follower = await three.subscribe("t", presence=True)
    assert (await next_change(follower))["members"] == []
    before = [len(each.told) for each in (one, two, three)]
    for number in range(1000):
        await one.join("t", f"one-{number}", {"name": f"Member number {number}"})
        await two.join("t", f"two-{number}", {"name": f"Member number {number}"})
    seen: set[str] = set()
    changes = 0
    while len(seen) < 2000:
        seen |= {each["id"] for each in (await next_change(follower))["joins"]}
        changes += 1
    assert len((await three.presence("t")).members) == 2000
    assert changes <= 10
    assert sum(len(each.told) for each in (one, two, three)) - sum(before) <= 20


async def test_when_nothing_changes(processes: OpenProcesses) -> None:
    """Each process that follows, or is followed, sends a heartbeat, and nothing else."""
    one, two, three = await processes(3, **QUICK)
    await one.join_many("t", [str(number) for number in range(1000)])
    await until_found(two, "t", lambda found: len(found) == 1000)
    await three.count("t")
    await until(lambda: all(each.told and each.told[-1].says_nothing for each in (one, two, three)))
    before = [len(each.told) for each in (one, two, three)]
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await asyncio.sleep(1.0)
    most = (loop.time() - begun) / QUICK["heartbeat"] + 1
    for process, old in zip((one, two, three), before, strict=True):
        new = process.told[old:]
        assert 1 <= len(new) <= most
        assert all(each.says_nothing for each in new)
    await until_count(two, "t", 0)
    assert len(await two.presence("t")) == 1000


async def test_the_longest_pause_between_heartbeats_is_no_shorter_than_a_second() -> None:
    assert limits.heartbeat >= 1.0
    assert limits.expiry + limits.interval <= 30.0


@pytest.mark.parametrize("noticed", [True, False], ids=["its connection ends", "it is not heard of"])
async def test_a_process_that_dies_takes_its_members_with_it(processes: OpenProcesses, noticed: bool) -> None:
    one, two = await processes(2, **{**QUICK, "expiry": 60.0 if noticed else 1.0})
    await one.join("t", "ada")
    await two.join("t", "bob")
    await one.subscribe("t")
    follower = await two.subscribe("t", presence=True)
    await until_ids(two, "t", "ada", "bob")
    await next_change(follower)
    if noticed:
        one.die()
    else:
        one.carrier.loses = True
    change = await next_change(follower)
    assert (change["joins"], change["leaves"]) == ([], ["ada"])
    await until_ids(two, "t", "bob")
    await until_count(two, "t", 2)
    assert not two.hub.tracker.exchange._peers


async def test_a_process_that_did_something_else_for_long(processes: OpenProcesses) -> None:
    """It has heard nobody, but nobody is dead; what came meanwhile is still to be read."""
    one, two = await processes(2, **QUICK)
    await one.join("t", "ada")
    await until_ids(two, "t", "ada")
    time.sleep(QUICK["expiry"] + 2 * QUICK["heartbeat"])  # noqa: ASYNC251
    two.hub.tracker.exchange._turn()
    await until_ids(two, "t", "ada")
    await asyncio.sleep(2 * QUICK["heartbeat"])
    await until_ids(two, "t", "ada")


async def test_a_process_that_ends_says_so(processes: OpenProcesses) -> None:
    one, two = await processes(2)
    await one.join("t", "ada")
    await until_ids(two, "t", "ada")
    mine = one.hub.tracker.exchange
    await one.hub.close()
    await until_ids(two, "t")
    told, timer = len(one.told), mine._timer
    one.hub.tracker.join("t", object(), "late", "null", 1.0)
    assert (len(one.told), mine._timer) == (told, timer)


async def test_a_message_that_is_lost(processes: OpenProcesses) -> None:
    """The number of the next one, a heartbeat at the latest, shows it; then all is said anew."""
    one, two = await processes(2, **{**QUICK, "expiry": 60.0})
    ada = await one.join("t", "ada")
    follower = await two.subscribe("t", presence=True)
    assert [each["id"] for each in (await next_change(follower))["members"]] == ["ada"]
    one.carrier.loses = True
    told = len(one.told)
    one.hub.ended(ada)
    await one.join("t", "bob")
    await until(lambda: any("t" in each.topics for each in one.told[told:]))
    one.carrier.loses = False
    await until_told(follower, {"ada"}, {"bob"})
    await until_found(two, "t", lambda found: found.complete)


async def test_a_request_that_is_lost(processes: OpenProcesses) -> None:
    one, two = await processes(2, **{**QUICK, "answer": 0.1})
    await one.join("t", "ada")
    await until(lambda: len(one.told) == 1)
    two.carrier.loses = True
    assert await two.ids("t") == []
    two.carrier.loses = False
    await until_ids(two, "t", "ada")
    await until_found(two, "t", lambda found: found.complete)


async def test_a_backplane_that_was_lost(processes: OpenProcesses) -> None:
    """What happened meanwhile is known when it is back, and those who are still there never seem to leave."""
    one, two = await processes(2, **QUICK)
    ada = await one.join("t", "ada")
    await one.join("t", "cem")
    follower = await two.subscribe("t", presence=True)
    await next_change(follower)
    backplane = two.carrier.inner
    assert isinstance(backplane, SiblingsBackplane)
    assert backplane._transport is not None
    backplane._transport.abort()
    await until(lambda: backplane._transport is None)
    one.hub.ended(ada)
    await one.join("t", "bob")
    await until_told(follower, {"ada", "cem"}, {"bob", "cem"})
    await until_ids(two, "t", "bob", "cem")


async def test_a_topic_that_nobody_asks_for_any_more(processes: OpenProcesses) -> None:
    """Nothing is held of it, and nothing is said."""
    one, two = await processes(2, **QUICK, lease=0.5)
    await one.join_many("t", ["ada"])
    await one.subscribe("t")
    await until_ids(two, "t", "ada")
    exchange = two.hub.tracker.exchange
    await until(lambda: not exchange._watches and not one.hub.tracker.exchange._peers.watched)
    assert exchange._peers._held == 0
    await until(lambda: not exchange._peers)
    before = len(one.told), len(two.told)
    await one.join_many("t", ["bob"])
    await asyncio.sleep(0.5)
    assert (len(one.told), len(two.told)) == before
    await until_ids(two, "t", "ada", "bob")


async def test_more_members_than_are_listed(processes: OpenProcesses) -> None:
    one, two = await processes(2, **QUICK, listed=100)
    queues = [await one.join("t", f"one-{number}") for number in range(150)]
    await two.join_many("t", [f"two-{number}" for number in range(30)])
    for process in (one, two):
        found = await until_found(process, "t", lambda found: found.connections == 180)
        assert (len(found), found.complete, found.connections) == (100, False, 180)
    for queue in queues[:120]:
        one.hub.ended(queue)
    found = await until_found(two, "t", lambda found: found.complete)
    assert (len(found), found.connections) == (60, 60)


async def test_more_topics_than_are_followed(processes: OpenProcesses) -> None:
    one, two = await processes(2, **QUICK, watches=3)
    await one.join_many("t0", ["ada"])
    await one.subscribe("t0")
    for number in range(6):
        await two.count(f"t{number}")
    assert len(two.hub.tracker.exchange._watches) == 3
    await until_ids(two, "t0", "ada")
    for number in range(3):
        await two.subscribe(f"t{number}", presence=True)
    with pytest.raises(TopicsError, match="at most 3 topics"):
        await two.subscribe("t3", presence=True)
    with pytest.raises(TopicsError, match="at most 3 topics"):
        await two.count("t3")


async def test_a_large_topic_is_said_in_several_messages(processes: OpenProcesses) -> None:
    one, two = await processes(2, message=10_000)
    await one.subscribe("t")
    await one.join_many("t", [f"member-{number}" for number in range(1000)], {"name": "x" * 50})
    found = await until_found(two, "t", lambda found: found.complete and len(found) > 0)
    assert (len(found), found.complete) == (1000, True)
    assert len(one.told) > 10


async def test_users_do_not_reach_what_processes_say(processes: OpenProcesses) -> None:
    (one,) = await processes(1)
    for name in (CONTROL, f"{CONTROL}:t"):
        with pytest.raises(TopicsError, match="can't begin with"):
            await one.hub.publish(name, b"{}", Kind.TEXT)
        with pytest.raises(TopicsError, match="can't begin with"):
            await one.hub.subscribe(QueueSubscriber(1), [name], {})
