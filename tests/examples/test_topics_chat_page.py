"""The chat with rooms in a real browser, on two workers: its pages see the same, also after losses."""

from __future__ import annotations

import json
import os
import signal

import pytest
from support.devtools import START, Browser, Page
from support.helpers import within
from support.redis_server import redis_needed
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

OPEN = "document.querySelector('#status.open')"
TEXTS = "[...document.querySelectorAll('li:not(.pending) .text, .gap')].map((each) => each.textContent)"
GAP = "Messages are missing here"


async def enter(browser: Browser, url: str, name: str) -> Page:
    page = await browser.open(url)
    await page.until("document.activeElement.id === 'name'")
    await page.type(name)
    await page.until(f"{OPEN} && document.activeElement.id === 'text'")
    return page


async def worker(page: Page) -> int:
    return int(await page.evaluate("document.body.dataset.worker"))


async def reconnect(page: Page) -> None:
    await page.evaluate("disconnect(), show(''), connect()")
    await page.until(OPEN)


async def part(page: Page, other: Page) -> None:
    """Have a page reconnect until it is on another worker than the other one."""
    while await worker(page) == await worker(other):
        await reconnect(page)


async def shows(page: Page, *texts: str) -> None:
    await page.until(f"JSON.stringify({TEXTS}) === JSON.stringify({list(texts)!r})")


async def here(page: Page, *names: str) -> None:
    """Wait until the page shows exactly these as present."""
    shown = "document.querySelector('#present').textContent.replace(' here', '').split(', ').sort()"
    await page.until(f"JSON.stringify({shown}) === JSON.stringify({sorted(names)!r})")


async def test_pages_on_two_workers(example, browser, picture):
    server = await example("topics.chat:app", "--workers", "2")
    ada, bob = await enter(browser, server.url, "Ada"), await enter(browser, server.url, "Bob")
    await within(part(bob, ada), START)  # which of them accepts is up to the kernel
    await ada.type("Hello Bob, <b>how</b> are you?")
    await shows(bob, "Hello Bob, <b>how</b> are you?")  # as text, not as HTML
    await bob.type("Fine, thanks \N{WAVING HAND SIGN}")
    said = ["Hello Bob, <b>how</b> are you?", "Fine, thanks \N{WAVING HAND SIGN}"]
    await shows(ada, *said)
    assert await ada.evaluate("document.querySelector('.own .text').textContent") == said[0]
    assert await bob.evaluate("document.querySelector('.own .text').textContent") == said[1]
    for page in (ada, bob):
        await here(page, "Ada", "Bob")

    # Who comes later sees what was said, also after a reload; another room has its own.
    cem = await enter(browser, server.url, "Cem")
    await shows(cem, *said)
    for page in (ada, bob, cem):
        await here(page, "Ada", "Bob", "Cem")
    await cem.reload()
    await shows(cem, *said)
    await cem.evaluate("location.hash = '#tea'")
    await cem.until(f"{OPEN} && document.title === '# tea'")
    await here(cem, "Cem")
    await here(ada, "Ada", "Bob")
    await cem.type("A cup of tea?")
    await shows(cem, "A cup of tea?")
    await cem.evaluate("location.hash = '#lobby'")
    await shows(cem, *said)

    # Bob's worker is killed, and he writes before he is back: nothing is lost, and nothing comes twice.
    killed = await worker(bob)
    os.kill(killed, signal.SIGKILL)
    await bob.until(f"!{OPEN}")
    await bob.type("Where was I?")
    await ada.type("You were away")  # by Ada's worker, which stayed
    for page in (ada, bob):
        await page.until(f"{TEXTS}.length === 4 && {OPEN}")
    last = await ada.evaluate(TEXTS)
    assert last[:2] == said
    assert sorted(last[2:]) == ["Where was I?", "You were away"]
    await shows(bob, *last)
    assert await worker(bob) != killed
    await picture(ada, "rooms")
    await picture(bob, "rooms-dark", dark=True)
    await picture(bob, "rooms-narrow", width=390, height=700)
    assert [each for each in browser.problems if "WebSocket connection to" not in each] == []
    await server.stop(f"Worker {killed} ", f"[{killed}] ")


@redis_needed
async def test_pages_on_two_servers(example, browser, redis):
    """Which share nothing but Redis, as on two machines; it loses their connections."""
    servers = [await example("topics.chat:app", "--topics-url", redis.url) for _ in range(2)]
    ada, bob = [await enter(browser, each.url, name) for each, name in zip(servers, ("Ada", "Bob"), strict=True)]
    assert await worker(ada) != await worker(bob)
    await ada.type("Hello Bob")
    await shows(bob, "Hello Bob")
    await bob.type("Fine, thanks")
    await shows(ada, "Hello Bob", "Fine, thanks")
    cem = await enter(browser, servers[1].url, "Cem")
    await shows(cem, "Hello Bob", "Fine, thanks")

    await redis.call("CLIENT", "KILL", "TYPE", "pubsub")
    await ada.type("Anybody there?")
    for page in (ada, bob, cem):
        await shows(page, "Hello Bob", "Fine, thanks", "Anybody there?")
    assert browser.problems == []
    for each in servers:
        await each.stop(" is lost: ")


async def test_a_gap_is_shown(example, browser, picture):
    server = await example("topics.chat:app", "--workers", "2", "--topics-history", "3")
    ada, bob = await enter(browser, server.url, "Ada"), await enter(browser, server.url, "Bob")
    await ada.type("0")
    await shows(bob, "0")
    await bob.evaluate("disconnect()")
    for number in range(1, 6):
        await ada.type(str(number))
    await shows(ada, *"012345")
    await bob.evaluate("connect()")
    await shows(bob, "0", GAP, *"345")  # what is kept comes all the same
    await ada.type("6")
    await shows(bob, "0", GAP, *"3456")
    await reconnect(bob)  # within what is kept
    await ada.type("7")
    await shows(bob, "0", GAP, *"34567")
    await picture(bob, "rooms-gap")
    assert browser.problems == []


async def receive(ws: ClientConnection) -> dict:
    """What comes next, but for who is there."""
    while {"members", "joins"} & (event := json.loads(await within(ws.recv()))).keys():
        pass
    return event


async def test_what_pages_never_say(example):
    server = await example("topics.chat:app")
    async with connect(f"{server.ws_url}/chat/lobby?name=Ada", proxy=None) as ada:
        assert (await receive(ada))["recovered"] is True
        for said in ("{", "[]", '{"key": "1"}', '{"key": "1", "text": " "}', '{"key": "1", "text": "once"}'):
            await ada.send(said)
        await ada.send('{"key": "1", "text": "twice"}')
        await ada.send('{"key": "2", "text": "last"}')
        messages = [await receive(ada), await receive(ada)]
        assert [(each["topic"], each["data"]["text"]) for each in messages] == [
            ("chat:lobby", "once"),
            ("chat:lobby", "last"),
        ]
    async with connect(f"{server.ws_url}/chat/lobby?name=Ada&since=x", proxy=None) as ada:
        assert await receive(ada) == {"topic": "chat:lobby", "gap": True, "position": messages[1]["position"]}
        assert (await receive(ada))["recovered"] is False
    for path in ("/chat/lobby", "/chat/lobby?name=%20", f"/chat/{'x' * 31}?name=Ada"):
        with pytest.raises(InvalidStatus, match="403"):
            await connect(f"{server.ws_url}{path}", proxy=None)
