"""The metrics of topics: on the page is what the clients counted, and labels are few whatever topics are called."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.helpers import until, within
from support.machines import Machine
from support.redis_server import RedisServer, redis_needed
from support.scraping import Figures, Place, place_in, scrape
from support.topic_requests import Requester
from support.topic_rooms import OpenRoom, Room

from flowserve import topics
from flowserve.metrics import TOPICS_MEMBER_CHANGES, TOPICS_MEMBERS, TOPICS_PUBLISHED, TOPICS_RESUMES, merge, render
from flowserve.topics.counts import OTHER, Counts, Labels, bound

HOSTILE = ["", ",", "a,b", "\n", '"', "\\", "{}", "\u202e", "\0", "x" * 65, "é" * 64, OTHER, "a,true"]
"""Beginnings of names; most of them can't be labels."""


def published(counts: Counts) -> dict[str, int]:
    found: dict[str, int] = counts.snapshot()[TOPICS_PUBLISHED]
    return found


# Labels


def test_a_topic_counts_under_its_part_before_the_first_colon() -> None:
    counts = Counts()
    for name in ("room:1", "room:2:3", "room", "user:1", "news"):
        counts.of(name).published += 1
    assert published(counts) == {"room": 3, "user": 1, "news": 1}


def test_labels_are_few_and_stay() -> None:
    counts = Counts()
    counts.of("room:1").published += 1
    for number in range(10_000):
        counts.of(f"user-{number}").published += 1
    counts.of("room:2").published += 1
    assert len(published(counts)) == 101
    assert published(counts)["room"] == 2
    assert published(counts)[OTHER] == 10_000 - 99
    assert sum(published(counts).values()) == 10_002


def test_a_label_can_be_on_the_page() -> None:
    counts = Counts()
    for name in HOSTILE:
        counts.of(f"{name}:1").lost += 1
    page, _ = render([("1", json.loads(json.dumps(counts.snapshot())))])
    figures = Figures(page.decode())
    lost = {name: n for name, n in figures.labelled("topics_resumes_total", "topic").items() if n}
    assert lost == {'"': 1, "\\": 1, "{}": 1, "é" * 64: 1, OTHER: len(HOSTILE) - 4}


def test_labels_of_workers_that_come_and_go_are_few() -> None:
    """Each worker may have a hundred of its own."""
    labels, ended = Labels(), merge([])
    for worker in range(50):
        counts = Counts()
        for number in range(1000):
            counts.of(f"{worker}-{number}:x").recovered += 1
            counts.of(f"{worker}-{number}:x").joined += 1
        ended = merge([ended, bound(counts.snapshot(), labels)])
    assert len(ended[TOPICS_RESUMES]) == 2 * 101
    assert len(ended[TOPICS_MEMBERS]) == 101
    assert sum(ended[TOPICS_MEMBERS].values()) == sum(ended[TOPICS_MEMBER_CHANGES].values()) == 50_000
    assert sum(count for label, count in ended[TOPICS_RESUMES].items() if label.endswith(",true")) == 50_000
    assert bound(ended, labels) == ended


# A server


Look = Callable[[], Awaitable[Figures]]


@pytest.fixture
async def measured(open_room: OpenRoom, logs: Any) -> Callable[..., Awaitable[tuple[Room, Look]]]:
    """`room, look = await measured(**options)`: a server with metrics, and a scrape of its page."""

    async def start(**options: Any) -> tuple[Room, Look]:
        room = await open_room(metrics="127.0.0.1:0", **options)
        place: Place = place_in(logs.lines())
        return room, lambda: scrape(place)

    return start


async def until_figures(look: Look, condition: Callable[[Figures], bool]) -> Figures:
    """Scrape until the condition holds: an end that a client has seen may not have come to the server yet."""

    async def wait() -> Figures:
        while not condition(figures := await look()):
            pass
        return figures

    return await within(wait())


def topic_of(figures: Figures, name: str, **labels: str) -> float:
    return figures.value(f"topics_{name}", topic="room", **labels)


async def test_what_is_published_and_delivered(measured) -> None:
    room, look = await measured()
    assert (await look()).labelled("topics_published_total", "topic") == {}
    guests = [await room.guest("room:1", "room:2", envelope=envelope) for envelope in (None, None, "json")]
    other = await room.guest("news")
    for number in range(10):
        await room.publish("room:1", str(number))
    await room.publish("room:2", "11", exclude=guests[0].act.scope)
    await room.publish("news", "12")
    await room.publish("nobody:1", "13")
    for guest, count in zip(guests, (10, 11, 11), strict=True):
        for _ in range(count):
            await guest.client.message()
    assert await other.client.message() == "12"
    figures = await look()
    assert figures.labelled("topics_published_total", "topic") == {"room": 11, "news": 1, "nobody": 1}
    assert figures.labelled("topics_delivered_total", "topic") == {"room": 32, "news": 1, "nobody": 0}
    assert figures.labelled("topics_subscribers", "topic") == {"room": 6, "news": 1, "nobody": 0}
    assert not any(figures.labelled("topics_gaps_total", "topic").values())
    assert figures.labelled("topics_backplane_connected", "worker") == {}, "there is none"
    assert figures.value("topics_backplane_lag_seconds_count") == 0
    await room.run(guests[0].subscription.unsubscribe("room:2"))
    assert topic_of(await look(), "subscribers") == 5
    guests[0].client.reset()
    await until_figures(look, lambda figures: topic_of(figures, "subscribers") == 4)


async def test_the_application_itself_is_a_subscriber(measured) -> None:
    room, look = await measured()
    first = await room.publish("room:1", "0")

    async def listen() -> list[str]:
        found = []
        async for message in topics.listen("room:1", since=first):
            found.append(message.text)
            if len(found) == 3:
                assert topic_of(await look(), "subscribers") == 1
                break
        return found

    listening = asyncio.ensure_future(room.run(listen()))
    for number in range(1, 4):
        await room.publish("room:1", str(number))
    assert await within(listening) == ["1", "2", "3"]
    figures = await look()
    assert topic_of(figures, "delivered_total") == 3
    assert topic_of(figures, "resumes_total", recovered="true") == 1


async def test_resumes(measured) -> None:
    room, look = await measured(topics_history=2)
    positions = [await room.publish("room:1", str(number)) for number in range(5)]
    await room.guest("room:1")
    for since in (positions[-1], positions[2], positions[0], "nonsense", topics.START, topics.OLDEST):
        await room.guest("room:1", since=since, envelope="json")
    figures = await look()
    assert topic_of(figures, "resumes_total", recovered="true") == 3
    assert topic_of(figures, "resumes_total", recovered="false") == 3
    assert topic_of(figures, "gaps_total") == 3
    assert topic_of(figures, "delivered_total") == 4
    assert topic_of(figures, "subscribers") == 7


async def flood(room: Room, count: int) -> None:
    async def publish_all() -> None:
        for number in range(count):
            await topics.publish("room:1", str(number).ljust(10_000))
            await asyncio.sleep(0)

    await room.run(publish_all())


@pytest.mark.parametrize("policy", ["drop", "wait"])
async def test_a_slow_client(measured, policy: str) -> None:
    """What it gets is counted, and its gaps; with the policy "drop" each message that it does not get, too."""
    room, look = await measured(topics_history=5, topics_max_pending="20KiB", ws_slow_consumer_mark="64KiB")
    client, act = await room.open(receive_buffer=4096)
    await room.subscribe(act.scope, "room:1", envelope="json", policy=policy)
    await flood(room, 1500)
    head = await room.publish("room:1", "last")
    events: list[dict[str, Any]] = []
    while not events or events[-1]["position"] != head:  # with "drop" it may be a gap
        events.append(json.loads(await client.message()))
    gaps = sum("gap" in event for event in events)
    figures = await look()
    assert topic_of(figures, "published_total") == 1501
    assert topic_of(figures, "gaps_total") == gaps > 0
    assert topic_of(figures, "delivered_total") == len(events) - gaps > 0
    missed = 1501 - (len(events) - gaps)
    assert topic_of(figures, "dropped_total") == (missed if policy == "drop" else 0)


async def test_a_client_that_is_closed_as_too_slow_gets_no_more(measured) -> None:
    room, look = await measured(ws_slow_consumer_mark="64KiB")
    _, act = await room.open(receive_buffer=4096)
    await room.subscribe(act.scope, "room:1", policy="close")
    await flood(room, 1500)
    figures = await look()
    assert 0 < topic_of(figures, "delivered_total") < 1500
    assert topic_of(figures, "dropped_total") == topic_of(figures, "gaps_total") == 0


@pytest.mark.app_fails
async def test_an_envelope_that_raises_is_a_gap(measured) -> None:
    def bad(message: topics.Message) -> str:
        raise ZeroDivisionError("in the envelope")

    room, look = await measured()
    for _ in range(2):
        await room.guest("room:1", envelope=bad)
    plain = await room.guest("room:1")
    await room.publish("room:1", "x")
    assert await plain.client.message() == "x"
    figures = await look()
    assert topic_of(figures, "gaps_total") == 2
    assert topic_of(figures, "delivered_total") == 1


# Presence


async def test_members(measured) -> None:
    """Connections, each in the worker that has it: with one id they are several."""
    room, look = await measured()
    ada, again, bob = [await room.guest("room:1", member=name) for name in ("ada", "ada", "bob")]
    await room.guest("room:1")
    await room.subscribe(ada.act.scope, "room:1", member="ada", info="busy")
    await room.subscribe(again.act.scope, "room:1", member="eve")
    await bob.subscription.unsubscribe()
    figures = await look()
    assert figures.labelled("topics_members", "topic") == {"room": 2}
    assert figures.labelled("topics_member_changes_total", "change") == {"joined": 4, "left": 2, "updated": 1}
    for guest in (ada, again):
        guest.client.reset()
    figures = await until_figures(look, lambda figures: topic_of(figures, "members") == 0)
    assert topic_of(figures, "member_changes_total", change="left") == 4
    assert figures.labelled("topics_presence_messages_total", "direction") == {}, "there is no other process"


async def test_topics_without_members_have_no_series_of_presence(measured) -> None:
    room, look = await measured()
    await room.guest("room:1")
    figures = await look()
    for name in ("members", "member_changes_total", "presence_messages_total", "clients", "client_requests_total"):
        assert not [each for each, _ in figures.samples if each == f"flowserve_topics_{name}"]


# Clients that subscribe by themselves


async def test_requests_of_clients(measured) -> None:
    """By their types and results, which are few whatever clients send."""
    room, look = await measured()
    client, act = await room.open()
    serving = asyncio.ensure_future(
        room.run(
            topics.serve(
                act.scope,
                receive=act.receive,
                send=act.send,
                allow={"room:1": ("subscribe", "publish")},
                secret="0123456789abcdef",
                publish_rate=0.001,
                publish_burst=2,
            )
        )
    )
    peer = Requester(client)
    await peer.request("subscribe", topic="room:1")
    await peer.request("publish", topic="room:1", data="x")
    assert await peer.refused("publish", topic="secret:1", data="x") == "forbidden"
    assert await peer.refused("publish", topic="room:1", data="x") == "rate_limited"
    assert await peer.refused("authorize", grant="v1..") == "invalid_grant"
    for number in range(200):
        assert await peer.refused(f"nonsense-{number}") == "unknown_type"
    await client.send_text("no JSON")
    await peer.answer(None)
    figures = await look()
    assert figures.value("topics_clients") == 1
    assert {labels: n for (name, labels), n in figures.samples.items() if name.endswith("client_requests_total")} == {
        frozenset({"type": type, "result": result}.items()): count
        for type, result, count in (
            ("subscribe", "ok", 1),
            ("publish", "ok", 1),
            ("publish", "forbidden", 1),
            ("publish", "rate_limited", 1),
            ("authorize", "invalid_grant", 1),
            ("other", "unknown_type", 200),
            ("other", "bad_request", 1),
        )
    }
    assert topic_of(figures, "published_total") == 1
    client.reset()
    await serving
    assert (await look()).value("topics_clients") == 0


async def test_ten_thousand_topics_of_clients(measured) -> None:
    room, look = await measured(topics_max_per_connection=10_100)
    names = [*(f"{name}:1" for name in HOSTILE), *(f"user-{number}" for number in range(10_000))]
    guest = await room.guest(*names)
    guest.client.reset()
    for name in names:
        await room.publish(name, "")
    figures = await until_figures(
        look, lambda figures: not sum(figures.labelled("topics_subscribers", "topic").values())
    )
    assert set(map(len, (figures.labelled(f"topics_{each}_total", "topic") for each in ("published", "resumes")))) == {
        101
    }
    assert sum(figures.labelled("topics_published_total", "topic").values()) == len(names)
    assert len(room.hub._counts._by_label) == 101  # type: ignore[union-attr]


async def test_without_metrics_no_label_is_made(room: Room) -> None:
    guest = await room.guest("room:1")
    await room.publish("room:1", "x")
    assert await guest.client.message() == "x"
    assert room.hub._counts is None
    assert room.hub._uncounted.delivered == 1
    assert room.server.server.snapshot() == room.hub.snapshot() == {}


# Redis


@redis_needed
async def test_the_connection_to_redis(measured, redis: RedisServer, logs: Any) -> None:
    room, look = await measured(topics_url=redis.url)
    guest = await room.guest("room:1", envelope="json")
    figures = await look()
    assert figures.labelled("topics_backplane_connected", "worker") == {"1": 1}
    assert figures.value("topics_backplane_reconnects_total") == 0
    for _ in range(3):
        await room.publish("room:1", "x")
    await redis.call("CLIENT", "KILL", "TYPE", "pubsub")
    figures = await until_figures(look, lambda figures: figures.value("topics_backplane_reconnects_total") == 1)
    assert figures.value("topics_backplane_lag_seconds_count") == 3
    await redis.kill()
    await until_figures(look, lambda figures: figures.value("topics_backplane_connected", worker="1") == 0)
    await until(lambda: room.hub._backplane._reconnector._given_up)  # type: ignore[attr-defined]
    assert await room.publish("room:1", "here") == ""
    await redis.start()
    await until_figures(look, lambda figures: figures.value("topics_backplane_connected", worker="1") == 1)
    events = [json.loads(await guest.client.message()) for _ in range(5)]
    assert [event.get("data", "gap") for event in events] == ["x", "x", "x", "here", "gap"], "it had kept nothing"
    # that of the gap's marker; what stayed in the worker has none
    figures = await until_figures(look, lambda figures: figures.value("topics_backplane_lag_seconds_count") == 4)
    assert figures.value("topics_backplane_reconnects_total") == 2
    assert topic_of(figures, "published_total") == topic_of(figures, "delivered_total") == 4
    assert topic_of(figures, "gaps_total") == 2, "Redis had kept nothing; and others may have published on their own"


@redis_needed
async def test_the_lag_is_the_time_since_redis_had_the_message(measured, redis: RedisServer) -> None:
    """Another machine publishes while the event loop of this one is blocked."""
    room, look = await measured(topics_url=redis.url)
    guest = await room.guest("room:1")

    async def publish_there() -> None:
        machine = Machine(redis.url)
        try:
            assert await machine.publish("room:1", "x")
        finally:
            await machine.hub.close()

    def block() -> None:
        elsewhere = threading.Thread(target=asyncio.run, args=(publish_there(),))
        elsewhere.start()
        elsewhere.join()
        time.sleep(0.5)  # what is measured

    began = time.monotonic()
    block()
    assert await guest.client.message() == "x"
    longest = time.monotonic() - began
    figures = await look()
    assert figures.value("topics_backplane_lag_seconds_count") == 1
    assert 0.5 <= figures.value("topics_backplane_lag_seconds_sum") <= longest + 0.001
    assert topic_of(figures, "published_total") == 0
