"""The chat's page in a real browser: two users talk, the server restarts, and they talk on."""

from __future__ import annotations

import socket

import pytest
from support.devtools import Browser, Page


async def enter(browser: Browser, url: str, name: str) -> Page:
    page = await browser.open(url)
    await page.until("document.activeElement.id === 'name'")
    await page.type(name)
    await page.until("document.querySelector('#status.open') && document.activeElement.id === 'text'")
    return page


def shows(selector: str, text: str) -> str:
    return f"[...document.querySelectorAll({selector!r})].some((each) => each.textContent.includes({text!r}))"


@pytest.fixture
def address():
    """A socket that stays while servers come and go: who connects in between waits to be accepted."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


async def test_two_pages_chat(example, browser, address, picture):
    server = await example("chat:app", sock=address)
    ada = await enter(browser, server.url, "Ada")
    bob = await enter(browser, server.url, "Bob")
    await ada.until(shows(".note", "Bob joined"))

    await ada.type("Hello Bob, <b>how</b> are you?")
    await bob.until(shows("li:not(.own) .text", "Hello Bob, <b>how</b> are you?"))  # as text, not as HTML
    await bob.type("Fine, thanks \N{WAVING HAND SIGN}")
    await ada.until(shows("li:not(.own) .text", "Fine, thanks \N{WAVING HAND SIGN}"))
    await bob.until(shows("li.own .text", "Fine"))
    assert await ada.evaluate("[...document.querySelectorAll('#people li')].map((each) => each.textContent)") == [
        "Ada (you)",
        "Bob",
    ]
    await picture(ada, "chat")
    await picture(bob, "chat-dark", dark=True)
    await picture(bob, "chat-narrow", width=390, height=700)

    # Who comes later sees what was said; who goes is missed.
    cem = await enter(browser, server.url, "Cem")
    await cem.until(shows(".text", "Hello Bob") + " && " + shows(".text", "Fine"))
    await cem.evaluate("socket.onclose = null, socket.close()")
    await ada.until(shows(".note", "Cem left"))

    # The server restarts at the same address: both come back by themselves, and what they read is still there.
    out = await server.stop()
    assert out.count("closed 1012 after") == 2
    for page in (ada, bob):
        await page.until("!document.querySelector('#status.open') && document.querySelector('#text').disabled")
    await example("chat:app", sock=address)
    for page in (ada, bob):
        await page.until("document.querySelector('#status.open')")
    await bob.evaluate("document.querySelector('#text').focus()")
    await bob.type("Here we are again")
    await ada.until(shows("li:not(.own) .text", "Here we are again"))
    assert await ada.evaluate("document.querySelectorAll('.text').length") == 3
    assert browser.problems == []
