"""What type checkers must accept: each way to write a value, as far as it is of its own kind at run time too."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import flowserve
from flowserve import Config, Server, WebSocket


def context(config: Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    return default() if config.ssl_certfile else ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)


async def app(scope: object, receive: object, send: object) -> None: ...


def run() -> None:
    flowserve.run("main:app")
    flowserve.run(app, host="::", port=8000, log_level="debug", reload_dirs=["src", Path("lib")], factory=False)
    flowserve.run("main:app", workers="auto", ssl_certfile=Path("cert.pem"), ssl_cert_reqs=ssl.CERT_REQUIRED)


def configure() -> Config:
    config = Config("main:app", ws_max_size="1MiB", timeout_keep_alive="500ms", ws_ping_interval=None)
    Config(app, ws_max_size=1 << 20, timeout_keep_alive=0.5, headers=[("x-a", "b"), "x-c: d"], use_colors=None)
    Config(app, limit_concurrency="off", forwarded_allow_ips="*", bind=":80", ssl_context_factory=context)
    Config(app=app, bind=["127.0.0.1:80", "unix:/run/app.sock"], limit_concurrency=100, metrics=":9000")
    size: int = config.ws_max_size
    seconds: float | None = config.ws_ping_interval
    config.configure_logging()
    return config if size and seconds else Config("main:app")


class Quiet(Server):
    def install_signal_handlers(self) -> None: ...


def in_a_thread(server: Server, sock: socket.socket) -> None:
    server.run(sockets=[sock])
    server.should_exit = server.force_exit = True
    assert not server.started


async def handler(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


async def library() -> None:
    async with flowserve.serve(
        handler, "127.0.0.1", 0, max_size="1MiB", ping_interval=0, timeout_keep_alive="5s", access_log=True
    ) as server:
        await server.serve_forever()
    async with flowserve.connect(
        "ws://localhost", max_size=None, max_queue=(16, None), compression=None, open_timeout=1, family=socket.AF_INET
    ) as ws:
        text = await ws.receive()
        print(text)
    with socket.socket() as sock:
        await flowserve.accept(sock, idle_timeout="1m", deflate_level=1)
    await Quiet(configure()).serve()


asyncio.run(library())
