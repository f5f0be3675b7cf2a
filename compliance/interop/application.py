"""An echo over WebSocket, and over HTTP what a browser needs to be a client: its page, the messages, a place to report.

INTEROP_CORPUS and INTEROP_REPORT name the files that GET /corpus reads and POST /report writes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

CLIENTS = Path(__file__).resolve().parent / "clients"
FILES = {
    "/": (CLIENTS / "browser.html", b"text/html; charset=utf-8"),
    "/client.mjs": (CLIENTS / "client.mjs", b"text/javascript"),
    "/corpus": (Path(os.environ["INTEROP_CORPUS"]), b"application/octet-stream"),
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await http(scope, receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})


async def http(scope: Any, receive: Any, send: Any) -> None:
    status, kind, content = 404, b"text/plain", b""
    if scope["method"] == "POST":
        status = 200
        save(await body(receive))
    elif scope["path"] in FILES:
        status, (path, kind) = 200, FILES[scope["path"]]
        content = path.read_bytes()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": content})


async def body(receive: Any) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def save(report: bytes) -> None:
    path = Path(os.environ["INTEROP_REPORT"])
    path.with_suffix(".part").write_bytes(report)
    path.with_suffix(".part").rename(path)  # whoever waits for it finds it whole
