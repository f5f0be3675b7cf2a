"""Who is measured: each server as its command line, its environment, and the cases that it can serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from compliance._servers import HOST, flowserve_command, flowserve_env
from compliance.performance.cases import CASES, Case

# The working directory of every server: in the checkout, the source would hide what is installed.
APPS = Path(__file__).resolve().parent / "apps"
EVERY = "".join(CASES)
PLAIN = "".join(name for name, case in CASES.items() if not case.compressed)
COMPRESSED = "".join(name for name, case in CASES.items() if case.compressed)


@dataclass(frozen=True)
class Place:
    """Where a server runs: its interpreter, Bun's command, its port, and the certificate (empty without TLS)."""

    python: str
    bun: str
    port: int
    certfile: str = ""
    keyfile: str = ""

    def tls(self, certfile: str, keyfile: str) -> list[str]:
        """The options that name the certificate and its key, given how the server calls them."""
        return [certfile, self.certfile, keyfile, self.keyfile] if self.certfile else []


@dataclass(frozen=True)
class Peer:
    """A row of the benchmark. `needs` is the module (or 'bun') without which it is left out."""

    name: str
    needs: str
    command: Callable[[Place, Case], list[str]]
    env: dict[str, str] = field(default_factory=dict)
    cases: str = PLAIN

    def environment(self, case: Case) -> dict[str, str]:
        return {**self.env, "BENCHMARK_APP": case.app, "BENCHMARK_DEFLATE": "1" if case.compressed else ""}


def flowserve(place: Place, case: Case) -> list[str]:
    tls = place.tls("--ssl-certfile", "--ssl-keyfile")
    quiet = ["--log-level", "warning"]
    return flowserve_command(place.python, f"applications:{case.app}", APPS, place.port, *quiet, *tls)


def flowserve_takeover(place: Place, case: Case) -> list[str]:
    return [*flowserve(place, case), "--ws-deflate-context", "takeover"]


def flowserve_alike(place: Place, case: Case) -> list[str]:
    """As uvicorn and websockets compress: to the byte, given the same library."""
    windows = ["--ws-deflate-server-window-bits", "12", "--ws-deflate-client-window-bits", "12"]
    return [*flowserve_takeover(place, case), *windows, "--ws-deflate-mem-level", "5"]


def uvicorn(place: Place, case: Case) -> list[str]:
    fastest = ["--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio"]
    deflate = ["--ws-per-message-deflate", "true" if case.compressed else "false"]
    quiet = ["--no-access-log", "--log-level", "warning"]
    listen = ["--host", HOST, "--port", str(place.port)]
    tls = place.tls("--ssl-certfile", "--ssl-keyfile")
    return [place.python, "-m", "uvicorn", *listen, *fastest, *deflate, *quiet, *tls, f"applications:{case.app}"]


def granian(place: Place, case: Case) -> list[str]:
    listen = ["--host", HOST, "--port", str(place.port), "--workers", "1"]
    fastest = ["--interface", "asgi", "--loop", "uvloop", "--http", "1"]
    quiet = ["--no-access-log", "--log-level", "warning"]
    tls = place.tls("--ssl-certificate", "--ssl-keyfile")
    return [place.python, "-m", "granian", *listen, *fastest, *quiet, *tls, f"applications:{case.app}"]


def hypercorn(place: Place, case: Case) -> list[str]:
    options = ["--bind", f"{HOST}:{place.port}", "--worker-class", "uvloop", "--log-level", "warning"]
    keepalive = ["--websocket-ping-interval", "20"] if case.kind == "idle" else []  # the first ping comes at once
    tls = place.tls("--certfile", "--keyfile")
    return [place.python, "-m", "hypercorn", *options, *keepalive, *tls, f"applications:{case.app}"]


def script(name: str) -> Callable[[Place, Case], list[str]]:
    """A server that is a script of ours: script.py MODE PORT SIZE [CERTFILE KEYFILE]."""

    def command(place: Place, case: Case) -> list[str]:
        tls = [place.certfile, place.keyfile] if place.certfile else []
        runner = place.bun if name.endswith(".js") else place.python
        return [runner, name, case.app, str(place.port), str(case.size), *tls]

    return command


PEERS = {
    peer.name: peer
    for peer in (
        Peer("floor", "uvloop", script("floor.py"), cases="ABCDEGIJKL"),
        Peer("flowserve", "flowserve", flowserve, flowserve_env(pure=False), EVERY),
        Peer("flowserve-pure", "flowserve", flowserve, flowserve_env(pure=True), EVERY),
        # The one above compresses with isal, which is installed beside it.
        Peer("flowserve-zlib", "flowserve", flowserve, {"FLOWSERVE_ZLIB": "zlib"}, COMPRESSED),
        Peer("flowserve-zlib-ng", "zlib_ng", flowserve, {"FLOWSERVE_ZLIB": "zlib-ng"}, COMPRESSED),
        Peer("flowserve-takeover", "flowserve", flowserve_takeover, cases=COMPRESSED),
        Peer("flowserve-alike", "flowserve", flowserve_alike, {"FLOWSERVE_ZLIB": "zlib"}, COMPRESSED),
        Peer("uvicorn", "uvicorn", uvicorn, cases=EVERY),
        Peer("granian", "granian", granian),
        Peer("hypercorn", "hypercorn", hypercorn),
        Peer("picows", "picows", script("picows_server.py"), cases="ABCDEFIJKL"),
        Peer("websockets", "websockets", script("websockets_server.py"), cases="ABCDEFIJKLMN"),
        Peer("aiohttp", "aiohttp", script("aiohttp_server.py"), cases="ABCDEFGIJKL"),
        Peer("bun", "bun", script("bun_server.js"), cases="ABCDEFGIJKL"),
    )
}
