"""The servers that flowserve's client talks to: what each needs, and its command."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compliance._servers import HOST, Progress
from compliance.interop.peers import WS, install_ws
from compliance.performance.environment import Environment, installed, prepare

SERVERS = Path(__file__).resolve().parent / "servers"
NGINX = """
daemon off;
{user}
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
    server {{
        listen {listen};
        {certificate}
        location / {{
            proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Place:
    """Where a server runs: its port, an empty directory, the certificate (no names without TLS), and for a proxy the
    port of what it stands in front of."""

    port: int
    directory: Path
    certfile: str
    keyfile: str
    upstream: int

    def tls(self, certfile: str, keyfile: str) -> list[str]:
        """The options that name the certificate and its key, given how the server calls them."""
        return [certfile, self.certfile, keyfile, self.keyfile] if self.certfile else []


@dataclass(frozen=True)
class Peer:
    """A server that is there. `pings` says that it can send a ping when asked to, as an ASGI application can't; `proxy`
    that flowserve is to run behind it."""

    name: str
    version: str
    command: Callable[[Place], list[str]]
    pings: bool = False
    proxy: bool = False


def available(progress: Progress) -> tuple[list[Peer], Environment]:
    """Install what can be installed: the servers that are there, and with the environment notes on those that are
    not."""
    environment = prepare(None, ["bun"], progress)
    python, notes = environment.python, environment.notes
    modules = ["websockets", "aiohttp", "picows", "uvicorn", "granian"]
    versions = installed(environment, modules)
    notes += [f"{name} is left out: not installed" for name in modules if name not in versions]
    found = []
    if directory := install_ws(notes, progress):
        command = script(["node", str(SERVERS / "server.mjs")], directory)
        found.append(Peer("Node's ws", WS.partition("@")[2], command, pings=True))
    if environment.bun:
        found.append(Peer("Bun", versions["bun"], script([environment.bun, str(SERVERS / "server.mjs")]), pings=True))
    for name in ("websockets", "aiohttp", "picows", "picows-websockets"):
        if version := versions.get(name.partition("-")[0]):
            found.append(Peer(name, version, script([python, str(SERVERS / "server.py"), name]), pings=True))
    if "uvicorn" in versions:
        found.append(Peer("uvicorn", versions["uvicorn"], lambda place: uvicorn(python, place)))
    if "granian" in versions:
        found.append(Peer("granian", versions["granian"], lambda place: granian(python, place)))
    found += nginx(notes)
    progress.clear()
    return found, environment


def script(runner: list[str], *more: str) -> Callable[[Place], list[str]]:
    """A server that is a script of ours, and takes its port, certificate and key."""
    return lambda place: [*runner, str(place.port), place.certfile, place.keyfile, *more]


def uvicorn(python: str, place: Place) -> list[str]:
    options = ["--host", HOST, "--port", str(place.port), "--log-level", "warning", "--app-dir", str(SERVERS)]
    return [python, "-m", "uvicorn", *options, *place.tls("--ssl-certfile", "--ssl-keyfile"), "asgi:app"]


def granian(python: str, place: Place) -> list[str]:
    options = ["--host", HOST, "--port", str(place.port), "--interface", "asgi", "--log-level", "warning"]
    directory = ["--working-dir", str(SERVERS)]
    return [python, "-m", "granian", *options, *directory, *place.tls("--ssl-certificate", "--ssl-keyfile"), "asgi:app"]


def nginx(notes: list[str]) -> list[Peer]:
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        notes.append("nginx is left out: not installed")
        return []

    def command(place: Place) -> list[str]:
        config = NGINX.format(
            user="user root;" if os.geteuid() == 0 else "",  # who alone may enter the directory
            listen=f"{HOST}:{place.port}" + " ssl" * bool(place.certfile),
            certificate="".join(f"{each}; " for each in pairs(place.tls("ssl_certificate", "ssl_certificate_key"))),
            upstream=f"{HOST}:{place.upstream}",
        )
        (place.directory / "nginx.conf").write_text(config)
        return [program, "-p", f"{place.directory}/", "-c", "nginx.conf", "-e", "stderr"]

    said = subprocess.run([program, "-v"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    return [Peer("nginx before flowserve", said.strip().rpartition("/")[2], command, proxy=True)]


def pairs(words: list[str]) -> list[str]:
    return [" ".join(words[at : at + 2]) for at in range(0, len(words), 2)]
