"""WebSockets that the server writes published messages to: envelopes, resuming, slow clients, compression."""

from __future__ import annotations

import asyncio
import gc
import json
import zlib
from contextlib import suppress
from typing import Any

import pytest
from support.helpers import BINARY, TEXT, Act, Client, frame, until, within
from support.topic_rooms import OpenRoom, Room

from flowserve import ClientDisconnected, topics
from flowserve.errors import TopicsError
from flowserve.topics.subscribers.session import _unused

pytestmark = pytest.mark.both_loops


def session_of(act: Act) -> Any:
    return act.scope["extensions"]["flowserve.topics"].session


async def events(client: Client, count: int) -> list[dict[str, object]]:
    """Messages in the envelope "json"."""
    return [json.loads(await client.message()) for _ in range(count)]


# What is delivered


async def test_each_message_once_and_in_order(room: Room) -> None:
    """Promise 2, without faults: two topics, three clients, hundreds of messages in few event loop iterations."""
    guests = [await room.guest("a", "b") for _ in range(3)]

    async def publish_all() -> None:
        for number in range(300):
            await topics.publish("a" if number % 3 else "b", str(number))

    await room.run(publish_all())
    for guest in guests:
        assert [await guest.client.message() for _ in range(300)] == [str(number) for number in range(300)]


async def test_kinds_of_messages(room: Room) -> None:
    guest = await room.guest("t")
    await room.publish("t", "gr\u00fc\u00dfe")
    await room.publish("t", data=memoryview(b"\0\xff"))
    await room.publish("t", json={"a": [1, None]})
    assert await guest.client.frame() == (TEXT, "gr\u00fc\u00dfe".encode(), True, 0)
    assert await guest.client.frame() == (BINARY, b"\0\xff", True, 0)
    assert await guest.client.frame() == (TEXT, b'{"a":[1,null]}', True, 0)


async def test_the_envelope_json(room: Room) -> None:
    guest = await room.guest("t", envelope="json")
    positions = [
        await room.publish("t", 'say "hi"'),
        await room.publish("t", json=[1, {"b": None}]),
        await room.publish("t", data=b"\0\xff"),
        await room.run(topics.stream("t").end()),
    ]
    assert await events(guest.client, 4) == [
        {"topic": "t", "position": positions[0], "data": 'say "hi"'},
        {"topic": "t", "position": positions[1], "data": [1, {"b": None}]},
        {"topic": "t", "position": positions[2], "data": "AP8=", "encoding": "base64"},
        {"topic": "t", "position": positions[3], "end": True},
    ]


async def test_a_function_as_envelope_is_called_once_a_message(room: Room) -> None:
    calls: list[str] = []

    def shout(message: topics.Message) -> str | bytes:
        calls.append(message.text)
        return message.text.upper() if message.text != "raw" else b"\1"

    guests = [await room.guest("t", envelope=shout) for _ in range(5)]
    plain = await room.guest("t")
    await room.publish("t", "hello")
    await room.publish("t", "raw")
    for guest in guests:
        assert await guest.client.message() == "HELLO"
        assert await guest.client.message() == b"\1"
    assert await plain.client.message() == "hello"
    assert calls == ["hello", "raw"]


@pytest.mark.app_fails
async def test_an_envelope_that_raises(room: Room, logs) -> None:
    """It is logged once, and those who want it are told; nobody else notices."""

    def bad(message: topics.Message) -> str:
        raise ZeroDivisionError("in the envelope")

    broken = [await room.guest("t", envelope=bad) for _ in range(2)]
    plain = await room.guest("t")
    assert await room.publish("t", "x")
    assert await plain.client.message() == "x"
    for guest in broken:
        assert await guest.client.close_frame() == (1013, "messages were lost")
    assert len(logs.errors) == 1
    assert "The envelope of the topic 't' failed" in logs.errors[0]


class Unable:
    """An envelope that can't hold some messages, and whose gap() fails."""

    def __init__(self, told: object) -> None:
        self.told = told

    def __call__(self, message: topics.Message) -> str:
        if message.text == "bad":
            raise ZeroDivisionError("in the envelope")
        return message.text

    def gap(self, topic: str, position: topics.Position) -> object:
        if self.told == "raises":
            raise ZeroDivisionError("in gap()")
        return self.told


@pytest.mark.app_fails
@pytest.mark.parametrize("told", ["raises", None, 5, "\ud800"])
async def test_an_envelope_that_fails_to_tell_a_gap(room: Room, logs, told: object) -> None:
    """As with one that can't tell gaps. Others get all, before and after it in the topic."""
    plain = [await room.guest("t")]
    envelope: Any = Unable(told)
    broken = [await room.guest("t", envelope=envelope) for _ in range(2)]
    plain += [await room.guest("t"), await room.guest("t", envelope=lambda message: message.text)]
    assert await room.publish("t", "one")
    for guest in broken:
        assert await guest.client.message() == "one"
    for text in ("bad", "two"):
        assert await room.publish("t", text)
    for guest in broken:
        assert await guest.client.close_frame() == (1013, "messages were lost")
    for guest in plain:
        assert [await guest.client.message() for _ in range(3)] == ["one", "bad", "two"]
    assert ["failed to tell a gap" in each for each in logs.errors] == [False, True]


@pytest.mark.app_fails
async def test_a_gap_that_no_message_is_behind(room: Room, logs) -> None:
    """The first of them is told so before subscribe() returns; the policy "drop" leaves it at that."""
    envelope: Any = Unable("raises")
    guest = await room.guest("t", since="garbage", envelope=envelope)
    assert guest.subscription.recovered == {"t": False}
    assert await guest.client.close_frame() == (1013, "messages were lost")
    dropping = await room.guest("t", since="garbage", envelope=envelope, policy="drop")
    await room.publish("t", "one")
    assert await dropping.client.message() == "one"
    assert len(logs.errors) == 1


async def test_a_gap_in_bytes(room: Room) -> None:
    envelope: Any = Unable(b"gap")
    guest = await room.guest("t", since="garbage", envelope=envelope)
    assert await guest.client.message() == b"gap"


async def test_exclude(room: Room) -> None:
    guests = [await room.guest("t") for _ in range(3)]
    await room.publish("t", "1", exclude=guests[1].act.scope)
    await room.publish("t", "2")
    assert [await guests[0].client.message() for _ in range(2)] == ["1", "2"]
    assert await guests[1].client.message() == "2"
    assert [await guests[2].client.message() for _ in range(2)] == ["1", "2"]
    assert not room.hub.excluded


async def test_exclude_of_a_websocket_with_several_subscriptions(room: Room) -> None:
    """Two policies with one envelope, and another envelope."""
    guest = await room.guest("t", policy="wait")
    other = await room.guest("t")
    await room.subscribe(guest.act.scope, "t", policy="close")
    await room.subscribe(guest.act.scope, "t", envelope="json")
    await room.publish("t", "1", exclude=guest.act.scope)
    await room.publish("t", "2")
    got = [await guest.client.message() for _ in range(3)]
    assert sorted(json.loads(text)["data"] if text[0] == "{" else text for text in map(str, got)) == ["2"] * 3
    assert [await other.client.message() for _ in range(2)] == ["1", "2"]


async def test_a_direct_send_keeps_its_place(room: Room) -> None:
    guest = await room.guest("t")

    async def talk() -> None:
        for number in range(0, 60, 3):
            await topics.publish("t", str(number))
            await guest.act.raw_send({"type": "websocket.send", "text": str(number + 1)})
            await topics.publish("t", str(number + 2))

    await room.run(talk())
    assert [await guest.client.message() for _ in range(60)] == [str(number) for number in range(60)]


async def test_pings_and_messages_of_a_subscribed_client_arrive(room: Room) -> None:
    """A subscription stands between the session and its monitor."""
    guest = await room.guest("t")
    await guest.client.send_frame(0x9, b"are you there")
    assert await guest.client.frame() == (0xA, b"are you there", True, 0)
    await guest.client.send_text("hello")
    assert (await guest.act.receive())["text"] == "hello"


async def test_a_key(room: Room) -> None:
    """Promise 4: a publish with a key can be repeated."""
    guest = await room.guest("t")
    first = await room.publish("t", "once", key="k")
    assert await room.publish("t", "once", key="k") == first
    await room.publish("t", "else", key="")
    assert [await guest.client.message() for _ in range(2)] == ["once", "else"]


# Ends


async def test_unsubscribe(room: Room) -> None:
    """A message of before the call still arrives, one of after it does not; the other topic goes on."""
    guest = await room.guest("a", "b")
    await room.publish("a", "1")
    await room.run(guest.subscription.unsubscribe("a"))
    await room.publish("a", "2")
    await room.publish("b", "3")
    assert [await guest.client.message() for _ in range(2)] == ["1", "3"]
    await room.run(guest.subscription.unsubscribe())
    assert room.quiet


async def test_the_context_ends_the_subscription(room: Room) -> None:
    _, act = await room.open()

    async def briefly() -> None:
        async with await topics.subscribe(act.scope, "t") as subscription:
            assert set(subscription.position) == {"t"}
            assert not room.quiet

    await room.run(briefly())
    assert room.quiet


async def test_a_new_envelope_for_each_subscription_leaves_nothing_behind(room: Room) -> None:
    """They are chained between the session and its monitor while they have subscriptions, ended in any order."""
    client, act = await room.open()
    session = session_of(act)
    monitor = session.monitor

    async def begin() -> topics.Subscription:
        return await room.subscribe(act.scope, "t", envelope=lambda message: message.text)

    for _ in range(50):
        some = [await begin() for _ in range(3)]
        for index in (1, 0, 2):
            await room.run(some[index].unsubscribe())
        with pytest.raises(TopicsError):
            await room.subscribe(act.scope, "", envelope=lambda message: message.text)
        assert session.monitor is monitor
    del some
    await until(lambda: gc.collect() >= 0 and not _unused)  # exceptions have some of them
    await begin()
    await client.send_frame(0x9, b"still there?")
    assert await client.frame() == (0xA, b"still there?", True, 0)
    client.reset()
    await room.left()


async def test_more_envelopes_than_calls_can_be_nested(open_room: OpenRoom) -> None:
    room = await open_room(topics_max_per_connection=2000)
    client, act = await room.open()
    for _ in range(1200):
        await room.subscribe(act.scope, "t", envelope=lambda message: message.text)
    await client.send_frame(0x9, b"still there?")
    assert await client.frame() == (0xA, b"still there?", True, 0)
    client.reset()
    await room.left()


@pytest.mark.parametrize("turns", range(6))
async def test_the_only_subscription_ends_while_another_begins(room: Room, turns: int) -> None:
    """With the same envelope: both are of one subscriber, also while a third call begins."""
    guest = await room.guest("a", envelope="json")
    joining = [asyncio.ensure_future(room.subscribe(guest.act.scope, "b", envelope="json")) for _ in range(2)]
    for _ in range(turns):
        await asyncio.sleep(0)
    await room.run(guest.subscription.unsubscribe())
    await room.subscribe(guest.act.scope, "b", envelope="json")
    await asyncio.gather(*joining)
    await room.publish("b", "once")
    await room.publish("b", "then")
    assert [each["data"] for each in await events(guest.client, 2)] == ["once", "then"]
    guest.client.reset()
    await room.left()


async def test_a_client_that_leaves_leaves_nothing_behind(room: Room) -> None:
    guests = [await room.guest("t", f"own:{number}") for number in range(4)]
    guests[0].client.reset()
    guests[1].client.half_close()
    await guests[2].client.send_close(1000)
    guests[3].act.leave()
    await room.left()


@pytest.mark.parametrize("turns", range(8))
async def test_a_client_that_leaves_during_subscribe(room: Room, turns: int) -> None:
    """At each step of the call, with a history to be read; what it raises is of no matter then."""
    for number in range(3):
        await room.publish("t", str(number))
    _, act = await room.open()
    joining = asyncio.ensure_future(room.subscribe(act.scope, "t", since=topics.START))
    for _ in range(turns):
        await asyncio.sleep(0)
    session_of(act).stream.abort()
    with suppress(ClientDisconnected):
        await joining
    await room.left()


async def test_a_client_that_has_left_is_refused(room: Room) -> None:
    client, act = await room.open()
    client.reset()
    await act.disconnected()
    with pytest.raises(ClientDisconnected):
        await room.subscribe(act.scope, "t")
    assert room.quiet


async def test_before_the_websocket_is_accepted(room: Room) -> None:
    client = await room.connect(room.server)
    upgrading = asyncio.ensure_future(client.upgrade())
    act = await room.stage.next()
    with pytest.raises(RuntimeError, match="accept the WebSocket before it is subscribed to topics, or excluded"):
        await room.subscribe(act.scope, "t")
    with pytest.raises(RuntimeError, match="accept the WebSocket before"):
        await room.publish("t", "x", exclude=act.scope)
    await act.accept()
    await within(upgrading)
    await room.subscribe(act.scope, "t")


# Resuming


async def test_since(room: Room) -> None:
    """Promise 3: all that came after the position, once, then what comes."""
    positions = [await room.publish("t", str(number)) for number in range(10)]
    guest = await room.guest("t", since=positions[4])
    assert guest.subscription.recovered == {"t": True}
    assert guest.subscription.position == {"t": positions[-1]}
    await room.publish("t", "10")
    assert [await guest.client.message() for _ in range(6)] == ["5", "6", "7", "8", "9", "10"]


async def test_since_the_head(room: Room) -> None:
    head = await room.publish("t", "0")
    guest = await room.guest("t", since=head)
    assert guest.subscription.recovered == {"t": True}
    await room.publish("t", "1")
    assert await guest.client.message() == "1"


WRONG = {
    "garbage": "no position",
    "empty": "",
    "another epoch": "0000000000.1.00000000",
    "the check of another message": "{epoch}.2.00000000",
    "of the future": "{epoch}.ffff.00000000",
    "huge": "{epoch}." + "f" * 5000 + ".00000000",
    "surrogates": "\udcff.1.\udcff",
}


@pytest.mark.parametrize("kind", WRONG)
async def test_since_what_is_not_kept(room: Room, kind: str) -> None:
    """Promise 3: never in part, and the gap is told."""
    for number in range(3):
        head = await room.publish("t", str(number))
    since = WRONG[kind].format(epoch=head.partition(".")[0])
    guest = await room.guest("t", since={"t": since}, envelope="json")
    assert guest.subscription.recovered == {"t": False}
    last = await room.publish("t", "live")
    assert await events(guest.client, 2) == [
        {"topic": "t", "gap": True, "position": head},
        {"topic": "t", "position": last, "data": "live"},
    ]


async def test_a_gap_without_an_envelope_closes(room: Room) -> None:
    await room.publish("t", "0")
    guest = await room.guest("t", since="garbage")
    assert await guest.client.close_frame() == (1013, "messages were lost")


async def test_since_beyond_the_history(open_room: OpenRoom) -> None:
    room = await open_room(topics_history=3)
    positions = [await room.publish("t", str(number)) for number in range(10)]
    for index, complete in ((5, False), (6, True), (9, True)):
        guest = await room.guest("t", since=positions[index], envelope="json")
        assert guest.subscription.recovered == {"t": complete}
        if complete:
            assert [each["data"] for each in await events(guest.client, 9 - index)] == ["7", "8", "9"][index - 6 :]
        else:
            assert await events(guest.client, 1) == [{"topic": "t", "gap": True, "position": positions[-1]}]


async def test_without_history_nobody_resumes_and_live_goes_on(open_room: OpenRoom) -> None:
    room = await open_room(topics_history=0)
    first = await room.publish("t", "0")
    guest = await room.guest("t", since=first)
    assert guest.subscription.recovered == {"t": True}
    await room.publish("t", "1")
    assert await guest.client.message() == "1"
    late = await room.guest("t", since=first, envelope="json")
    assert late.subscription.recovered == {"t": False}


async def test_resuming_while_others_publish(room: Room) -> None:
    """No message between the history and what is live is lost or doubled."""
    since = await room.publish("t", "-1")

    async def publish_all() -> None:
        for number in range(90):
            await topics.publish("t", str(number))
            await asyncio.sleep(0)

    publishing = asyncio.ensure_future(room.run(publish_all()))
    guests = [await room.guest("t", since=since) for _ in range(10)]
    await publishing
    for guest in guests:
        assert [await guest.client.message() for _ in range(90)] == [str(number) for number in range(90)]
        assert guest.subscription.recovered == {"t": True}


# Limits


async def test_limits(open_room: OpenRoom) -> None:
    room = await open_room(topics_max_name=5, topics_max_size=10, topics_max_per_connection=2)
    guest = await room.guest("a", "b")
    with pytest.raises(TopicsError, match="can subscribe to 2 topics at most"):
        await room.subscribe(guest.act.scope, "c")
    with pytest.raises(TopicsError, match="1 to 5 characters, not 6"):
        await room.subscribe(guest.act.scope, "abcdef")
    with pytest.raises(TopicsError, match="11 bytes; at most 10"):
        await room.publish("a", "x" * 11)
    await room.publish("b", "still")
    assert await guest.client.message() == "still"


# Slow clients


async def flood(room: Room, number: int, size: int = 10_000) -> None:
    """Publish messages that begin with their number; each event loop iteration some."""

    async def publish_all() -> None:
        for each in range(number):
            await topics.publish("t", f"{each} ".ljust(size, "."))
            if not each % 10:
                await asyncio.sleep(0)

    await room.run(publish_all())


def number_of(message: str | bytes) -> int:
    return int(str(message).partition(" ")[0])


async def test_a_slow_client_waits_and_loses_nothing(open_room: OpenRoom) -> None:
    """It is not read from while 20 MB are published; memory for it is bounded, others get all at once."""
    room = await open_room(
        topics_history=2000, topics_history_size="32MiB", topics_max_pending="100KiB", timeout_keep_alive=60
    )
    slow_client, act = await room.open(receive_buffer=4096)
    await room.subscribe(act.scope, "t")
    fast = await room.guest("t")

    async def read_all(client: Client) -> list[int]:
        return [number_of(await client.message()) for _ in range(2000)]

    reading = asyncio.ensure_future(read_all(fast.client))
    await flood(room, 2000)
    assert await within(reading) == list(range(2000))
    (member,) = [each for group in room.hub._topics["t"]._groups.values() for each in group.members if each.backlog]
    assert member.backlog is not None
    assert sum(len(getattr(each, "data", b"")) for each in member.backlog.held) < 200_000
    assert session_of(act).connection.output_size < 400_000
    assert await within(read_all(slow_client)) == list(range(2000))
    await room.publish("t", "2000 ")
    assert number_of(await slow_client.message()) == 2000


async def test_a_slow_client_beyond_the_history_is_told(open_room: OpenRoom) -> None:
    room = await open_room(topics_history=5, topics_max_pending="20KiB")
    client, act = await room.open(receive_buffer=4096)
    await room.subscribe(act.scope, "t", envelope="json")
    await flood(room, 1500)
    last: int | None = None
    gaps = 0
    while last != 1499:
        event = json.loads(await client.message())
        if "gap" in event:
            gaps += 1
            last = None
            continue
        number = number_of(event["data"])
        assert last is None or number == last + 1, "nothing is missing without a gap"
        last = number
    assert gaps


async def test_a_slow_client_is_closed(open_room: OpenRoom) -> None:
    room = await open_room(ws_slow_consumer_mark="64KiB")
    client, act = await room.open(receive_buffer=4096)
    await room.subscribe(act.scope, "t", policy="close")
    await flood(room, 1500)
    expected = 0
    while (got := await client.frame()).opcode == TEXT:
        assert number_of(got.payload.decode()) == expected
        expected += 1
    assert (
        int.from_bytes(got.payload[:2], "big")
        == act.scope["extensions"]["flowserve.topics"].session.context.config.ws_slow_consumer_code
    )
    await client.rest()
    await room.left()


@pytest.mark.parametrize("configured", ["wait", "drop"])
async def test_messages_of_a_slow_client_are_dropped_and_it_is_told(open_room: OpenRoom, configured: str) -> None:
    room = await open_room(ws_slow_consumer=configured, ws_slow_consumer_mark="64KiB")
    client, act = await room.open(receive_buffer=4096)
    await room.subscribe(act.scope, "t", envelope="json", policy="drop")
    await flood(room, 1500)
    last = -1
    gaps = 0
    head = await room.publish("t", "1500 ")
    while True:
        event = json.loads(await client.message())
        if "gap" in event:
            gaps += 1
            if event["position"] == head:
                break
            event = json.loads(await client.message())
        elif number_of(event["data"]) != last + 1:
            raise AssertionError("nothing is missing without a gap")
        last = number_of(event["data"])
        if last == 1500:
            break
    assert gaps


@pytest.mark.parametrize("envelope", ["json", None])
async def test_a_slow_client_gets_the_newest_message_of_each_topic(open_room: OpenRoom, envelope: Any) -> None:
    room = await open_room(ws_slow_consumer_mark="64KiB")
    client, act = await room.open(receive_buffer=4096)
    await room.subscribe(act.scope, "t", "other", envelope=envelope, policy="conflate")
    await room.publish("other", "first ")
    await flood(room, 1500)
    for number in range(10):
        await room.publish("other", f"other{number} ")
    held = [each for topic in room.hub._topics.values() for group in topic._groups.values() for each in group.members]
    assert {len(each.backlog.held) for each in held if each.backlog is not None} == {2}  # a gap, and the newest one
    got: list[str | None] = []  # the first words of messages, None for a gap
    while not {"1499", "other9"} <= set(got):
        text = str(await client.message())
        text = json.loads(text).get("data", "") if envelope else text
        got.append(text.partition(" ")[0] or None)
    assert 20 < len(got) < 1400
    assert got[0] == "first"
    if envelope:  # a gap is told before each of the newest ones, and nowhere else
        assert [got[got.index(newest) - 1] for newest in ("1499", "other9")] == [None, None]
        assert got.count(None) == 2
    await room.publish("t", "live")
    text = str(await client.message())
    assert (json.loads(text)["data"] if envelope else text) == "live"
    await client.aclose()
    await room.left()


# Fragments and compression


async def test_a_gap_waits_for_the_end_of_a_message_in_fragments(open_room: OpenRoom) -> None:
    """RFC 6455 section 5.4: the fragments of one message must not be interleaved with those of another."""
    from flowserve.topics.position import Place

    room = await open_room(topics_history=1)
    guest = await room.guest("t", envelope="json")
    session = session_of(guest.act)
    session.connection.send_fragment(True, b"begin ", True, False)
    await room.publish("t", "meanwhile")
    room.hub._topics["t"]._tell_gap(session.monitor.members[0], Place("e", 1, "c"))
    session.connection.send_fragment(True, b"end", False, True)
    session.flush()
    assert (await guest.client.frame()).payload == b"begin "
    assert (await guest.client.frame()).payload == b"end"
    first, second = await events(guest.client, 2)
    assert first["data"] == "meanwhile"
    assert second["gap"] is True


OFFERS = {
    "shared": "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    "takeover": "permessage-deflate",
}


@pytest.mark.parametrize("size", [200, 300_000])
@pytest.mark.parametrize("kind", OFFERS)
async def test_compressed(open_room: OpenRoom, kind: str, size: int) -> None:
    """Small and large messages among direct ones, in order, for clients with and without compression."""
    room = await open_room(ws_per_message_deflate=True, ws_max_size=1 << 22)
    client, act = await room.open(f"Sec-WebSocket-Extensions: {OFFERS[kind]}")
    await room.subscribe(act.scope, "t")
    plain = await room.guest("t")
    texts = [f"{number} ".ljust(size, "a") + "b" for number in range(6)]

    async def talk() -> None:
        for number, text in enumerate(texts):
            if number % 3 == 2:
                await act.raw_send({"type": "websocket.send", "text": text})
            else:
                await topics.publish("t", text)

    await room.run(talk())
    inflater = zlib.decompressobj(-15)
    for text in texts:
        got = await client.frame()
        assert (got.opcode, got.fin) == (TEXT, True)
        if got.rsv:
            assert got.rsv == 4
            assert inflater.decompress(got.payload + b"\0\0\xff\xff").decode() == text
            if kind == "shared":
                inflater = zlib.decompressobj(-15)
        else:
            assert got.payload.decode() == text
    for number in (0, 1, 3, 4):
        assert await plain.client.message() == texts[number]


async def test_a_shared_message_is_compressed_once(open_room: OpenRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowserve.session.shared_message import SharedMessage

    made = []
    original = SharedMessage.compressed_payload

    def counted(self, deflater):
        made.append(id(self) if deflater not in self._payloads else None)
        return original(self, deflater)

    monkeypatch.setattr(SharedMessage, "compressed_payload", counted)
    room = await open_room(ws_per_message_deflate=True)
    clients = []
    for _ in range(5):
        client, act = await room.open(f"Sec-WebSocket-Extensions: {OFFERS['shared']}")
        await room.subscribe(act.scope, "t")
        clients.append(client)
    await room.publish("t", "hello " * 100)
    frames = [await client.frame() for client in clients]
    assert len(set(frames)) == 1
    assert frames[0].rsv == 4
    assert len([each for each in made if each is not None]) == 1


async def test_the_application_is_not_woken(room: Room) -> None:
    guest = await room.guest("t")
    waiting = asyncio.ensure_future(guest.act.raw_receive())
    await room.publish("t", "x")
    assert await guest.client.message() == "x"
    assert not waiting.done()
    await guest.client.raw(frame(TEXT, b"now"))
    await until(waiting.done)


async def test_the_limit_is_that_of_the_connection(open_room: OpenRoom) -> None:
    """Whatever envelopes and policies its subscriptions have, and though they are asked for at once."""
    room = await open_room(topics_max_per_connection=3)
    _, act = await room.open()
    calls = [
        room.subscribe(act.scope, f"t{number}", envelope="json" if number % 2 else None, policy="wait")
        for number in range(8)
    ]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(each, topics.Subscription) for each in found) == 3
    assert sum(isinstance(each, TopicsError) for each in found) == 5
