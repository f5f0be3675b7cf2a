"""What is stored in Redis: limits, positions, batches that are repeated; and the format of messages."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.redis_server import redis_needed

from flowserve.topics.message import Kind
from flowserve.topics.position import BEGINNING, NOWHERE, Place
from flowserve.topics.redis.scripts import (
    MALFORMED,
    SCRIPTS,
    PublishCommand,
    decode_log,
    decode_pushed,
    encode_record,
    escape,
    head_command,
    keys_of,
    read_command,
)
from flowserve.topics.settings import Retention

KEYS = keys_of("flowserve:", "t", "me")
PLENTY = Retention(1000, 1 << 20, 3600.0)


def words_of(command: bytes) -> list[bytes]:
    """Return the words of a command on the wire."""
    reader = hiredis.Reader()
    reader.feed(command)
    words: list[bytes] = reader.gets()
    assert not reader.has_data()
    return words


class Topic:
    """One topic in Redis, by its scripts alone."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._number = 0

    async def publish(self, *checks: str, retention: Retention = PLENTY, number: int = 0, data: bytes = b"x") -> str:
        """Publish messages with these checks."""
        self._number = number or self._number + 1
        records = [encode_record(data, Kind.TEXT, False, "o", check * 8) for check in checks]
        answer = await self._redis.call(*words_of(PublishCommand(KEYS)(self._number, retention, records, [])))
        assert isinstance(answer, str), answer
        return answer

    async def head(self) -> Place:
        epoch, offset, check = await self._redis.call(*head_command(KEYS))
        return Place(epoch, offset, check)

    async def read(self, after: Place) -> tuple[bool, int, int]:
        """Whether it is complete, the offset after which messages are returned, and their number."""
        answer = await self._redis.call(*read_command(KEYS, after))
        return bool(answer[3]), answer[4], len(answer[6]) if len(answer) > 6 else 0


@pytest.fixture
async def topic(redis):
    for text in SCRIPTS:
        await redis.call("SCRIPT", "LOAD", text)
    return Topic(redis)


@redis_needed
async def test_offsets_are_dense(topic):
    before = await topic.head()
    assert (before.offset, before.check) == (0, "0" * 8)
    assert await topic.publish("a", "b") == f"{before.epoch} 1"
    assert await topic.publish("c") == f"{before.epoch} 3"
    assert await topic.head() == Place(before.epoch, 3, "c" * 8)
    assert await topic.read(before) == (True, 0, 3)


@redis_needed
async def test_a_batch_that_comes_again_is_not_applied_again(topic):
    first = await topic.publish("a", "b", number=7)
    assert await topic.publish("a", "b", number=7) == first
    second = await topic.publish("c", number=9)
    assert await topic.publish("d", number=8) == second  # one that was given up, and comes late; nobody reads this
    assert (await topic.head()).offset == 3


@redis_needed
async def test_the_number_of_messages_is_limited(topic):
    start = await topic.head()
    few = PLENTY._replace(messages=3)
    await topic.publish("a", retention=few)
    await topic.publish("b", "c", "d", "e", retention=few)
    assert await topic.read(start) == (False, 2, 3)
    assert await topic.read(Place(start.epoch, 2, "b" * 8)) == (True, 2, 3)
    assert await topic.read(Place(start.epoch, 2, "0" * 8)) == (False, 2, 3)
    assert await topic.read(Place(start.epoch, 1, "a" * 8)) == (False, 2, 3)


@redis_needed
async def test_their_bytes_are_limited(topic):
    start = await topic.head()
    small = PLENTY._replace(size=1000)
    for check in "abcde":
        await topic.publish(check, retention=small, data=b"x" * 300)
    assert await topic.read(start) == (False, 2, 3)
    await topic.publish("f", retention=small, data=b"x" * 2000)
    assert await topic.read(start) == (False, 6, 0)
    assert await topic.read(Place(start.epoch, 6, "f" * 8)) == (True, 6, 0)
    await topic.publish("1", retention=small)
    assert await topic.read(Place(start.epoch, 6, "f" * 8)) == (True, 6, 1)


@redis_needed
async def test_their_age_is_limited(topic, redis):
    start = await topic.head()
    await topic.publish("a", "b", retention=PLENTY._replace(age=100.0))
    entries = await redis.call("LRANGE", "flowserve:{t}:log", 0, -1)
    assert len(entries) == 2
    await topic.publish("c", retention=PLENTY._replace(age=0.001))  # of all, from now on
    while (await topic.read(start))[1] < 3:
        pass
    assert await topic.read(Place(start.epoch, 3, "c" * 8)) == (True, 3, 0)
    assert await topic.read(Place(start.epoch, 2, "b" * 8)) == (False, 3, 0)


@redis_needed
async def test_a_log_that_was_rolled_back_returns_nothing_twice(topic, redis):
    start = await topic.head()
    await topic.publish("a", "b")
    saved = await redis.call("GET", "flowserve:{t}:head")
    await topic.publish("c", "d")
    await redis.call("SET", "flowserve:{t}:head", saved)
    await redis.call("LTRIM", "flowserve:{t}:log", 0, 1)
    lost = Place(start.epoch, 4, "d" * 8)
    assert await topic.read(lost) == (False, 2, 0)
    await topic.publish("1", "2", "3")
    assert await topic.read(lost) == (False, 4, 1)
    assert await topic.read(Place(start.epoch, 2, "b" * 8)) == (True, 2, 3)


@redis_needed
async def milliseconds(redis):
    seconds, micros = map(int, await redis.call("TIME"))
    return seconds * 1000 + micros // 1000


async def test_a_topic_that_was_forgotten_begins_a_new_epoch(topic, redis):
    before = await topic.head()
    await topic.publish("a", "b")
    await redis.call("DEL", "flowserve:{t}:head")
    while await milliseconds(redis) <= int(before.epoch[:11], 16):  # an epoch begins with its time
        pass
    await topic.publish("c")
    after = await topic.head()
    assert (after.offset, after.epoch > before.epoch) == (1, True)
    assert await topic.read(before) == (False, 0, 1)
    newer = Place("f" * 16, 1, "c" * 8)  # who has read that has read this
    assert await topic.read(newer) == (False, 1, 0)
    assert await topic.read(NOWHERE) == (False, 1, 0)
    assert await topic.read(BEGINNING) == (True, 0, 1)


# The format

messages = st.lists(st.tuples(st.binary(max_size=300), st.sampled_from(Kind), st.booleans(), st.text(max_size=40)))


@given(messages)
def test_messages_come_back_as_they_were(items):
    records = [
        encode_record(data, kind, keyed, origin, f"{n:08x}") for n, (data, kind, keyed, origin) in enumerate(items)
    ]
    head = b"0123456789abcdef" + (5).to_bytes(8, "big") + (1500).to_bytes(8, "big")
    pushed = list(decode_pushed("t", head + b"".join(records)))
    stored = list(decode_log("t", "0123456789abcdef", 5, [(1500).to_bytes(8, "big") + each for each in records]))
    for found in (pushed, stored):
        assert [(each.data, each.kind, each.origin) for each in found] == [(a, b, d) for a, b, _, d in items]
        assert [each.place for each in found] == [
            Place("0123456789abcdef", 5 + n, f"{n:08x}") for n in range(len(items))
        ]
        assert all((each.topic, each.published_at) == ("t", 1.5) for each in found)


@given(st.binary(max_size=200))
def test_nonsense_is_noticed(data):
    for decode in (lambda: list(decode_pushed("t", data)), lambda: list(decode_log("t", "e", 1, [data]))):
        try:
            decode()
        except MALFORMED:
            pass


@pytest.mark.parametrize(("sharded", "word"), [(False, b"PUBLISH"), (True, b"SPUBLISH")])
def test_a_command_is_what_a_client_packs(sharded: bool, word: bytes) -> None:
    publish = PublishCommand(KEYS, sharded)
    for number, retention, records, keyed in (
        (1, Retention(100, 4096, 300.0), [b"x" * 30], []),
        (123456, Retention(100, 4096, 300.0), [b"\r\n" * 50, b"y"], [KEYS.of_key("a")]),
        (9, Retention(0, 0, 0.0), [], [KEYS.of_key("a"), KEYS.of_key("b")]),
    ):
        command = publish(number, retention, records, keyed)
        words = words_of(command)
        assert hiredis.pack_command(tuple(words)) == command
        age = max(1, int(retention.age * 1000))
        limits = [b"%d" % each for each in (retention.messages, retention.size, age)]
        assert words[2:6] == [b"%d" % (3 + len(keyed)), KEYS.head, KEYS.log, KEYS.producer]
        begin, random = 6 + len(keyed), words[9 + len(keyed)]
        assert words[6:begin] == keyed
        assert words[begin:] == [KEYS.channel, word, b"%d" % number, random, *limits, *records]
        assert len(random) == 5


@given(st.lists(st.text(alphabet="a{}%25:7D", min_size=1), unique=True))
def test_topics_have_keys_of_their_own_in_one_slot(names):
    keys = [keys_of("p:", escape(name), "me")[:4] for name in names]
    assert len({key for each in keys for key in each}) == 4 * len(names)
    for each in keys:
        tags = {key.partition(b"{")[2].partition(b"}")[0] for key in each}
        assert len(tags) == 1
        assert tags != {b""}
