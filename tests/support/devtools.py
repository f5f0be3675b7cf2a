"""Headless Chromium, driven by its DevTools protocol over a WebSocket: https://chromedevtools.github.io/devtools-protocol/"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from support.helpers import within

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--remote-debugging-port=0",
)
START = 30.0  # seconds; a cold start on a busy machine

# Resolves when the expression is true. It looks again and again: focus and scrolling are no mutations to be observed.
UNTIL = """new Promise((resolve) => {
  const look = () => (%s) ? resolve(true) : setTimeout(look, 20);
  look();
})"""


class Browser:
    """`browser = await Browser.launch(path, profile)`; `await browser.aclose()` at the end."""

    def __init__(self, process: asyncio.subprocess.Process, socket: ClientConnection) -> None:
        self._process = process
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.ensure_future(self._read())
        self.problems: list[str] = []
        """What pages threw, or wrote to their consoles as warnings and errors."""

    @classmethod
    async def launch(cls, path: str, profile: Path) -> Browser:
        process = await asyncio.create_subprocess_exec(
            *(path, *FLAGS, f"--user-data-dir={profile}", "about:blank"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        printed = b""
        while line := await within(process.stderr.readline(), START):
            printed += line
            if found := re.search(r"DevTools listening on (ws://\S+)", line.decode(errors="replace")):
                socket = await within(connect(found[1], proxy=None, max_size=None, compression=None))
                return cls(process, socket)
        raise AssertionError(f"chromium did not start: {printed.decode(errors='replace')}")

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol, in a page's session or the browser's own; AssertionError if it fails."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": params}
        await self._socket.send(json.dumps(message if session is None else {**message, "sessionId": session}))
        got = await within(answer)
        assert "error" not in got, f"{method}: {got.get('error')}"
        result: dict[str, Any] = got["result"]
        return result

    async def open(self, url: str, **features: str) -> Page:
        """A page in a window of another user: no cookies or storage in common. `features` are of its media, such as
        prefers_reduced_motion="reduce"."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = (await self.call("Target.createTarget", url="about:blank", browserContextId=context))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable", session)
        given = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        await self.call("Emulation.setEmulatedMedia", session, features=given)
        navigated = await self.call("Page.navigate", session, url=url)
        assert "errorText" not in navigated, navigated["errorText"]
        page = Page(self, session)
        await page.until(f"location.href.startsWith({json.dumps(url)}) && document.readyState !== 'loading'")
        return page

    async def aclose(self) -> None:
        """End it, with the processes that it has started."""
        try:
            if not self._reader.done():
                await self.call("Browser.close")
            assert self._process.stderr is not None
            await within(self._process.stderr.read())  # all of its processes have it open
        finally:
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    self._process.kill()
            await within(self._process.wait())
            await self._socket.close()
            await within(self._reader)

    async def _read(self) -> None:
        with suppress(ConnectionClosed):  # how it ends when it is told to close
            while True:
                message = json.loads(await self._socket.recv())
                if "id" in message:
                    self._answers.pop(message["id"]).set_result(message)
                else:
                    self._notice(message["method"], message["params"])
        for answer in self._answers.values():
            answer.set_result({"error": "chromium has gone"})

    def _notice(self, event: str, params: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.problems.append(params["exceptionDetails"].get("exception", {}).get("description", str(params)))
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("warning", "error"):
            self.problems.append(params["entry"]["text"])


class Page:
    """One page of a browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    async def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression; of the promise's, if it is one."""
        got = await self._browser.call(
            "Runtime.evaluate", self._session, expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        result: dict[str, Any] = got["result"]
        return result.get("value")

    async def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        try:
            await self.evaluate(UNTIL % condition)
        except AssertionError as error:
            body = await self.evaluate("document.body.innerText")
            raise AssertionError(f"not seen: {condition}; the page says {body!r}") from error

    async def reload(self) -> None:
        """Load it again, and wait until that has begun."""
        await self.evaluate("window.outdated = true")
        await self._browser.call("Page.reload", self._session)
        await within(self._renewed())

    async def _renewed(self) -> None:
        outdated: Any = True
        while outdated:
            with suppress(AssertionError):  # there is none in between
                outdated = await self.evaluate("window.outdated || document.readyState === 'loading'")

    async def type(self, text: str) -> None:
        """What the user types into the field that has the focus, and the Enter key."""
        await self._browser.call("Input.insertText", self._session, text=text)
        for kind in ("keyDown", "keyUp"):
            key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
            await self._browser.call("Input.dispatchKeyEvent", self._session, type=kind, **key)

    async def point(self, x: int, y: int, *, click: bool = False) -> None:
        """Move the mouse, and press and release its left button there."""
        kinds = ("mouseMoved", "mousePressed", "mouseReleased") if click else ("mouseMoved",)
        for kind in kinds:
            button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            await self._browser.call("Input.dispatchMouseEvent", self._session, type=kind, x=x, y=y, **button)

    async def screenshot(self, width: int = 1000, height: int = 700, dark: bool = False) -> bytes:
        """What it looks like, as PNG."""
        call, session = self._browser.call, self._session
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await call("Emulation.setDeviceMetricsOverride", session, **metrics)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await call("Emulation.setEmulatedMedia", session, features=[feature])
        return base64.b64decode((await call("Page.captureScreenshot", session))["data"])
