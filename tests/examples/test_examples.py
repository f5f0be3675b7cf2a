"""Every example, started by its one line, with real clients."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest
from support.helpers import within
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


async def receive(ws) -> dict:
    return json.loads(await within(ws.recv()))


async def closed(ws) -> tuple[int, str]:
    """Wait for the end of a WebSocket that nothing more is expected on: its code and reason."""
    with pytest.raises(ConnectionClosed) as ended:
        await within(ws.recv())
    assert ended.value.rcvd is not None
    return ended.value.rcvd.code, ended.value.rcvd.reason


# Echo


async def test_echo(example):
    running = await example("echo:app", "--lifespan", "on")
    async with connect(running.ws_url, proxy=None) as ws:
        for message in ("hello", "", "\N{SNOWMAN}" * 40_000, b"\x00\xff", b"", bytes(100_000)):
            await ws.send(message)
            assert await within(ws.recv()) == message


async def test_echo_tells_http_clients_what_it_is(example):
    running = await example("echo:app")
    async with httpx.AsyncClient(trust_env=False) as http:
        response = await http.get(running.url)
    assert response.status_code == 200
    assert "ws://" in response.text


async def test_echo_is_told_of_the_shutdown(example):
    running = await example("echo:app")
    async with connect(running.ws_url, proxy=None) as ws:
        await ws.send("hello")
        assert await within(ws.recv()) == "hello"
        stopping = asyncio.ensure_future(running.stop())
        assert (await closed(ws))[0] == 1012
        out = await stopping
    assert re.search(r'"WebSocket /" accepted\n', out)
    assert re.search(r'"WebSocket /" closed 1012 after \S+, in 1 message 5B, out 1 message 5B\n', out)


# Chat


async def test_chat(example):
    running = await example("chat:app")
    async with connect(f"{running.ws_url}/chat?name=Ada", proxy=None) as ada:
        assert await receive(ada) == {"type": "welcome", "name": "Ada", "people": ["Ada"], "messages": []}
        await ada.send(json.dumps({"text": "is anybody there?"}))
        said = await receive(ada)
        assert (said["type"], said["name"], said["text"]) == ("message", "Ada", "is anybody there?")
        async with connect(f"{running.ws_url}/chat?name=%20Bob%20", proxy=None) as bob:
            assert await receive(bob) == {
                "type": "welcome",
                "name": "Bob",
                "people": ["Ada", "Bob"],
                "messages": [said],
            }
            assert await receive(ada) == {"type": "join", "name": "Bob", "people": ["Ada", "Bob"]}
            await bob.send(json.dumps({"text": "yes"}))
            heard = await receive(ada)
            assert (heard["name"], heard["text"]) == ("Bob", "yes")
            assert await receive(bob) == heard
        assert await receive(ada) == {"type": "leave", "name": "Bob", "people": ["Ada"]}


async def test_chat_makes_names_unique(example):
    running = await example("chat:app")
    url = f"{running.ws_url}/chat?name=Ada"
    async with connect(url, proxy=None) as one, connect(url, proxy=None) as two, connect(url, proxy=None) as three:
        names = [(await receive(ws))["name"] for ws in (one, two, three)]
    assert sorted(names) == ["Ada", "Ada 2", "Ada 3"]


async def test_chat_ignores_what_makes_no_sense(example):
    running = await example("chat:app")
    async with connect(f"{running.ws_url}/chat?name=Ada", proxy=None) as ada:
        await receive(ada)
        for nonsense in ("", "no JSON", "[]", '{"text": 5}', '{"text": "  "}', "null", b"\x00"):
            await ada.send(nonsense)
        await ada.send(json.dumps({"text": "x" * 5000}))
        assert (await receive(ada))["text"] == "x" * 2000


async def test_chat_wants_a_name(example):
    running = await example("chat:app")
    with pytest.raises(InvalidStatus) as denied:
        await within(connect(f"{running.ws_url}/chat", proxy=None))
    assert denied.value.response.status_code == 400
    assert b"who you are" in denied.value.response.body


async def test_chat_sends_away_who_does_not_read(example):
    running = await example("chat:app")
    url = f"{running.ws_url}/chat?name="
    async with (
        connect(url + "Sloth", proxy=None, max_queue=1, ping_interval=None, compression=None) as sloth,
        connect(url + "Ada", proxy=None) as ada,
    ):
        people = (await receive(ada))["people"]
        assert sorted(people) == ["Ada", "Sloth"]
        event = {"type": "message"}
        text = json.dumps({"text": "\N{SNOWMAN}" * 2000})
        while event["type"] == "message":
            await ada.send(text)
            event = await receive(ada)
        assert event == {"type": "leave", "name": "Sloth", "people": ["Ada"]}
        sloth.transport.abort()


# Ticker


async def test_ticker(example):
    running = await example("ticker:app")
    async with httpx.AsyncClient(trust_env=False, base_url=running.url) as http:
        assert (await http.get("/prices")).json() == []
        assert (await http.get("/prices/ACME")).status_code == 404
        first = (await http.put("/prices/ACME", json={"price": 12.5})).json()
        assert first == {"symbol": "ACME", "price": 12.5, "version": 1}
        assert (await http.get("/prices/ACME")).json() == first
        assert (await http.put("/prices/ACME", json={"price": -1})).status_code == 422

        async with (
            connect(f"{running.ws_url}/live", proxy=None) as everything,
            connect(f"{running.ws_url}/live?symbol=INIT&symbol=ACME", proxy=None) as two,
            connect(f"{running.ws_url}/live?symbol=INIT", proxy=None) as one,
        ):
            assert await receive(everything) == await receive(two) == first
            await http.put("/prices/OTHER", json={"price": 1})
            assert (await receive(everything))["symbol"] == "OTHER"
            second = (await http.put("/prices/INIT", json={"price": 3})).json()
            assert await receive(everything) == await receive(two) == await receive(one) == second
            third = (await http.put("/prices/INIT", json={"price": 4})).json()
            assert third["version"] == 2
            assert await receive(one) == third


async def test_ticker_has_its_api_described(example):
    running = await example("ticker:app")
    async with httpx.AsyncClient(trust_env=False, base_url=running.url) as http:
        assert (await http.get("/docs")).status_code == 200
        assert "/prices/{symbol}" in (await http.get("/openapi.json")).json()["paths"]
