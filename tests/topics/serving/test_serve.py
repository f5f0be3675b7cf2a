"""Clients that subscribe by themselves, as flowserve/topics/PROTOCOL.md says."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.helpers import BINARY, TEXT, frame, until
from support.topic_requests import Requester

import flowserve
from flowserve import topics
from flowserve.topics.backplane import unknown_whether_published
from flowserve.topics.position import Place

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have the successor of HTTPX
    from starlette.testclient import TestClient

Start = Callable[..., Awaitable[Callable[..., Awaitable[Requester]]]]

SECRET = "0123456789abcdef"
ALL: Any = lambda topic, action: True  # noqa: E731


@pytest.fixture
def start(serve: Any, connect: Any) -> Start:
    """`open = await start(allow=...)`; `peer = await open()`. Arguments as for topics.serve(); `options` are those of
    the server."""

    async def begin(options: dict[str, Any] | None = None, **arguments: Any) -> Callable[..., Awaitable[Requester]]:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept", "subprotocol": topics.SUBPROTOCOL})
            await topics.serve(scope, receive=receive, send=send, **arguments)
            done.append(scope)

        done: list[Any] = []
        server = await serve(app, **(options or {}))

        async def open_one(**how: Any) -> Requester:
            client = await connect(server, **how)
            response = await client.upgrade("/", f"Sec-WebSocket-Protocol: {topics.SUBPROTOCOL}")
            assert response.header("sec-websocket-protocol") == "flowserve.topics.v1"
            return Requester(client)

        open_one.hub = lambda: server.server._running.topics.hub  # type: ignore[attr-defined]
        open_one.done = done  # type: ignore[attr-defined]
        return open_one

    return begin


# Requests


@pytest.mark.both_loops
async def test_subscribing_and_publishing(start: Start) -> None:
    opened = await start(allow=ALL)
    one, two = await opened(), await opened()
    began = await one.request("subscribe", topic="news")
    assert list(began) == ["position"]
    position = (await two.request("publish", topic="news", data="hello"))["position"]
    assert position != began["position"]
    assert await one.delivery() == {"topic": "news", "position": position, "data": "hello"}
    assert await one.request("unsubscribe", topic="news") == {}
    await two.request("publish", topic="news", data="more")
    assert await one.request("ping") == {}
    assert one.deliveries == []


async def test_resuming(start: Start) -> None:
    opened = await start(allow=ALL)
    one = await opened()
    positions = [(await one.request("publish", topic="news", data=n))["position"] for n in range(5)]
    two = await opened()
    assert await two.request("subscribe", topic="news", since=positions[2]) == {
        "position": positions[4],
        "recovered": True,
    }
    assert [each["data"] for each in two.deliveries] == [3, 4]
    three = await opened()
    for since in (topics.START, topics.OLDEST):
        await three.request("subscribe", topic="news", since=since)
        assert [each["data"] for each in three.deliveries] == [0, 1, 2, 3, 4]
        three.deliveries.clear()
        await three.request("unsubscribe", topic="news")


async def test_resuming_what_the_application_has_subscribed_to(serve: Any, connect: Any) -> None:
    """Nothing of the history is delivered then, which is told as a gap, of whatever length."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await topics.subscribe(scope, "news", envelope="json")
        await topics.serve(scope, receive=receive, send=send, allow=ALL)

    server = await serve(app)
    peers = []
    for _ in range(2):
        peers.append(Requester(client := await connect(server)))
        await client.upgrade("/")
    one, two = peers
    positions = [(await one.request("publish", topic="news", data=n))["position"] for n in range(3)]
    two.deliveries.clear()
    assert await two.request("subscribe", topic="news", since=positions[0]) == {
        "position": positions[2],
        "recovered": False,
    }
    assert two.deliveries[-1] == {"topic": "news", "gap": True, "position": None}
    assert await one.request("subscribe", topic="news", since=positions[2]) == {
        "position": positions[2],
        "recovered": True,
    }
    assert not any("gap" in each for each in one.deliveries)


async def test_members(start: Start) -> None:
    opened = await start(allow=ALL, member="ada", info={"status": "here"})
    one = await opened()
    await one.request("subscribe", topic="news")
    members = opened.hub().tracker.roster  # type: ignore[attr-defined]
    assert [(id, entry.info) for id, entry in members.entries("news", 10)] == [("ada", '{"status":"here"}')]
    await one.request("unsubscribe", topic="news")
    assert not members


async def test_presence(start: Start) -> None:
    opened = await start(allow=ALL, member="ada", presence=True, options={"topics_max_per_connection": 3})
    one, two = await opened(), await opened()
    await two.request("subscribe", topic="news")
    await one.request("subscribe", topic="news", presence=True)
    told = await one.delivery()
    assert [each["id"] for each in told["members"]] == ["ada"]
    assert list(told) == ["topic", "members", "complete"]
    assert two.deliveries == []
    assert await one.refused("subscribe", topic="more", presence=True) == "limit"
    await one.request("subscribe", topic="more")
    await one.request("unsubscribe", topic="news")
    await one.request("subscribe", topic="more still", presence=True)
    for wrong in (1, "true", []):
        assert await two.refused("subscribe", topic="more", presence=wrong) == "bad_request"
    silent = await (await start(allow=ALL, member="ada"))()
    assert await silent.refused("subscribe", topic="news", presence=True) == "forbidden"
    await silent.request("subscribe", topic="news", presence=False)


@pytest.mark.parametrize("since", ["", "nonsense", "x" * 10_000, "0a1b2c3d4e.5.01020304"])
async def test_resuming_from_what_is_not_kept(start: Start, since: str) -> None:
    opened = await start(allow=ALL)
    one = await opened()
    position = (await one.request("publish", topic="news", data="old"))["position"]
    answer = await one.request("subscribe", topic="news", since=since)
    assert answer == {"position": position, "recovered": False}
    assert one.deliveries == [{"topic": "news", "gap": True, "position": position}]
    await one.request("publish", topic="news", data="new")
    assert [each.get("data") for each in one.deliveries] == [None, "new"]


@pytest.mark.parametrize("data", ["text", "", "\u00fc\U0001f600", "\ud800 half", 1, 1.5, True, None, [], {"a": ["b"]}])
async def test_values(start: Start, data: Any) -> None:
    opened = await start(allow=ALL)
    one = await opened()
    await one.request("subscribe", topic="news")
    if isinstance(data, str) and "half" in data:
        assert await one.refused("publish", topic="news", data=data) == "bad_request"
        await one.request("publish", topic="news", data=[data])  # JSON can write it
        assert await one.data() == [data]
    else:
        await one.request("publish", topic="news", data=data)
        assert await one.data() == data


async def test_binary_data(start: Start) -> None:
    opened = await start(allow=ALL)
    one = await opened()
    await one.request("subscribe", topic="news")
    position = (await one.request("publish", topic="news", data="AP8=", encoding="base64"))["position"]
    expected = {"topic": "news", "position": position, "data": "AP8=", "encoding": "base64"}
    assert await one.delivery() == expected
    for data, encoding in (("AP8", "base64"), ("!!!!", "base64"), (1, "base64"), ("x", "gzip"), ("x", 1)):
        assert await one.refused("publish", topic="news", data=data, encoding=encoding) == "bad_request"


async def test_a_key(start: Start) -> None:
    opened = await start(allow=ALL)
    one = await opened()
    await one.request("subscribe", topic="news")
    first = await one.request("publish", topic="news", data="a", key="1")
    again = await one.request("publish", topic="news", data="b", key="1")
    assert again["position"] == first["position"]
    assert [each["data"] for each in one.deliveries] == ["a"]
    assert "position" in await one.request("publish", topic="news", data="c", key="x" * 200)
    for key in (1, "x" * 201, "\ud800"):
        assert await one.refused("publish", topic="news", data="a", key=key) == "bad_request"


class Away:
    """Stands for the backplane of a server: what `publish()` does, in turn."""

    def __init__(self, opened: Any, monkeypatch: pytest.MonkeyPatch, *outcomes: object) -> None:
        self.keys: list[str | None] = []
        self._outcomes = list(outcomes)
        monkeypatch.setattr(opened.hub()._backplane, "publish", self.publish)

    async def publish(self, topic: str, data: bytes, kind: Any, key: str | None, *_: object) -> Any:
        if kind == topics.Kind.GAP:
            return None
        self.keys.append(key)
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def test_a_key_while_the_backplane_is_away(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients give each message a key, and it is delivered on the server's machine all the same."""
    opened = await start(allow=ALL)
    one = await opened()
    await one.request("subscribe", topic="news")
    away = Away(opened, monkeypatch, None)
    assert (await one.request("publish", topic="news", data="a", key="1"))["position"] is None
    assert await one.delivery() == {"topic": "news", "position": None, "data": "a"}
    assert away.keys == ["1"]


async def test_a_key_of_which_it_is_unknown_whether_it_was_published(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not delivered on the server's machine: the client may repeat it until it is known."""
    opened = await start(allow=ALL)
    one = await opened()
    await one.request("subscribe", topic="news")
    lost = unknown_whether_published("Redis")
    Away(opened, monkeypatch, lost, None, None, Place("e", 1, "c"), None)
    assert await one.refused("publish", topic="news", data="a", key="1") == "unavailable"
    assert await one.refused("publish", topic="news", data="a", key="1") == "unavailable"
    assert (await one.request("publish", topic="news", data="b", key="2"))["position"] is None
    assert (await one.request("publish", topic="news", data="a", key="1"))["position"] == "e.1.c"
    assert (await one.request("publish", topic="news", data="c"))["position"] is None
    assert [each["data"] for each in one.deliveries] == ["b", "c"]


async def test_more_keys_than_are_remembered(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then each may be one of those that may have been published."""
    monkeypatch.setattr("flowserve.topics.serving.serve._MAX_UNDECIDED", 1)
    opened = await start(allow=ALL)
    one = await opened()
    await one.request("subscribe", topic="news")
    lost = unknown_whether_published("Redis")
    Away(opened, monkeypatch, lost, lost, None, Place("e", 1, "c"), None)
    for key in ("1", "2", "2"):
        assert await one.refused("publish", topic="news", data="a", key=key) == "unavailable"
    for key, position in (("1", "e.1.c"), ("3", None)):
        assert (await one.request("publish", topic="news", data="a", key=key))["position"] == position


async def test_subscriptions_of_one_connection(start: Start) -> None:
    opened = await start(allow=ALL, options={"topics_max_per_connection": 2})
    one = await opened()
    await one.request("subscribe", topic="a")
    assert await one.refused("subscribe", topic="a") == "subscribed"
    await one.request("subscribe", topic="b")
    assert await one.refused("subscribe", topic="c") == "limit"
    assert await one.refused("unsubscribe", topic="c") == "not_subscribed"
    await one.request("unsubscribe", topic="a")
    await one.request("subscribe", topic="c")


async def test_answers_come_in_the_order_of_requests(start: Start) -> None:
    opened = await start(allow=ALL, publish_rate=None)
    one = await opened()
    for number in range(200):
        request = {"id": number, "type": "publish", "topic": "news", "data": number}
        await one.client.send_text(json.dumps(request))
    for number in range(200):
        assert "position" in await one.answer(number)


# What a client sends wrong

WRONG: list[tuple[str, int | None]] = [
    ("", None),
    ("no JSON", None),
    ("1", None),
    ("[]", None),
    ("{}", None),
    ("[" * 100_000, None),
    ('{"id":1' + "0" * 5000 + ',"type":"ping"}', None),
    ('{"id":true,"type":"ping"}', None),
    ('{"id":-1,"type":"ping"}', None),
    ('{"id":1.0,"type":"ping"}', None),
    ('{"id":"1","type":"ping"}', None),
    ('{"id":9007199254740992,"type":"ping"}', None),
    ('{"id":1,"type":NaN}', None),
    ('{"id":1}', 1),
    ('{"id":1,"type":[]}', 1),
    ('{"id":1,"type":"subscribe"}', 1),
    ('{"id":1,"type":"subscribe","topic":1}', 1),
    ('{"id":1,"type":"subscribe","topic":""}', 1),
    ('{"id":1,"type":"subscribe","topic":"' + "x" * 201 + '"}', 1),
    ('{"id":1,"type":"subscribe","topic":"\\ud800"}', 1),
    ('{"id":1,"type":"subscribe","topic":"a","since":1}', 1),
    ('{"id":1,"type":"publish","topic":"a"}', 1),
    ('{"id":1,"type":"publish","topic":"a","data":1e999}', 1),
    ('{"id":1,"type":"publish","topic":"a","data":' + "[" * 900 + "]" * 900 + "}", 1),
    ('{"id":1,"type":"authorize"}', 1),
]


@pytest.mark.parametrize(("text", "number"), WRONG, ids=[text[:40] for text, _ in WRONG])
async def test_what_is_no_request(start: Start, text: str, number: int | None) -> None:
    opened = await start(allow=ALL)
    one = await opened()
    await one.client.send_text(text)
    answer = await one.answer(number)
    if "error" in answer:  # some Pythons write what is nested so deep
        assert answer["error"]["code"] == "bad_request"
    assert await one.request("ping") == {}


async def test_other_refusals(start: Start) -> None:
    opened = await start(allow=ALL, options={"topics_max_size": 1024})
    one = await opened()
    assert await one.refused("conquer") == "unknown_type"
    assert await one.refused("publish", topic="a", data="x" * 1025) == "too_big"
    await one.request("publish", topic="a", data="x" * 1024)
    await one.client.send_text(json.dumps({"id": 1, "type": "ping", "more": "x" * 40_000}))
    assert (await one.answer(None))["error"]["code"] == "too_big"
    await one.client.send_frame(BINARY, b'{"id":1,"type":"ping"}')
    assert (await one.answer(None))["error"]["code"] == "bad_request"


async def test_unknown_members_are_ignored(start: Start) -> None:
    opened = await start(allow=ALL)
    one = await opened()
    assert list(await one.request("subscribe", topic="a", later="more")) == ["position"]


# Who may do what


async def test_a_function_allows(start: Start) -> None:
    async def allow(topic: str, action: str) -> bool:
        await asyncio.sleep(0)
        asked.append((topic, action))
        return topic == "open"

    asked: list[tuple[str, str]] = []
    opened = await start(allow=allow)
    one = await opened()
    await one.request("subscribe", topic="open")
    await one.request("publish", topic="open", data=1)
    assert await one.refused("subscribe", topic="secret") == "forbidden"
    assert await one.refused("publish", topic="secret", data=1) == "forbidden"
    assert asked == [(topic, action) for topic in ("open", "secret") for action in ("subscribe", "publish")]


@pytest.mark.parametrize(
    ("allow", "allowed"),
    [
        (["a"], {("a", "subscribe")}),
        ({"a": "publish"}, {("a", "publish")}),
        ({"a": ("subscribe", "publish"), "b": ()}, {("a", "subscribe"), ("a", "publish")}),
        ((), set()),
        (lambda topic, action: None, set()),
    ],
)
async def test_who_may_do_what(start: Start, allow: Any, allowed: set[tuple[str, str]]) -> None:
    opened = await start(allow=allow)
    one = await opened()
    for topic in ("a", "b", "*"):
        for action in ("subscribe", "publish"):
            answer = await one.request(action, topic=topic, data=1)
            assert ("error" not in answer) == ((topic, action) in allowed)
            if "error" in answer:
                assert answer["error"]["code"] == "forbidden"


@pytest.mark.app_fails
async def test_a_function_that_raises_ends_it(start: Start, logs: Any) -> None:
    def allow(topic: str, action: str) -> bool:
        raise LookupError("the database is away")

    opened = await start(allow=allow)
    one = await opened()
    await one.client.send_text('{"id":1,"type":"subscribe","topic":"a"}')
    assert (await one.client.close_frame())[0] == 1011
    assert any("the database is away" in str(record.exc_info) for record in logs.records)


async def test_how_many_more_would_be_taken(start: Start) -> None:
    opened = await start(allow=ALL, publish_rate=0.01, publish_burst=3)
    one = await opened()
    answers = [await one.request("publish", topic="a", data=1) for _ in range(4)]
    assert [answer.get("remaining") for answer in answers] == [2, 1, 0, None]
    assert answers[3]["error"]["code"] == "rate_limited"


async def test_a_rate_limit(start: Start) -> None:
    opened = await start(allow=["a"], publish_rate=20, publish_burst=3)
    one = await opened()
    codes = [await one.refused("publish", topic="b", data=1) for _ in range(4)]
    assert codes == ["forbidden"] * 3 + ["rate_limited"]
    answer = await one.request("publish", topic="b", data=1)
    assert 0 < answer["error"]["retry_after"] <= 0.06
    await asyncio.sleep(answer["error"]["retry_after"])
    assert await one.refused("publish", topic="b", data=1) == "forbidden"
    await one.request("subscribe", topic="a")


# Grants


async def test_a_grant(start: Start) -> None:
    opened = await start(secret=["another secret of some length", SECRET])
    one = await opened()
    assert await one.refused("subscribe", topic="a") == "forbidden"
    text = topics.grant(SECRET, ["a"], ["subscribe", "publish"], prefixes=["room:"])
    assert list(await one.request("authorize", grant=text)) == ["expires"]
    await one.request("subscribe", topic="a")
    await one.request("publish", topic="room:7", data=1)
    assert await one.refused("subscribe", topic="b") == "forbidden"
    assert await one.refused("publish", topic="ab", data=1) == "forbidden"


async def test_a_grant_that_expires(start: Start) -> None:
    opened = await start(allow=["always"], secret=SECRET)
    one = await opened()
    await one.request("authorize", grant=topics.grant(SECRET, ["a", "b"], ttl=0.3))
    await one.request("authorize", grant=topics.grant(SECRET, ["b"], ttl=60))
    for topic in ("a", "b", "always"):
        await one.request("subscribe", topic=topic)
    ended = await one.delivery()
    assert (ended["topic"], ended["error"]["code"]) == ("a", "expired")
    assert set(opened.hub()._topics) == {"b", "always"}  # type: ignore[attr-defined]
    assert await one.refused("subscribe", topic="a") == "forbidden"
    await one.request("authorize", grant=topics.grant(SECRET, ["a"]))
    await one.request("subscribe", topic="a")


async def test_a_grant_that_is_renewed(start: Start) -> None:
    opened = await start(secret=SECRET)
    one = await opened()
    await one.request("authorize", grant=topics.grant(SECRET, ["a"], ttl=0.3))
    await one.request("subscribe", topic="a")
    await one.request("authorize", grant=topics.grant(SECRET, ["a"]))
    await asyncio.sleep(0.5)
    assert await one.request("ping") == {}
    assert one.deliveries == []


async def test_what_is_no_grant(start: Start) -> None:
    opened = await start(secret=SECRET)
    one = await opened()
    good = topics.grant(SECRET, ["a"])
    expired = topics.grant(SECRET, ["a"], ttl=-1)
    other = topics.grant("another secret of some length", ["a"])
    for text in ("", "v1", "v1..", "\u00fc", good[:-1], good + "A", "v2" + good[2:], expired, other, "v1." * 10_000):
        assert await one.refused("authorize", grant=text) == "invalid_grant"
    await one.request("authorize", grant=good)
    without = await (await start(allow=[]))()
    assert await without.refused("authorize", grant=good) == "invalid_grant"


WRONG_GRANTS: list[Any] = [
    [],
    [1],
    None,
    "a",
    {},
    {"topics": ["a"], "prefixes": [], "actions": ["subscribe"]},
    *(
        {"topics": ["a"], "prefixes": [], "actions": ["subscribe"], "expires": 4e9, **wrong}
        for wrong in (
            {"topics": "a"},
            {"topics": [["a"]]},
            {"prefixes": None},
            {"prefixes": [1]},
            {"actions": "subscribe"},
            {"expires": "4000000000"},
            {"expires": float("nan")},
            {"expires": float("inf")},
            {"expires": 10**400},
            {"expires": None},
            {"expires": True},
            {"topics": [1]},
            {"prefixes": "private:"},
            {"actions": None},
        )
    ),
]
"""What programs in other languages may have signed."""


@pytest.mark.parametrize("said", WRONG_GRANTS, ids=str)
async def test_a_grant_that_was_signed_and_says_something_else(start: Start, said: Any) -> None:
    opened = await start(secret=SECRET)
    one = await opened()
    assert await one.refused("authorize", grant=signed(json.dumps(said).encode())) == "invalid_grant"
    assert await one.refused("authorize", grant=signed(b"\xff")) == "invalid_grant"
    assert await one.refused("subscribe", topic="a") == "forbidden"


def signed(payload: bytes) -> str:
    """A grant, as PROTOCOL.md says."""
    text = base64.urlsafe_b64encode(payload).rstrip(b"=")
    mac = hmac.digest(SECRET.encode(), b"flowserve.topics.grant.v1\n" + text, "sha256")
    return f"v1.{text.decode()}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


async def test_a_connection_has_few_grants(start: Start) -> None:
    opened = await start(secret=SECRET)
    one = await opened()
    for number in range(16):
        text = topics.grant(SECRET, [str(number)])
        for _ in range(2):  # the same one does not count twice
            await one.request("authorize", grant=text)
    assert await one.refused("authorize", grant=topics.grant(SECRET, ["a"])) == "limit"


# The end


async def test_it_ends_with_the_client(start: Start) -> None:
    opened = await start(allow=ALL, secret=SECRET)
    one = await opened()
    await one.request("authorize", grant=topics.grant(SECRET, ["a"]))
    for number in range(10):
        await one.request("subscribe", topic=str(number))
    await one.client.aclose()
    await until(lambda: len(opened.done) == 1)  # type: ignore[attr-defined]
    await until(lambda: not opened.hub()._topics)  # type: ignore[attr-defined]


async def test_what_it_is_called_with() -> None:
    scope = {"type": "websocket"}
    receive: Any = ALL
    for wrong in ({}, {"allow": "news"}, {"allow": 1}):
        with pytest.raises(TypeError):
            await topics.serve(scope, receive=receive, send=receive, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="actions"):
        await topics.serve(scope, receive=receive, send=receive, allow={"a": "read"})
    with pytest.raises(ValueError, match="16 bytes"):
        await topics.serve(scope, receive=receive, send=receive, secret="short")
    with pytest.raises(ValueError, match="rate"):
        await topics.serve(scope, receive=receive, send=receive, allow=[], publish_rate=0)
    with pytest.raises(TypeError, match="member"):
        await topics.serve(scope, receive=receive, send=receive, allow=[], info="no member")
    with pytest.raises(TypeError, match="receive"):
        await topics.serve(scope, allow=[])
    with pytest.raises(TypeError):
        await topics.serve(object(), allow=[])


# Frameworks and other servers


def starlette_app() -> Any:
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute

    async def endpoint(websocket: Any) -> None:
        await websocket.accept(subprotocol=topics.SUBPROTOCOL)
        await topics.serve(websocket, allow=ALL)

    return Starlette(routes=[WebSocketRoute("/", endpoint)])


async def test_starlette(serve: Any, connect: Any) -> None:
    server = await serve(starlette_app())
    client = await connect(server)
    await client.upgrade()
    one = Requester(client)
    await one.request("subscribe", topic="news")
    await one.request("publish", topic="news", data="hello")
    assert await one.data() == "hello"


def test_starlettes_client() -> None:
    """Without flowserve as the server."""
    with TestClient(starlette_app()) as http, http.websocket_connect("/", [topics.SUBPROTOCOL]) as ws:
        ws.send_json({"id": 1, "type": "subscribe", "topic": "news"})
        assert ws.receive_json()["id"] == 1
        ws.send_json({"id": 2, "type": "publish", "topic": "news", "data": "hello"})
        found = [ws.receive_json() for _ in range(2)]
        assert sorted(each.get("data", "") for each in found) == ["", "hello"]


async def test_the_library() -> None:
    async def handler(ws: flowserve.WebSocket) -> None:
        await topics.serve(ws, allow=ALL)

    async with flowserve.serve(handler, "127.0.0.1", 0, subprotocols=[topics.SUBPROTOCOL]) as server:
        uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with flowserve.connect(uri, proxy=None, subprotocols=[topics.SUBPROTOCOL]) as ws:
            assert ws.subprotocol == topics.SUBPROTOCOL
            await ws.send('{"id":1,"type":"subscribe","topic":"news"}')
            assert json.loads(await ws.receive())["id"] == 1
            await ws.send('{"id":2,"type":"publish","topic":"news","data":"hello"}')
            found = [json.loads(await ws.receive()) for _ in range(2)]
            assert [each.get("data") for each in found] == ["hello", None]


# Who does not read


async def test_who_reads_no_answers_is_not_served(start: Start) -> None:
    """Nothing grows: the server stops reading. All is answered when the client reads again."""
    opened = await start(allow=ALL, options={"ws_slow_consumer": "wait", "ws_ping_interval": 0})
    client = (await opened(receive_buffer=4096)).client
    client.writer.transport.set_write_buffer_limits(0)
    answers = asyncio.Event()

    async def flood() -> int:
        for number in range(1_000_000):
            text = json.dumps({"id": number, "type": "\U0001f600" * 50})  # the answer is long, too
            client.writer.write(frame(TEXT, text.encode()))
            if answers.is_set():
                return number
            await client.writer.drain()
        raise AssertionError("it takes all")

    flooding = asyncio.ensure_future(flood())
    sent = -1
    while client.writer.transport.get_write_buffer_size() != sent or sent <= 0:  # until it stands still
        sent = client.writer.transport.get_write_buffer_size()
        await asyncio.sleep(0.2)
    answers.set()
    requester, number = Requester(client), 0
    while not flooding.done() or number <= flooding.result():
        assert (await requester.answer(number))["error"]["code"] == "unknown_type"
        number += 1
    await requester.client.aclose()
