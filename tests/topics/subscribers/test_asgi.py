"""Topics without flowserve as the server: under uvicorn, and in tests of applications."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect
from support.helpers import Client, until, within
from support.programs import listening

from flowserve import topics
from flowserve.topics.hub import current
from flowserve.topics.message import Kind
from flowserve.topics.settings import Settings
from flowserve.topics.subscribers import asgi

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have the successor of HTTPX
    from starlette.testclient import TestClient


def failing(message: topics.Message) -> str:
    raise ZeroDivisionError("in the envelope")


class Unable:
    """An envelope that can't hold some messages, and whose gap() fails."""

    def __call__(self, message: topics.Message) -> str:
        return message.text if message.text != "bad" else failing(message)

    def gap(self, topic: str, position: topics.Position) -> str:
        raise ZeroDivisionError("in gap()")

    def render(self, message: topics.Message) -> str:
        return f"rendered {message.text}"


unable = Unable()

OPTIONS: dict[str, dict[str, Any]] = {
    "/": {},
    "/json": {"envelope": "json"},
    "/upper": {"envelope": lambda message: message.text.upper()},
    "/failing": {"envelope": failing},
    "/start": {"envelope": "json", "since": topics.START},
    "/garbage": {"since": "garbage"},
    "/close": {"policy": "close"},
    "/drop": {"since": "garbage", "policy": "drop"},
    "/unable": {"envelope": unable},
}


async def join(websocket: Any) -> None:
    await websocket.accept()
    subscription = await topics.subscribe(websocket, "t", **OPTIONS[websocket.url.path])
    while True:
        try:
            text = await websocket.receive_text()
        except WebSocketDisconnect:
            return
        if text == "end":
            await subscription.unsubscribe()
            await websocket.send_text("ended")
        else:
            await topics.publish("t", text, exclude=websocket)


raised: list[Exception] = []


async def look_late(websocket: Any) -> None:
    """Receives once the relay has closed the WebSocket."""
    await websocket.accept()
    await topics.subscribe(websocket, "t", since="garbage")
    await until(lambda: all(each.closed for each in asgi._by_websocket[websocket]))
    try:
        await websocket.receive_text()
    except Exception as error:
        raised.append(error)


async def join_twice(websocket: Any) -> None:
    await websocket.accept()
    for _ in range(2):
        await topics.subscribe(websocket, "t", envelope=unable.render)
    await websocket.send_text("subscribed")
    with suppress(WebSocketDisconnect):
        await websocket.receive_text()


async def attend(websocket: Any) -> None:
    await websocket.accept()
    member = websocket.query_params["id"]
    await topics.subscribe(websocket, "t", envelope="json", member=member, info=[1], presence=True)
    with suppress(WebSocketDisconnect):
        await websocket.receive_text()


async def who(request: Any) -> Any:
    found = await topics.presence("t")
    return PlainTextResponse(f"{' '.join(each.id for each in found)}: {await topics.count('t')}")


async def say(request: Any) -> Any:
    return PlainTextResponse(await topics.publish("t", request.query_params["text"]))


async def events(request: Any) -> Any:
    return topics.event_source(request, "s", since=topics.START)


async def write(request: Any) -> Any:
    async with topics.stream("s") as stream:
        for word in ("one", "two"):
            await stream.write(word)
    return PlainTextResponse("written")


ROUTES = [
    *(WebSocketRoute(path, join) for path in OPTIONS),
    WebSocketRoute("/late", look_late),
    WebSocketRoute("/twice", join_twice),
    WebSocketRoute("/attend", attend),
    Route("/who", who),
    Route("/say", say),
    Route("/events", events),
]
app = Starlette(routes=[*ROUTES, Route("/write", write)])


def test_presence_with_the_test_client_of_starlette() -> None:
    with TestClient(app) as client, client.websocket_connect("/attend?id=ada") as ada:
        first = ada.receive_json()
        assert ([each["id"] for each in first["members"]], first["complete"]) == (["ada"], True)
        with client.websocket_connect("/attend?id=bob"), client.websocket_connect("/json"):
            assert [each["id"] for each in ada.receive_json()["joins"]] == ["bob"]
            assert client.get("/who").text == "ada bob: 3"
        assert ada.receive_json()["leaves"] == ["bob"]
        assert client.get("/who").text == "ada: 1"


def test_the_test_client_of_starlette() -> None:
    """The same calls work within the process; each test has topics of its own, as it has its own event loop."""
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/say", params={"text": "before"}).text.split(".")[1] == "1"
            with client.websocket_connect("/") as plain, client.websocket_connect("/json") as wrapped:
                plain.send_text("hello")
                assert wrapped.receive_json()["data"] == "hello"
                position = client.get("/say", params={"text": "all"}).text
                assert plain.receive_text() == "all"
                assert wrapped.receive_json() == {"topic": "t", "position": position, "data": "all"}
                plain.send_text("end")
                assert plain.receive_text() == "ended"
                client.get("/say", params={"text": "later"})
                assert wrapped.receive_json()["data"] == "later"
            with client.websocket_connect("/start") as again:
                assert [again.receive_json()["data"] for _ in range(4)] == ["before", "hello", "all", "later"]


def test_gaps_and_envelopes_that_fail() -> None:
    with TestClient(app) as client:
        client.get("/say", params={"text": "before"})
        with client.websocket_connect("/garbage") as lost, pytest.raises(WebSocketDisconnect) as closed:
            lost.receive_text()
        assert (closed.value.code, closed.value.reason) == (1013, "messages were lost")
        with client.websocket_connect("/failing") as broken, client.websocket_connect("/upper") as upper:
            client.get("/say", params={"text": "x"})
            assert upper.receive_text() == "X"
            with pytest.raises(WebSocketDisconnect) as closed:
                broken.receive_text()
        assert closed.value.code == 1013


def test_an_envelope_that_fails_to_tell_a_gap() -> None:
    with (
        TestClient(app) as client,
        client.websocket_connect("/unable") as broken,
        client.websocket_connect("/") as well,
    ):
        for text in ("one", "bad", "two"):
            client.get("/say", params={"text": text})
        assert broken.receive_text() == "one"
        with pytest.raises(WebSocketDisconnect) as closed:
            broken.receive_text()
        assert (closed.value.code, closed.value.reason) == (1013, "messages were lost")
        assert [well.receive_text() for _ in range(3)] == ["one", "bad", "two"]


def test_a_gap_without_an_envelope_is_of_no_matter_for_the_policy_drop() -> None:
    with TestClient(app) as client, client.websocket_connect("/drop") as dropping:
        client.get("/say", params={"text": "x"})
        assert dropping.receive_text() == "x"


def test_a_method_as_envelope() -> None:
    with TestClient(app) as client, client.websocket_connect("/twice") as twice:
        assert twice.receive_text() == "subscribed"
        for text in ("1", "2"):
            client.get("/say", params={"text": text})
        assert [twice.receive_text() for _ in range(2)] == ["rendered 1", "rendered 2"]


def test_event_streams_in_the_test_client() -> None:
    with TestClient(app) as client:
        assert client.get("/write").text == "written"
        lines = client.get("/events").text.split("\n")
        assert [line for line in lines if line.startswith("data:")] == ["data: one", "data: two", "data: "]


@asynccontextmanager
async def under_uvicorn() -> AsyncIterator[Any]:
    """Its address."""
    with listening() as sock:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, ws="websockets-sansio"))
        serving = asyncio.ensure_future(server.serve([sock]))
        await until(lambda: server.started)
        try:
            yield sock.getsockname()
        finally:
            server.should_exit = True
            await within(serving)


async def test_uvicorn() -> None:
    """Real sockets; a client that leaves leaves nothing behind."""
    async with under_uvicorn() as address:
        clients = [await Client.connect(address) for _ in range(2)]
        for client in clients:
            await client.upgrade()
        hub = current.current_source().hub  # of this event loop, which uvicorn runs in
        await until(lambda: "t" in hub._topics and sum(len(g.members) for g in hub._topics["t"]._groups.values()) == 2)
        await clients[0].send_text("hello")
        assert await clients[1].message() == "hello"
        assert await topics.publish("t", "from elsewhere in the loop")
        assert [await client.message() for client in clients] == ["from elsewhere in the loop"] * 2
        clients[0].reset()
        await clients[1].send_close(1000)
        await until(lambda: not hub._topics and not hub._tasks)
        for client in clients:
            await client.aclose()
    await until(lambda: gc.collect() >= 0 and not asgi._by_websocket)


async def test_an_application_that_looks_late_gets_the_disconnect() -> None:
    """As under flowserve; not the error for one that has closed the WebSocket itself."""
    raised.clear()
    async with under_uvicorn() as address:
        client = await Client.connect(address)
        await client.upgrade("/late")
        assert await client.close_frame() == (1013, "messages were lost")
        await client.send_close(1013)
        await until(lambda: bool(raised))
        await client.aclose()
    (error,) = raised
    assert isinstance(error, WebSocketDisconnect)


async def test_a_slow_client_is_closed_with_the_policy_close() -> None:
    async with under_uvicorn() as address:
        client = await Client.connect(address, receive_buffer=4096)
        await client.upgrade("/close")
        hub = current.current_source().hub
        await until(lambda: "t" in hub._topics and not hub._topics["t"].empty)
        text = "x" * 100_000
        for _ in range(200):
            await topics.publish("t", text)
            await asyncio.sleep(0)
        while (got := await client.frame()).opcode == 1:
            assert got.payload.decode() == text
        assert int.from_bytes(got.payload[:2], "big") == 1013
        await client.aclose()


class Fake:
    """What subscribe() takes for a WebSocket of another server; each send() waits until it is `free`."""

    def __init__(self) -> None:
        self.scope = {"type": "websocket"}
        self.free = asyncio.Event()
        self.sent: list[Any] = []

    async def send(self, event: Any) -> None:
        await self.free.wait()
        self.sent.append(event.get("text") or event["type"])


async def test_there_is_a_task_only_while_there_is_something_to_send() -> None:
    """Nor does an envelope that is another function each time leave anything behind once its subscription has ended."""
    websocket, hub = Fake(), current.current_source().hub
    websocket.free.set()
    for number in range(20):
        subscription = await topics.subscribe(websocket, "t", envelope=lambda message: message.text)
        assert not hub._tasks
        await topics.publish("t", str(number))
        assert len(hub._tasks) == 1
        await until(lambda: not hub._tasks)
        await subscription.unsubscribe()
    assert websocket.sent == [str(number) for number in range(20)]
    del subscription
    gc.collect()
    assert not asgi._by_websocket[websocket]


async def test_nothing_of_a_topic_is_sent_behind_the_end_of_its_subscription() -> None:
    """Though it waited; what was on its way is, and so is what waits of another topic."""
    websocket, hub = Fake(), current.local_hub()
    hub.settings = Settings(max_pending=900)
    subscriber = asgi.asgi_subscriber_of(websocket, hub, None, None)
    await hub.subscribe(subscriber, ["t", "u"], {})
    for number in range(9):  # more than wait in the queue
        await hub.publish("t", b"t%d" % number, Kind.TEXT)
    await hub.publish("u", b"u0", Kind.TEXT)
    await asyncio.sleep(0)
    hub.unsubscribe(subscriber, ["t"])
    websocket.free.set()
    await hub.publish("u", b"u1", Kind.TEXT)
    await until(lambda: websocket.sent[-1:] == ["u1"])
    assert websocket.sent == ["t0", "u0", "u1"]
    await hub.close()


async def test_a_close_that_is_being_sent_ends_with_the_topics() -> None:
    websocket, hub = Fake(), current.local_hub()
    subscriber = asgi.asgi_subscriber_of(websocket, hub, None, None)
    await hub.subscribe(subscriber, ["t"], {"t": "garbage"})
    await until(lambda: subscriber.closed)
    await asyncio.sleep(0)  # it is sent in a task, which has not begun yet
    assert len(hub._tasks) == 2
    await hub.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not websocket.sent
