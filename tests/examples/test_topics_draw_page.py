"""The board in a real browser, on two workers: what one page draws, others see, and those that come later."""

from __future__ import annotations

import json
from typing import Any

import httpx
from support.devtools import Page

CONNECTED = "document.querySelector('#status').className === 'open'"
COLOR = "[...document.querySelector('canvas').getContext('2d').getImageData({x}, {y}, 1, 1).data]"
BLUE = [66, 84, 232, 255]


async def stroke(page: Page) -> None:
    """Draw a line from the left to the right through the middle."""
    await page.evaluate("""{
      const canvas = document.querySelector("canvas"), middle = canvas.clientHeight / 2;
      canvas.setPointerCapture = () => {};
      const tell = (type, x) => {
        const event = new PointerEvent(type, { pointerId: 1 });
        Object.defineProperties(event, { offsetX: { value: x }, offsetY: { value: middle } });
        canvas.dispatchEvent(event);
      };
      tell("pointerdown", 10);
      for (let x = 20; x < canvas.clientWidth; x += 10) tell("pointermove", x);
      tell("pointerup", 0);
    }""")


async def sees_it(page: Page) -> None:
    await page.until(f"({COLOR.format(x=800, y=500)}).join() === '{','.join(map(str, BLUE))}'")


async def test_drawing_together(example: Any, browser: Any, picture: Any) -> None:
    running = await example("topics.draw:app", "--workers", "2")
    pages = [await browser.open(running.url) for _ in range(4)]
    for page in pages:
        await page.until(CONNECTED)
    await stroke(pages[0])
    for page in pages:
        await sees_it(page)
    late = await browser.open(running.url)
    await sees_it(late)
    await picture(late, "board")
    other = await browser.open(f"{running.url}/?board=b")
    await other.until(CONNECTED)
    assert await other.evaluate(COLOR.format(x=800, y=500)) == [0, 0, 0, 0]
    assert [each for each in browser.problems if "getImageData" not in each] == []  # which the test calls


async def test_the_board_for_show(example: Any, browser: Any) -> None:
    running = await example("topics.draw:app")
    page = await browser.open(f"{running.url}/?board=show")
    await page.until(CONNECTED)
    await stroke(page)
    await page.until("document.querySelector('#status').textContent.startsWith('Not drawn')")
    await page.until(f"!({COLOR.format(x=800, y=500)}).some(Boolean)")  # it is taken back


async def test_its_events(example: Any) -> None:
    running = await example("topics.draw:app")
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as http:
        for wrong in ("", "x", "[]", "1", "{}", "[" * 10_000, '{"":null}', '{"other":null}', "null", '"board:a"'):
            assert (await http.get("/events", params={"topics": wrong})).status_code in (400, 403), wrong
        asked = {"topics": json.dumps({"board:a": None, "board:b": "nonsense"})}
        async with http.stream("GET", "/events", params=asked) as response:
            assert response.status_code == 200
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    assert list(json.loads(line[6:])) == ["board:a"]
                    break
