"""flowserve behind real nginx, with the configuration of examples/deploy."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.helpers import Client, Response, within
from support.programs import DEPLOY, PATIENCE, Program, listening
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

# The rest of nginx.conf, which a distribution brings: here all below one folder, and in the foreground.
AROUND = """
daemon off;
worker_processes 2;
pid nginx.pid;
error_log stderr warn;
events {}
http {
    access_log off;
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
    include site.conf;
}
"""
CLIENT = "127.0.0.2"
"""Where clients connect from, so that they can be told from nginx."""


class Site:
    """nginx on free ports, without and with TLS, in front of flowserve."""

    def __init__(self, start: Any, need: Any, folder: Path) -> None:
        self._start, self._nginx, self._folder = start, need("nginx"), folder
        self.plain, self.secure = listening(), listening()
        self.tls: ssl.SSLContext | None = None
        self._open: list[ClientConnection] = []

    async def begin(self, upstream: str) -> None:
        trustme = pytest.importorskip("trustme")
        authority, (host, port) = trustme.CA(), self.plain.getsockname()
        self.tls = ssl.create_default_context()
        authority.configure_trust(self.tls)
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(self._folder / "cert.pem")
        site = (DEPLOY / "nginx.conf").read_text()
        for example, real in (
            ("listen 80;", f"listen {host}:{port};"),
            ("# listen 443 ssl;", f"listen {host}:{self.secure.getsockname()[1]} ssl;"),
            ("# ssl_certificate     /etc/ssl/example.com.pem;", "ssl_certificate cert.pem;"),
            ("# ssl_certificate_key /etc/ssl/example.com.key;", "ssl_certificate_key cert.pem;"),
            ("server unix:/run/flowserve.sock ", f"server {upstream} "),
        ):
            assert site.count(example) == 1, example
            site = site.replace(example, real)
        (self._folder / "site.conf").write_text(site)
        user = "user root;" if os.geteuid() == 0 else ""  # who alone may enter the folders of tests
        (self._folder / "nginx.conf").write_text(user + AROUND)
        sockets = (self.plain.fileno(), self.secure.fileno())
        # As nginx inherits sockets from itself when it is replaced: so its ports are free for sure.
        inherited = "".join(f"{each};" for each in sockets)
        command = (self._nginx, "-p", f"{self._folder}/", "-c", "nginx.conf", "-e", "stderr")
        await self._start(*command, fds=sockets, cwd=self._folder, NGINX=inherited)

    async def get(self, target: str = "/", *headers: str, secure: bool = False) -> Response:
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((CLIENT, 0))
        address = (self.secure if secure else self.plain).getsockname()
        await within(asyncio.get_running_loop().sock_connect(sock, address))
        options: dict[str, Any] = {"ssl": self.tls, "server_hostname": "127.0.0.1"} if secure else {}
        reader, writer = await within(asyncio.open_connection(sock=sock, **options))
        client = Client(reader, writer, sock)
        try:
            return await client.get(target, *headers)
        finally:
            await client.aclose()

    async def facts(self, *headers: str, secure: bool = False) -> Any:
        """What the application knows of a request."""
        response = await self.get("/", *headers, secure=secure)
        assert response.status == 200
        return json.loads(response.body)

    async def ws(self, secure: bool = False, **options: Any) -> tuple[ClientConnection, Any]:
        """A WebSocket, and what the application knows of it."""
        host, port = (self.secure if secure else self.plain).getsockname()
        if secure:
            options["ssl"] = self.tls
        url = f"{'wss' if secure else 'ws'}://{host}:{port}/"
        ws = await within(connect(url, proxy=None, local_addr=(CLIENT, 0), **options).__aenter__())
        self._open.append(ws)
        return ws, json.loads(await within(ws.recv()))

    async def aclose(self) -> None:
        for ws in self._open:
            await within(ws.close())
        self.plain.close()
        self.secure.close()


@pytest.fixture
async def site(start: Any, need: Any, tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(start, need, tmp_path)
    yield site
    await site.aclose()


async def flowserve(start: Any, *options: str, fds: tuple[int, ...] = ()) -> Program:
    command = (sys.executable, "-m", "flowserve", "deployed:app", *options)
    program: Program = await start(*command, fds=fds)
    await program.logged("Listening on")
    return program


@pytest.fixture(params=["tcp", "unix"])
async def behind(request: pytest.FixtureRequest, start: Any, site: Site, tmp_path: Path) -> Site:
    """nginx in front of flowserve, over either kind of socket."""
    if request.param == "unix":
        path = str(tmp_path / "s")
        await flowserve(start, "--uds", path)
        await site.begin(f"unix:{path}")
    else:
        with listening() as sock:
            await flowserve(start, "--fd", str(sock.fileno()), fds=(sock.fileno(),))
            host, port = sock.getsockname()
        await site.begin(f"{host}:{port}")
    return site


async def test_http(behind):
    """The client and the scheme are those that nginx sees, whatever the client claims."""
    facts = await behind.facts()
    assert (facts["client"][0], facts["scheme"], facts["headers"]["host"]) == (CLIENT, "http", "example.com")
    claims = ("X-Forwarded-For: 10.9.9.9", "X-Forwarded-Proto: https", "Forwarded: for=10.9.9.9;proto=https")
    facts = await behind.facts(*claims)
    assert (facts["client"][0], facts["scheme"]) == (CLIENT, "http")
    facts = await behind.facts(secure=True)
    assert (facts["client"][0], facts["scheme"]) == (CLIENT, "https")


async def test_websocket(behind):
    """Messages of all sizes there and back, and the close code and reason of the client's choice."""
    for secure in (False, True):
        ws, facts = await behind.ws(secure, max_size=None)
        assert (facts["client"][0], facts["scheme"]) == (CLIENT, "wss" if secure else "ws")
        for message in ("hello", "", os.urandom(3 << 20), "\u03ba" * 500_000):
            await ws.send(message)
            assert await within(ws.recv(), PATIENCE) == message
        await within(await ws.ping())
        await within(ws.close(4001, "bye"))
        assert ws.close_code == 4001


async def test_a_restart_of_flowserve(start, site, tmp_path):
    """WebSockets hear 1012 through nginx, which serves again as soon as flowserve does."""
    path = str(tmp_path / "s")
    first = await flowserve(start, "--uds", path)
    await site.begin(f"unix:{path}")
    ws, facts = await site.ws()
    first.signal(signal.SIGTERM)
    with pytest.raises(ConnectionClosed):
        await within(ws.recv())
    assert ws.close_code == 1012
    assert await first.ended() == 0
    assert (await site.get()).status == 502
    await flowserve(start, "--uds", path)
    assert (await site.facts())["pid"] != facts["pid"]
    ws, _ = await site.ws()
    await ws.send("again")
    assert await within(ws.recv()) == "again"
