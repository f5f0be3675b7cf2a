"""A script in Node, Chromium or Firefox, against a server of its own: examples/topics/client.js as pages use it.

Browsers open a page whose script reports over HTTP what it has seen, which each of them does alike.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from flowserve import topics
from support.devtools import FLAGS, START
from support.helpers import within

CLIENT = Path(__file__).parents[2] / "examples" / "topics" / "client.js"
ENGINES = ("node", "chromium", "firefox")
BROWSERS = ("chromium", "firefox")
SECRET = "a secret for tests alone"

PRELUDE = """
const report = (value) => fetch(base + "/report", { method: "POST", body: JSON.stringify(value) });
const url = "ws" + base.slice(4) + "/topics";
"""
QUIET_FIREFOX = """
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("network.proxy.type", 0);
user_pref("app.update.enabled", false);
user_pref("browser.startup.homepage_override.mstone", "ignore");
"""


class Lab:
    """An application for pages. `refusing` has WebSockets be refused, `grants` asks for grants, `mute` accepts them and
    answers nothing; none is answered until `reachable` is set; `publish_rate` is as for `topics.serve()`."""

    def __init__(self) -> None:
        self.script = ""
        self.reports: asyncio.Queue[Any] = asyncio.Queue()
        self.scopes: list[Any] = []  # of the WebSockets that were accepted
        self.streams = 0  # that were asked for
        self.granted = 0
        self.refusing = self.grants = self.mute = False
        self.reachable = asyncio.Event()
        self.reachable.set()
        self.publish_rate: float | None = None
        self.app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/client.js", self._client),
                Route("/grant", self._grant),
                Route("/events", self._events),
                Route("/report", self._report, methods=["POST"]),
                WebSocketRoute("/topics", self._topics),
            ]
        )

    def abort(self) -> None:
        """Lose all connections."""
        for scope in self.scopes:
            scope["extensions"]["flowserve.topics"].session.abort()
        self.scopes.clear()

    async def _page(self, request: Request) -> HTMLResponse:
        head = 'import { connect, START, OLDEST } from "/client.js";\nconst base = location.origin;'
        return HTMLResponse(f"<!doctype html><script type=module>{head}{PRELUDE}{self.script}</script>")

    async def _client(self, request: Request) -> FileResponse:
        return FileResponse(CLIENT)

    async def _grant(self, request: Request) -> PlainTextResponse:
        self.granted += 1
        if self.granted == 2:
            return PlainTextResponse("")  # whoever gives grants has none now
        return PlainTextResponse(topics.grant(SECRET, ["news"], ttl=0.5))

    async def _report(self, request: Request) -> PlainTextResponse:
        self.reports.put_nowait(json.loads(await request.body()))
        return PlainTextResponse("")

    async def _events(self, request: Request) -> Response:
        self.streams += 1
        wanted = json.loads(request.query_params["topics"])
        response: Response = topics.event_source(request, *wanted, since=wanted, envelope="json")
        return response

    async def _topics(self, websocket: WebSocket) -> None:
        await self.reachable.wait()
        if self.refusing:
            await websocket.close()
            return
        await websocket.accept(subprotocol=topics.SUBPROTOCOL)
        self.scopes.append(websocket.scope)
        if self.mute:
            self.mute = False
            await websocket.receive()
            await asyncio.Event().wait()
        if self.grants:
            await topics.serve(websocket, secret=SECRET)
        else:
            await topics.serve(
                websocket,
                allow=lambda topic, _: topic != "secret",
                publish_rate=self.publish_rate,
                publish_burst=4,
                member=websocket.query_params.get("member"),
                presence=True,
            )


def engine_path(engine: str) -> str:
    """The path of a program. Skips the test without it; with FLOWSERVE_CI set that is a failure."""
    names = {"firefox": ("firefox", "firefox-esr"), "chromium": ("chromium", "chromium-browser", "google-chrome")}
    path = next((found for name in names.get(engine, (engine,)) if (found := shutil.which(name))), None)
    if path is None:
        if os.environ.get("FLOWSERVE_CI"):
            pytest.fail(f"{engine} is not installed here")
        pytest.skip(f"{engine} is not installed")
    return path


def _command(engine: str, base: str, folder: Path, script: str) -> list[str]:
    path = engine_path(engine)
    if engine == "node":
        shutil.copy(CLIENT, folder / "client.mjs")
        head = f'import {{ connect, START, OLDEST }} from "./client.mjs";\nconst base = "{base}";'
        (folder / "script.mjs").write_text(f"{head}{PRELUDE}{script}", "utf-8")
        return [path, "--experimental-websocket", "--no-warnings", str(folder / "script.mjs")]
    if engine == "firefox":
        (folder / "user.js").write_text(QUIET_FIREFOX, "utf-8")
        return [path, "--headless", "--no-remote", "--profile", str(folder), f"{base}/"]
    flags = [flag for flag in FLAGS if flag != "--remote-debugging-port=0"]
    return [path, *flags, f"--user-data-dir={folder}", f"{base}/"]


@asynccontextmanager
async def running(engine: str, lab: Lab, base: str, folder: Path, script: str) -> AsyncIterator[None]:
    """Run a script, which has `connect`, `START`, `OLDEST`, `base`, `url` and `report(value)`."""
    lab.script = script
    with (folder / "out").open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *_command(engine, base, folder, script),
            cwd=folder,
            env={**os.environ, "MOZ_DISABLE_CONTENT_SANDBOX": "1", "HOME": str(folder)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield
    except BaseException:
        print((folder / "out").read_text(errors="replace")[-3000:])
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await within(process.wait())


async def reported(lab: Lab) -> Any:
    """The next report."""
    return await within(lab.reports.get(), START)
