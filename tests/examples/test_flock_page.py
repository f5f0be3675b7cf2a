"""The flock's page in a real browser: two visitors lead the birds, one comes back after a loss, the server stops."""

from __future__ import annotations

import re
import signal

from support.devtools import Page
from support.helpers import within

OPEN = "document.querySelector('#status.open')"


def says(text: str) -> str:
    return f"document.body.innerText.includes({text!r})"


def sees(number: int, lure: str) -> str:
    """Whether the last frame has a visitor with such a lure."""
    return f"now?.visitors.some((each) => each.number === {number} && {lure})"


async def flies(page: Page) -> None:
    """Wait until the picture has changed, which must be one."""
    await page.until("canvas.dataset.drawn")
    await page.evaluate("window.first = canvas.toDataURL()")
    await page.until("canvas.toDataURL() !== first")


async def test_two_pages_lead_the_birds(start, browser, picture):
    server = await start("flock_server.py", "0")
    url = re.search(r"http://\S+", (await within(server.stdout.readline())).decode())[0]
    one, two = await browser.open(url), await browser.open(url)
    await one.until(says("You are visitor 1, with 1 other"))
    await two.until(says("You are visitor 2, with 1 other"))
    await flies(one)
    await one.point(600, 400)
    await two.point(200, 200, click=True)
    await one.until(sees(2, "each.lure") + " && ripples.length")
    await two.until(sees(1, "each.lure") + r" && /1 [\d.]+ ms/.test(document.body.innerText)")
    await picture(one, "flock")
    await picture(one, "flock-dark", dark=True)
    await picture(one, "flock-narrow", width=390, height=780)

    # A WebSocket that is lost comes back by itself, as another visitor.
    await two.evaluate("socket.close()")
    await one.until(says("alone so far") + f" && !({sees(2, 'true')})")
    await two.until(says("You are visitor 3, with 1 other"))
    await one.until(sees(3, "true"))

    # Whoever wants no motion has none before asking for it.
    still = await browser.open(url, prefers_reduced_motion="reduce")
    await still.until(f"{OPEN} && canvas.dataset.drawn")
    before = await still.evaluate("window.first = canvas.toDataURL()")
    await still.evaluate("came = 0")
    await still.until("came")
    assert await still.evaluate("canvas.toDataURL()") == before
    await still.evaluate("document.querySelector('#pause').click()")
    await flies(still)
    assert browser.problems == []

    server.send_signal(signal.SIGINT)
    await one.until(f"!{OPEN} && {says('The server has stopped (1001)')}")
    assert await within(server.wait()) == 0
