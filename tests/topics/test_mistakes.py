"""What newcomers do wrong with topics: it is said what is wrong, and what to do, and nothing is lost in silence."""

from __future__ import annotations

import array
import asyncio
import json
import logging
import threading
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect
from support.helpers import until, within
from support.redis_server import RedisServer, redis_needed
from support.topic_rooms import OpenRoom, Room

import flowserve
from flowserve import ClientDisconnected, ConfigError, topics
from flowserve.errors import TopicsError
from flowserve.topics.hub import current
from flowserve.topics.position import BEGINNING

# Who publishes


async def test_the_program_around_a_server_publishes_to_its_clients() -> None:
    """No server has called it, but there is one in this event loop."""

    async def handler(ws: flowserve.WebSocket) -> None:
        await topics.subscribe(ws, "ticks")
        await ws.wait_closed()

    async with (
        flowserve.serve(handler, "127.0.0.1", 0) as server,
        flowserve.connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", proxy=None) as client,
    ):
        hub = current.current_source().hub
        await until(lambda: "ticks" in hub._topics and not hub._topics["ticks"].empty)
        await topics.publish("ticks", "1")
        assert await within(client.recv()) == "1"
        heard = topics.listen("ticks", since=topics.START)
        assert (await within(anext(heard))).text == "1"
        await heard.aclose()


async def test_a_call_from_a_thread_into_the_servers_event_loop(room: Room) -> None:
    """As of clients of MQTT, whose threads know nothing of context variables."""
    guest = await room.guest("t")
    loop = asyncio.get_running_loop()
    thread = threading.Thread(
        target=lambda: asyncio.run_coroutine_threadsafe(topics.publish("t", "from a thread"), loop).result(10)
    )
    thread.start()
    assert await guest.client.message() == "from a thread"
    await asyncio.to_thread(thread.join)


async def test_several_servers_in_one_event_loop(open_room: OpenRoom) -> None:
    rooms = [await open_room(), await open_room()]
    with pytest.raises(RuntimeError, match="several servers run in this event loop"):
        await topics.publish("t", "whose?")
    await rooms[0].server.server.shutdown()
    guest = await rooms[1].guest("t")
    await topics.publish("t", "that of the other")
    assert await guest.client.message() == "that of the other"


def test_nobody_has_called_and_it_is_said_once(logs: Any) -> None:
    current._warn_once.cache_clear()
    loops = [asyncio.new_event_loop() for _ in range(2)]
    for loop in loops:
        loop.run_until_complete(topics.publish("t", "x"))
    (line,) = logs.lines(level=logging.WARNING)
    assert "no server of flowserve has called this code" in line
    assert "topics.connect()" in line
    for loop in loops:
        loop.close()


# Names, data, keys


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        (5, TypeError, "a topic's name is str, not int"),
        (b"news", TypeError, "a topic's name is str, not bytes"),
        (None, TypeError, "a topic's name is str, not NoneType"),
        (["a", "b"], TypeError, "a topic's name is str, not list"),
        ("", TopicsError, "a topic's name has 1 to 200 characters, not 0"),
        ("x" * 10_000, TopicsError, "a topic's name has 1 to 200 characters, not 10000"),
        ("room:\udcff", TopicsError, r"a topic's name can't be written in UTF-8: 'room:\\udcff': surrogates"),
    ],
)
async def test_names(room: Room, name: Any, error: type[Exception], says: str) -> None:
    """The same everywhere, and whatever carries the messages."""
    _, act = await room.open()
    for call in (
        lambda: topics.publish(name, "x"),
        lambda: topics.subscribe(act.scope, name),
        lambda: topics.stream(name).write("x"),
        lambda: anext(topics.listen(name)),
    ):
        with pytest.raises(error, match=says):
            await room.run(call())  # type: ignore[no-untyped-call]
    assert room.quiet


async def test_names_beyond_ascii(room: Room) -> None:
    guest = await room.guest("r\u00e4ume/\N{WAVING HAND SIGN}", envelope="json")
    await room.publish("r\u00e4ume/\N{WAVING HAND SIGN}", "x")
    assert json.loads(await guest.client.message())["topic"] == "r\u00e4ume/\N{WAVING HAND SIGN}"


async def test_data(room: Room) -> None:
    guest = await room.guest("t")
    for data in (
        b"\1\0",
        bytearray(b"\1\0"),
        memoryview(b"\1\0"),
        memoryview(b"\1_\0_")[::2],
        array.array("B", [1, 0]),
    ):
        await room.publish("t", data=data)
        assert await guest.client.message() == b"\1\0"
    for wrong, says in (
        ({"data": {"a": 1}}, "data is bytes, not dict; for other values write json="),
        ({"data": "x"}, "data is bytes, not str"),
        ({"text": {"a": 1}}, "text is str, not dict; write data=... for bytes, json=... for others"),
        ({"json": {1, 2}}, "not JSON serializable"),
    ):
        with pytest.raises(TypeError, match=says):
            await room.publish("t", **wrong)
    for unwritable in ({"text": "\ud800"}, {"text": "x", "key": "\ud800"}):
        with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
            await room.publish("t", **unwritable)


async def test_a_key_is_as_long_as_it_says(room: Room) -> None:
    first = await room.publish("t", "x", key="\u00fc" * 200)
    assert await room.publish("t", "y", key="\u00fc" * 200) == first
    stream = topics.stream("s")
    for publish in (topics.publish("t", "z", key="k" * 201), stream.write("z", key="k" * 201)):
        with pytest.raises(TopicsError, match="a key has 200 characters at most, not 201"):
            await room.run(publish)


@pytest.mark.parametrize("value", ["half \ud83d", {"\udc00": "\u00e9 \ud83d"}, "\N{WAVING HAND SIGN}", "\ud83d\udc4b"])
async def test_half_characters_in_json(room: Room, value: Any) -> None:
    """Peers can send them escaped, and they are passed on as such."""
    guest = await room.guest("t")
    await room.publish("t", json=value)
    assert json.loads(await guest.client.message()) == json.loads(json.dumps(value))


# Parameters of subscribe()


async def wrong_async(message: topics.Message) -> str:
    return ""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"envelope": "xml"}, "envelope is None, 'json' or a function, not 'xml'"),
        ({"envelope": wrong_async}, "envelope is a function without async"),
        ({"policy": "block"}, "policy is None, 'wait', 'close', 'drop' or 'conflate', not 'block'"),
        ({"policy": True}, "policy is None, 'wait', 'close', 'drop' or 'conflate', not True"),
        ({"since": 5}, "since is a position or a mapping from topics to positions, not int"),
        ({"since": b"x"}, "since is a position or a mapping from topics to positions, not bytes"),
    ],
)
async def test_parameters(room: Room, options: dict[str, Any], says: str) -> None:
    _, act = await room.open()
    with pytest.raises(TypeError, match=says):
        await room.subscribe(act.scope, "t", **options)
    assert room.quiet


@pytest.mark.parametrize("since", ["", "null", "undefined", "0", "...", "*.1.", "\ud800", "x" * 100_000])
async def test_positions_that_are_none(room: Room, since: str) -> None:
    """They come from clients: no error, but a gap, and what comes."""
    head = await room.publish("t", "old")
    for given in (since, {"t": since, "u": since}):
        guest = await room.guest("t", since=given, envelope="json")
        assert guest.subscription.recovered["t"] is False
        assert json.loads(await guest.client.message()) == {"topic": "t", "gap": True, "position": head}


@pytest.mark.parametrize("since", [5, [], {}, True])
async def test_positions_of_other_types(room: Room, since: Any) -> None:
    """In JSON that a client sent."""
    guest = await room.guest("t", since={"t": since}, envelope="json")
    assert guest.subscription.recovered == {"t": False}
    guest = await room.guest("t", since={"t": None}, envelope="json")
    assert guest.subscription.recovered == {}


@pytest.mark.app_fails
async def test_what_an_envelope_returns(room: Room, logs: Any) -> None:
    guest = await room.guest("t", envelope=lambda message: {"text": message.text})
    await room.publish("t", "x")
    assert await guest.client.close_frame() == (1013, "messages were lost")
    (record,) = [each for each in logs.records if each.levelno >= logging.ERROR]
    assert str(record.exc_info[1]) == "the envelope has returned dict; it returns str or bytes"


async def test_a_new_envelope_for_each_websocket(room: Room) -> None:
    """A message in the history does not keep what all of them have made."""
    guests = [await room.guest("t", envelope=lambda message, own=own: f"{own} {message.text}") for own in range(40)]
    await room.publish("t", "x")
    assert [await guest.client.message() for guest in guests] == [f"{own} x" for own in range(40)]
    reading = await room.hub.read("t", BEGINNING)
    assert 0 < len(reading.messages[0].wrapped or ()) <= 16


# When


async def test_twice(room: Room) -> None:
    """The second says where it is, too; its end leaves the first one alone."""
    guest = await room.guest("a")
    first = await room.publish("a", "1")
    second = await room.subscribe(guest.act.scope, "a", "b", since={"a": topics.START})
    assert second.position["a"] == first
    assert set(second.position) == {"a", "b"}
    assert second.recovered == {"a": False}  # nothing was delivered again
    assert (await room.subscribe(guest.act.scope, "a", since=first)).recovered == {"a": True}
    for _ in range(2):
        await room.run(second.unsubscribe())
    await room.publish("b", "no more")
    await room.publish("a", "2")
    assert [await guest.client.message() for _ in range(2)] == ["1", "2"]
    for _ in range(2):
        await room.run(guest.subscription.unsubscribe("a", "never"))
    assert room.quiet


class Renderer:
    """Whose methods are made anew each time they are named."""

    def render(self, message: topics.Message) -> str:
        return f"rendered {message.text}"


async def test_a_method_as_envelope(room: Room) -> None:
    renderer = Renderer()
    guest = await room.guest("t", envelope=renderer.render)
    await room.subscribe(guest.act.scope, "t", envelope=renderer.render)
    await room.publish("t", "1")
    await room.publish("t", "2")
    assert [await guest.client.message() for _ in range(2)] == ["rendered 1", "rendered 2"]


async def test_after_the_end(room: Room) -> None:
    guest = await room.guest("t")
    await guest.act.send({"type": "websocket.close"})
    await guest.client.close_frame()
    with pytest.raises(ClientDisconnected):
        await room.subscribe(guest.act.scope, "u")
    await room.publish("t", "x", exclude=guest.act.scope)
    await room.run(guest.subscription.unsubscribe())
    assert room.quiet


async def ignore(message: Any) -> None:
    pass


async def test_before_and_after_under_other_servers() -> None:
    """As under flowserve: not in silence."""
    events = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1001}]

    async def receive() -> Any:
        return events.pop(0)

    websocket = WebSocket({"type": "websocket", "path": "/", "headers": []}, receive, ignore)
    with pytest.raises(RuntimeError, match="accept the WebSocket before it is subscribed"):
        await topics.subscribe(websocket, "t")
    await websocket.accept()
    await topics.subscribe(websocket, "t")
    with pytest.raises(WebSocketDisconnect):
        await websocket.receive_text()
    with pytest.raises(ClientDisconnected):
        await topics.subscribe(websocket, "u")


class Framed:
    """As a WebSocket of Litestar, without a middleware for sessions."""

    def __init__(self, scope: Any) -> None:
        self.scope = scope

    @property
    def session(self) -> Any:
        raise RuntimeError("there is no session")


async def test_a_framework_with_sessions_of_its_own(room: Room) -> None:
    client, act = await room.open()
    await room.subscribe(Framed(act.scope), "t")
    await room.publish("t", "1", exclude=Framed(act.scope))
    await room.publish("t", "2")
    assert await client.message() == "2"


# Programs


@pytest.mark.parametrize(
    ("url", "error", "says"),
    [
        (None, TypeError, "the URL is str, not NoneType"),
        ("localhost:6379", ConfigError, "localhost: reaches no other process; write redis:"),
        ("redis:localhost", ConfigError, "the URL 'redis:localhost' is wrong: it begins with one of redis://"),
        ("redis://127.0.0.1:1", TopicsError, "nothing can be reached at redis://127.0.0.1:1"),
        ("redis://:secret@127.0.0.1:1", TopicsError, r"nothing can be reached at redis://\*\*\*@127.0.0.1:1"),
        ("redis://127.0.0.1:1?password=secret", TopicsError, "nothing can be reached at redis://127.0.0.1:1"),
    ],
)
async def test_urls(url: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as raised:
        await topics.connect(url).__aenter__()
    assert "secret" not in str(raised.value)


@redis_needed
async def test_a_wrong_password(redis: RedisServer) -> None:
    await redis.call("CONFIG", "SET", "requirepass", "right")
    for password in ("", "?password=wrong"):
        with pytest.raises(TopicsError, match=r"Redis at .* answers: (NOAUTH|WRONGPASS)"):
            await topics.connect(redis.url + password).__aenter__()
    async with topics.connect(f"{redis.url}?password=right") as connection:
        assert await connection.publish("t", "x")
