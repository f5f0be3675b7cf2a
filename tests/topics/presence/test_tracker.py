"""Presence in one server: who is listed, what subscribers to changes are told, and what is no member."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support.helpers import Client, until, within
from support.topic_rooms import OpenRoom, Room

from flowserve import ClientDisconnected, topics
from flowserve.topics.names import ChangesName
from flowserve.topics.presence import tracker
from flowserve.topics.presence.limits import Limits

pytestmark = pytest.mark.both_loops


async def ids(room: Room, topic: str = "t") -> list[str]:
    return [each.id for each in await room.run(topics.presence(topic))]


async def told(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await client.message())
    return found


async def told_until(client: Client, name: str, *members: str) -> None:
    """Read changes until these have joined, or left."""
    seen: set[str] = set()
    while seen != set(members):
        seen |= {each if name == "leaves" else each["id"] for each in (await told(client))[name]}


async def test_members_come_and_go(room: Room) -> None:
    assert list(await room.run(topics.presence("t"))) == []
    ada = await room.guest("t", member="ada", info={"name": "Ada"})
    await room.guest("t", "u", member="bob")
    await room.guest("t")
    found = await room.run(topics.presence("t"))
    assert [(each.id, each.info, each.connections) for each in found] == [("ada", {"name": "Ada"}, 1), ("bob", None, 1)]
    assert found.members[0].since <= found.members[1].since
    assert (found.complete, found.connections, len(found)) == (True, 2, 2)
    assert "ada" in found
    assert "cem" not in found
    assert await ids(room, "u") == ["bob"]
    assert await room.run(topics.count("t")) == 3
    await ada.client.aclose()
    await until(lambda: not room.hub.tracker.roster.id_of("t", ada.subscription._subscriber))
    assert await ids(room) == ["bob"]
    assert await room.run(topics.count("t")) == 2


async def test_one_member_with_several_connections(room: Room) -> None:
    first = await room.guest("t", member="ada", info=1)
    second = await room.guest("t", member="ada", info=2)
    (ada,) = await room.run(topics.presence("t"))
    assert (ada.info, ada.connections) == (2, 2)
    await room.run(second.subscription.unsubscribe())
    (ada,) = await room.run(topics.presence("t"))
    assert (ada.info, ada.connections) == (1, 1), "that of the one that is left"
    await room.run(first.subscription.unsubscribe("t"))
    assert await ids(room) == []


async def test_another_info_and_another_member(room: Room) -> None:
    guest = await room.guest("t", member="ada", info="here")
    (before,) = await room.run(topics.presence("t"))
    await room.subscribe(guest.act.scope, "t", member="ada", info="away")
    (after,) = await room.run(topics.presence("t"))
    assert (after.info, after.since, after.connections) == ("away", before.since, 1)
    await room.subscribe(guest.act.scope, "t", member="bob")
    assert await ids(room) == ["bob"]
    await room.subscribe(guest.act.scope, "t")
    assert await ids(room) == ["bob"], "nothing was said of members"


async def test_changes(room: Room) -> None:
    ada = await room.guest("t", envelope="json", member="ada", info={"n": 1}, presence=True)
    first = await told(ada.client)
    assert first == {"topic": "t", "members": [first["members"][0]], "complete": True}
    assert (first["members"][0]["id"], first["members"][0]["info"]) == ("ada", {"n": 1})
    bob = await room.guest("t", member="bob")
    change = await told(ada.client)
    assert (change["topic"], [each["id"] for each in change["joins"]], change["leaves"]) == ("t", ["bob"], [])
    await room.publish("t", "hello")
    assert (await told(ada.client))["data"] == "hello"
    await bob.client.aclose()
    change = await told(ada.client)
    assert (change["joins"], change["leaves"]) == ([], ["bob"])
    await room.subscribe(ada.act.scope, "t", envelope="json", member="ada", info={"n": 2})
    change = await told(ada.client)
    assert (change["joins"][0]["info"], change["leaves"]) == ({"n": 2}, [])
    await room.run(ada.subscription.unsubscribe())
    await room.left()


async def test_two_subscriptions_of_one_websocket(room: Room) -> None:
    """The changes end with the one that began them."""
    plain = await room.guest("t", envelope="json")
    changes = await room.subscribe(plain.act.scope, "t", "u", envelope="json", presence=True)
    assert {(await told(plain.client))["topic"] for _ in range(2)} == {"t", "u"}
    await room.run(changes.unsubscribe("u"))
    await room.guest("u", member="nobody is told")
    await room.run(changes.unsubscribe())
    await room.guest("t", member="nor this")
    await room.publish("t", "hello")
    assert (await told(plain.client))["data"] == "hello"
    assert set(room.hub._topics) == {"t", "u"}


async def test_who_comes_and_goes_at_once_is_not_told(room: Room) -> None:
    watcher = await room.guest("t", envelope="json", presence=True)
    await told(watcher.client)
    await room.guest("t", member="first")
    await told_until(watcher.client, "joins", "first")
    short = await room.guest("t", member="short")
    await room.run(short.subscription.unsubscribe())
    again = await room.guest("t", member="first")
    await room.run(again.subscription.unsubscribe())
    await room.guest("t", member="last")
    change = await told(watcher.client)
    assert ([each["id"] for each in change["joins"]], change["leaves"]) == (["last"], [])


async def test_a_storm_is_few_messages(room: Room) -> None:
    watcher = await room.guest("t", envelope="json", presence=True)
    await told(watcher.client)
    for number in range(2000):
        room.hub.tracker.join("t", object(), str(number), "null", 1.0)
    changes = [await told(watcher.client)]
    while sum(len(each["joins"]) for each in changes) < 2000:
        changes.append(await told(watcher.client))
    assert len(changes) <= 2


async def test_a_storm_of_those_who_are_told(room: Room) -> None:
    """What all are told is not made for each: with many there it would take long. Each ends with all."""
    for number in range(1000):
        room.hub.tracker.join("t", object(), f"there-{number}", "null", 1.0)
    messages = set[bytes]()
    for number in range(100):
        guest = await room.guest("t", envelope="json", member=str(number), presence=True)
        messages.add(room.hub.tracker.all_members(ChangesName.of("t")).data)
        if number % 10 == 0:
            known = {each["id"] for each in (await told(guest.client))["members"]}
            while str(number) not in known:
                known |= {each["id"] for each in (await told(guest.client))["joins"]}
    assert len(messages) < 30


async def test_changes_are_as_large_as_messages_may_be(open_room: OpenRoom) -> None:
    room = await open_room(topics_max_size=4000)
    watcher = await room.guest("t", envelope="json", presence=True)
    await told(watcher.client)
    for number in range(200):
        room.hub.tracker.join("t", object(), str(number), '"é"', 1.0)
    seen = 0
    while seen < 200:
        message = await watcher.client.message()
        assert len(message.encode()) <= 4100
        seen += len(json.loads(message)["joins"])
    late = await room.guest("t", envelope="json", presence=True)
    message = await late.client.message()
    assert len(message.encode()) <= 4100
    assert json.loads(message)["complete"] is False
    assert len(await ids(room)) == 200


@pytest.mark.parametrize("policy", ["wait", "drop"])
async def test_a_slow_client_is_told_all_members_again(open_room: OpenRoom, monkeypatch: Any, policy: Any) -> None:
    """It is not read from while 12 MB of changes are told; whatever it missed, it ends with what is true."""
    monkeypatch.setattr(tracker, "limits", Limits(interval=0.001))
    room = await open_room(topics_max_pending="400KiB", ws_slow_consumer_mark="64KiB")
    client, act = await room.open(receive_buffer=4096)
    await room.subscribe(act.scope, "t", envelope="json", policy=policy, presence=True)
    mine, connections = room.hub.tracker, [object() for _ in range(300)]
    for change in range(40):
        for number, connection in enumerate(connections):
            mine.join("t", connection, str(number), json.dumps(f"{change} ".ljust(1000)), 1.0 + change)
        await until(lambda: not mine._changes["t"].before)
    mine.leave("t", connections[0])
    known: dict[str, str] = {}
    events = 0
    while "0" in known or len(known) < 299 or {each[:3] for each in known.values()} != {"39 "}:
        event = await told(client)
        events += 1
        assert "gap" not in event
        if "members" in event:
            assert event["complete"]
            known = {}
        known.update({each["id"]: each["info"] for each in event.get("members", event.get("joins"))})
        for id in event.get("leaves", ()):
            del known[id]
    assert events < 35, "of the changes between it got but some"


@pytest.mark.app_fails
async def test_an_envelope_that_can_not_tell_presence(room: Room, logs: Any) -> None:
    """That is logged; messages go on."""

    def envelope(message: topics.Message) -> str:
        if message.kind == topics.Kind.PRESENCE:
            raise ZeroDivisionError("in the envelope")
        return message.text

    watcher = await room.guest("t", envelope=envelope, presence=True)
    await room.guest("t", member="ada")
    await room.publish("t", "hello")
    assert await watcher.client.message() == "hello"
    assert len(logs.errors) == 2
    assert all("The envelope of the topic 't' failed to tell who is there" in each for each in logs.errors)


async def test_an_application_that_listens(room: Room) -> None:
    await room.guest("t", member="ada")
    found: asyncio.Queue[topics.Message] = asyncio.Queue()

    async def listen() -> None:
        async for message in topics.listen("t", presence=True):
            found.put_nowait(message)

    task = asyncio.ensure_future(room.run(listen()))
    first = await within(found.get())
    assert (first.topic, first.kind, first.position) == ("t", topics.Kind.PRESENCE, "")
    assert [each["id"] for each in first.json()["members"]] == ["ada"]
    await room.publish("t", "hello")
    assert (await within(found.get())).text == "hello"
    await room.guest("t", member="bob")
    assert [each["id"] for each in (await within(found.get())).json()["joins"]] == ["bob"]
    task.cancel()


async def test_an_event_stream_is_a_member(serve: Any, connect: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/who":
            body = ",".join(each.id for each in await topics.presence("t")).encode()
            headers = [(b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        else:
            await topics.event_source(scope, "t", member="ada", presence=True)(scope, receive, send)

    server = await serve(app)
    client = await Client.connect(server.address)
    await client.raw(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    await client.head()
    text = b""
    async for chunk in client.chunks():
        text += chunk
        if b'"members"' in text:
            break
    assert b'event: presence\ndata: {"topic":"t","members":[{"id":"ada"' in text
    assert await who(server.address) == "ada"
    await client.aclose()

    async def left() -> None:
        while await who(server.address):
            pass

    await within(left())


async def who(address: Any) -> str:
    client = await Client.connect(address)
    await client.raw(b"GET /who HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
    response = await client.response()
    await client.aclose()
    return response.body.decode()


async def test_what_is_no_member(room: Room) -> None:
    client, act = await room.open()
    for options, error, words in (
        ({"member": 1}, TypeError, "member is the id of a member, a str, not int"),
        ({"info": {}}, TypeError, "give its id as member"),
        ({"member": ""}, topics.TopicsError, "1 to 200 characters, not 0"),
        ({"member": "x" * 201}, topics.TopicsError, "1 to 200 characters, not 201"),
        ({"member": "\ud800"}, topics.TopicsError, "can't be written in UTF-8"),
        ({"member": "a", "info": "x" * 1023}, topics.TopicsError, "has 1025 bytes as JSON; at most 1024"),
        ({"member": "a", "info": "\ud800"}, topics.TopicsError, "info of a member can't be written in UTF-8"),
        ({"member": "a", "info": [{"\udcff": 1}]}, topics.TopicsError, "info of a member can't be written in UTF-8"),
        ({"member": "a", "info": float("nan")}, ValueError, "not JSON compliant"),
        ({"presence": True}, TypeError, "needs an envelope"),
    ):
        with pytest.raises(error, match=words):
            await room.subscribe(act.scope, "t", **options)
    for call in (topics.presence, topics.count):
        with pytest.raises(topics.TopicsError, match="1 to 200 characters"):
            await room.run(call(""))
    assert await ids(room) == []
    assert room.quiet
    await client.aclose()
    await until(lambda: act.scope["extensions"]["flowserve.topics"].session.lost)
    with pytest.raises(ClientDisconnected):
        await room.subscribe(act.scope, "t", member="ada")
    assert await ids(room) == []


async def test_beyond_the_limit_of_a_connection(open_room: OpenRoom) -> None:
    """Changes count as a topic of their own; a subscription that fails leaves nothing behind."""
    room = await open_room(topics_max_per_connection=3)
    _, act = await room.open()
    with pytest.raises(topics.TopicsError, match="3 topics at most"):
        await room.subscribe(act.scope, "t", "u", envelope="json", member="ada", presence=True)
    assert await ids(room) == []
    assert room.quiet
    await room.subscribe(act.scope, "t", envelope="json", member="ada", presence=True)
    assert await ids(room) == ["ada"]


async def test_nothing_is_left_behind(room: Room) -> None:
    guests = [await room.guest("t", "u", envelope="json", member=str(n), presence=True) for n in range(20)]
    for guest in guests:
        await guest.client.aclose()
    await room.left()
    assert not room.hub.tracker.roster
    assert not room.hub.tracker._changes
