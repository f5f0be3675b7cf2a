"""The logs of topics in memory."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.helpers import until

from flowserve.topics.local.memory import MemoryBackplane
from flowserve.topics.local.store import Store
from flowserve.topics.message import Kind
from flowserve.topics.position import BEGINNING, Place
from flowserve.topics.settings import Retention, Settings

SETTINGS = Settings(history=3)
KEEP = SETTINGS.retention


def publish(store: Store, data: bytes, *, topic: str = "t", key: str | None = None, keep: Retention = KEEP) -> Place:
    return store.publish(topic, data, Kind.TEXT, key, "", keep)[0]


def payloads(store: Store, after: Place) -> list[bytes]:
    reading = store.read("t", after)
    assert reading.complete
    return [message.data for message in reading.messages]


def test_offsets_are_dense_and_begin_with_1() -> None:
    store = Store(SETTINGS)
    assert store.head("t").offset == 0
    assert [publish(store, b"x").offset for _ in range(5)] == [1, 2, 3, 4, 5]
    assert store.head("t").offset == 5


def test_what_came_after_a_place_is_read() -> None:
    store = Store(SETTINGS)
    start = store.head("t")
    places = [publish(store, data) for data in (b"a", b"b", b"c")]
    assert payloads(store, start) == [b"a", b"b", b"c"]
    assert payloads(store, places[1]) == [b"c"]
    assert payloads(store, places[2]) == []


def test_a_history_that_does_not_reach_back_is_not_complete() -> None:
    store = Store(SETTINGS)
    places = [publish(store, data) for data in (b"a", b"b", b"c", b"d", b"e")]
    assert not store.read("t", places[0]).complete
    assert payloads(store, places[1]) == [b"c", b"d", b"e"]  # what follows it is all there, though it is not itself


@pytest.mark.parametrize(
    "changed",
    [
        lambda place: place._replace(epoch="another"),
        lambda place: place._replace(check="another"),
        lambda place: place._replace(offset=place.offset + 1),
        lambda place: Place("", 0, ""),
    ],
)
def test_a_place_of_another_log_is_noticed(changed) -> None:  # type: ignore[no-untyped-def]
    store = Store(SETTINGS)
    publish(store, b"a")
    assert not store.read("t", changed(publish(store, b"b"))).complete


def test_without_a_history_the_last_place_is_still_known() -> None:
    store = Store(Settings(history=0))
    keep = Settings(history=0).retention
    publish(store, b"a", keep=keep)
    last = publish(store, b"b", keep=keep)
    assert payloads(store, last) == []
    publish(store, b"c", keep=keep)
    assert not store.read("t", last).complete


def test_the_history_is_bounded_in_bytes_and_in_time() -> None:
    now = [0.0]
    store = Store(SETTINGS, lambda: now[0])
    keep = Retention(100, 10, 60.0)
    start = store.head("t")
    publish(store, b"12345", keep=keep)
    second = publish(store, b"12345", keep=keep)
    publish(store, b"1", keep=keep)
    assert not store.read("t", start).complete
    now[0] = 61.0
    assert not store.read("t", second).messages
    assert not store.read("t", second).complete


def test_a_key_publishes_once() -> None:
    store = Store(SETTINGS)
    first = publish(store, b"a", key="k")
    assert store.publish("t", b"a", Kind.TEXT, "k", "", KEEP) == (first, None)
    assert publish(store, b"b", key="") != first
    assert publish(store, b"a", key="k", topic="u") != first


def test_the_beginning_is_a_place_of_every_topic() -> None:
    store = Store(SETTINGS)
    assert payloads(store, BEGINNING) == []
    publish(store, b"a")
    assert payloads(store, BEGINNING) == [b"a"]
    for _ in range(3):
        publish(store, b"b")
    assert not store.read("t", BEGINNING).complete


def test_the_topic_that_was_not_used_for_longest_is_forgotten() -> None:
    store = Store(Settings(max_topics=2))
    place = publish(store, b"a", topic="a")
    publish(store, b"b", topic="b")
    publish(store, b"a", topic="a")
    publish(store, b"c", topic="c")
    assert store.read("a", place).complete
    assert store.head("b").offset == 0


def test_topics_that_nobody_published_to_push_none_out() -> None:
    """Or a client whose subscriptions the application takes from it would empty the histories of others."""
    store = Store(Settings(max_topics=2))
    place = publish(store, b"a", topic="quiet")
    publish(store, b"b", topic="quiet")
    for number in range(100):
        head = store.head(f"t:{number}")
        assert store.read(f"t:{number}", head) == (True, (), head, head)
        assert not store.read(f"t:{number}", place).complete
    assert [each.data for each in store.read("quiet", place).messages] == [b"b"]


def test_a_topic_is_another_one_after_it_was_forgotten() -> None:
    store = Store(Settings(max_topics=1))
    places = [store.head("a")]
    for _ in range(3):
        places.append(publish(store, b"a", topic="a"))
        publish(store, b"b", topic="b")
    assert len({place.epoch for place in places[1:]}) == 3
    assert not any(store.read("a", place).complete for place in places)


def test_the_place_of_a_topic_without_messages_is_where_its_first_one_follows() -> None:
    store = Store(SETTINGS)
    head = store.head("t")
    publish(store, b"a")
    assert payloads(store, head) == [b"a"]


@given(st.lists(st.binary(max_size=6), max_size=40), st.integers(0, 10), st.integers(0, 30))
def test_a_reading_is_what_a_plain_list_says(sent: list[bytes], messages: int, size: int) -> None:
    keep = Retention(messages, size, 1e9)
    store = Store(SETTINGS)
    places = [store.head("t")]
    kept: deque[bytes] = deque()
    for data in sent:
        places.append(publish(store, data, keep=keep))
        kept.append(data)
        while len(kept) > messages or sum(map(len, kept)) > size:
            kept.popleft()
    for offset, place in enumerate(places):
        reading = store.read("t", place)
        assert reading.head == places[-1]
        assert reading.complete == (offset >= len(sent) - len(kept))
        expected = sent[offset:] if reading.complete else list(kept)
        assert [message.data for message in reading.messages] == expected


def kept(store: Store) -> int:
    """Bytes of messages in memory, and nothing else: reading would drop some."""
    return sum(len(message.data) for log in store._logs.values() for message in log.messages)


def test_what_is_too_old_is_forgotten_when_other_topics_are_published_to() -> None:
    now = [0.0]
    store = Store(SETTINGS, lambda: now[0])
    for number in range(50):
        publish(store, b"12345", topic=f"answer:{number}", keep=Retention(100, 1000, 1.0))
    publish(store, b"lasting", topic="u", keep=Retention(100, 1000, 600.0))
    now[0] = 2.0
    publish(store, b"", topic="t")
    assert kept(store) == len(b"lasting")
    assert store.head("answer:7").offset == 1, "the place is still known"


def test_a_topic_whose_messages_are_kept_for_a_shorter_time_from_now_on() -> None:
    now = [0.0]
    store = Store(SETTINGS, lambda: now[0])
    publish(store, b"a", keep=Retention(100, 1000, 600.0))
    publish(store, b"b", keep=Retention(100, 1000, 1.0))
    now[0] = 2.0
    store.expire()
    assert not kept(store)


def test_each_turn_forgets_a_bounded_number() -> None:
    now = [0.0]
    store = Store(SETTINGS, lambda: now[0])
    for _ in range(1000):
        publish(store, b"1", keep=Retention(10_000, 10_000, 1.0))
    now[0] = 2.0
    turns, before = 0, kept(store)
    while store.expire() is not None:
        assert before - kept(store) <= 100
        turns, before = turns + 1, kept(store)
    assert not kept(store)
    assert turns < 20


def test_a_key_is_forgotten_with_the_messages_but_not_within_a_minute() -> None:
    now = [0.0]
    store = Store(SETTINGS, lambda: now[0])
    keep = Retention(3, 1000, 1.0)
    first = publish(store, b"a", key="k", keep=keep)
    now[0] = 59.0
    assert store.expire() == pytest.approx(1.0)
    assert publish(store, b"a", key="k", keep=keep) == first
    now[0] = 61.0
    assert store.expire() is None
    assert publish(store, b"a", key="k", keep=keep) != first


def test_what_is_planned_for_topics_that_are_forgotten_is_bounded() -> None:
    store = Store(Settings(max_topics=10))
    for number in range(5000):
        publish(store, b"1", topic=f"t:{number}")
    assert len(store._plans) < 1100


def test_all_topics_together_take_a_bounded_memory() -> None:
    store = Store(Settings(max_memory=10 * (744 + 256), max_topics=30))
    for number in range(100):
        publish(store, b"x" * 744, topic=f"t:{number}", key="k", keep=Retention(100, 10_000, 100.0 + number))
        assert kept(store) == min(number + 1, 10) * 744
    assert not store.read("t:89", BEGINNING).complete
    assert store.read("t:90", BEGINNING).messages
    publish(store, b"x" * 9744, topic="t", keep=Retention(100, 10_000, 900.0))
    assert kept(store) == 9744


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 300), st.integers(0, 9), st.integers(0, 9))))
def test_the_memory_is_counted_right(sent: list[tuple[str, int, int, int]]) -> None:
    now = [0.0]
    store = Store(Settings(max_memory=1500, max_topics=2), lambda: now[0])
    for topic, size, age, pause in sent:
        publish(store, bytes(size), topic=topic, keep=Retention(5, 500, float(age)))
        now[0] += pause
        store.read(topic, BEGINNING)
        assert store._memory == sum(len(each.data) + 256 for log in store._logs.values() for each in log.messages)
        assert store._memory <= 1500
        assert all(log.due is not None for log in store._logs.values() if log.messages)


async def test_what_is_too_old_is_forgotten_where_nothing_more_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowserve.topics.local.store._LONGEST_TURN", 0.01)
    monkeypatch.setattr("flowserve.topics.local.store._GRAIN", 0.0)
    backplane = MemoryBackplane(SETTINGS)
    for number in range(500):
        await backplane.publish(f"t:{number}", b"1", Kind.TEXT, None, "", Retention(100, 1000, 0.0))
    await until(lambda: not kept(backplane._store))
    await until(lambda: backplane._sweep._timer is None)
    await backplane.publish("t", b"1", Kind.TEXT, None, "", Retention(100, 1000, 600.0))
    await backplane.close()
    assert backplane._sweep._timer is None
