"""The token stream in a real browser, on two workers: each reader gets every token exactly once."""

from __future__ import annotations

import asyncio
import os
import runpy
import signal
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path

import httpx
from support.devtools import Page
from support.helpers import within

EXAMPLE = Path(__file__).parents[2] / "examples" / "topics" / "tokens.py"
QUESTION = "What happens when I reload?"
COUNT = "document.querySelectorAll('.token').length"
COMPLETE = "document.querySelector('#status').textContent === 'Complete'"
TOKENS = "[...document.querySelectorAll('#answer span')].map((each) => each.textContent)"


def expected(count: int) -> list[str]:
    return list(islice(runpy.run_path(str(EXAMPLE))["tokens"](QUESTION), count))


def client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, trust_env=False)


async def ask(http: httpx.AsyncClient, tokens: int, rate: int) -> tuple[str, int]:
    """Begin an answer; return its name, and the worker that writes it."""
    response = await http.post("/answers", json={"question": QUESTION, "tokens": tokens, "rate": rate})
    answer = response.raise_for_status().json()
    return answer["answer"], answer["worker"]


async def events(http: httpx.AsyncClient, name: str, last_id: str = "") -> AsyncIterator[tuple[str, str, str]]:
    """Yield the type, id and data of events, as a client that keeps no connection."""
    headers = {"connection": "close", **({"last-event-id": last_id} if last_id else {})}
    async with http.stream("GET", f"/answers/{name}", headers=headers) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        kind, data = "message", []
        async for line in response.aiter_lines():
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "id":
                last_id = value
            elif field == "event":
                kind = value
            elif field == "data":
                data.append(value)
            elif not line and data:
                yield kind, last_id, "\n".join(data)
                kind, data = "message", []


async def read(http: httpx.AsyncClient, name: str, connections: int) -> list[str]:
    """Read a whole stream over so many connections, each but the last one broken off after 500 tokens."""
    got: list[str] = []
    last_id = ""
    for number in range(1, connections + 1):
        async for kind, position, data in events(http, name, last_id):
            if kind == "end":
                return got
            assert kind == "message"
            got.append(data)
            last_id = position
            if number < connections and len(got) == 500 * number:
                break
    raise AssertionError(f"the stream broke off after {len(got)} tokens")


async def worker(page: Page) -> int:
    return int(await page.evaluate("document.body.dataset.worker"))


async def test_a_stream_is_read_whole_by_three_readers(example, browser):
    server = await example("topics.tokens:app", "--workers", "2")
    async with client(server.url) as http:
        name, _ = await ask(http, 2000, 700)
        one, three = (asyncio.ensure_future(read(http, name, connections)) for connections in (1, 3))
        page = await browser.open(f"{server.url}/#{name}")
        await page.until(f"{COUNT} > 500")
        await page.reload()
        await page.until(COMPLETE)
        wanted = expected(2000)
        assert await within(one) == await within(three) == wanted
        assert await page.evaluate(TOKENS) == wanted
    assert browser.problems == []


async def test_a_page_reads_on_from_another_worker(example, browser, picture):
    server = await example("topics.tokens:app", "--workers", "2")
    page = await browser.open(server.url)
    async with client(server.url) as http:
        while True:  # until the worker that writes is another one than that from which the page reads
            name, writer = await ask(http, 450, 150)
            await page.evaluate(f"delete document.body.dataset.worker, location.hash = '{name}'")
            await page.until(f"document.body.dataset.worker && {COUNT} > 0")
            if await worker(page) != writer:
                break
    killed = await worker(page)
    await page.evaluate("window.lost = 0, source.addEventListener('error', () => lost++)")
    os.kill(killed, signal.SIGKILL)
    await page.until("lost")
    assert not await page.evaluate(COMPLETE)
    await picture(page, "tokens-lost")
    await page.until("document.querySelector('#status.open')")
    await picture(page, "tokens")
    await page.until(COMPLETE)
    assert await page.evaluate(TOKENS) == expected(450)
    assert await worker(page) != killed
    await picture(page, "tokens-dark", dark=True)
    await picture(page, "tokens-narrow", width=390, height=780)

    # A reader who comes after the end gets all of it, and asking again begins a new one.
    await page.reload()
    await page.until(COMPLETE)
    assert await page.evaluate(TOKENS) == expected(450)
    await page.evaluate("$('tokens').value = '100', $('rate').value = '500', $('question').focus()")
    await page.type("")
    await page.until(f"location.hash !== '#{name}' && {COMPLETE} && {COUNT} === 100")
    assert [each for each in browser.problems if "Failed to load resource" not in each] == []
    await server.stop(f"Worker {killed} ", f"[{killed}] ")


async def test_a_question_that_makes_no_sense_is_refused(example):
    server = await example("topics.tokens:app")
    async with client(server.url) as http:
        for body in (b"", b"[]", b'{"question": "?", "tokens": "x", "rate": 1}'):
            assert (await http.post("/answers", content=body)).status_code == 400
        for tokens, rate in ((0, 1), (5001, 1000), (10, 1001), (5000, 1)):
            response = await http.post("/answers", json={"question": "?", "tokens": tokens, "rate": rate})
            assert response.status_code == 400
