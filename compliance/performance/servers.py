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
TOPICS = "".join(name for name, case in CASES.items() if case.app == "topic")
HTTP = "".join(name for name, case in CASES.items() if case.kind == "http")
FAN_OUT = "".join(name for name in TOPICS if CASES[name].kind == "room")
PLAIN = "".join(name for name, case in CASES.items() if name not in TOPICS and not case.compressed)
IN_CLEAR = "".join(name for name in PLAIN if not CASES[name].tls)
COMPRESSED = "".join(name for name, case in CASES.items() if name not in TOPICS and case.compressed)


@dataclass(frozen=True)
class Place:
    """Where a server runs: its interpreter, Bun's command, its port, the certificate (empty without TLS), and the URL
    of a Redis (empty without one)."""

    python: str
    bun: str
    port: int
    certfile: str = ""
    keyfile: str = ""
    redis: str = ""

    def tls(self, certfile: str, keyfile: str) -> list[str]:
        """The options that name the certificate and its key, given how the server calls them."""
        return [certfile, self.certfile, keyfile, self.keyfile] if self.certfile else []


@dataclass(frozen=True)
class Peer:
    """A row of the benchmark. `needs` is the module (or 'bun') without which it is left out; `redis` says that it needs
    a Redis in all cases."""

    name: str
    needs: str
    command: Callable[[Place, Case], list[str]]
    env: dict[str, str] = field(default_factory=dict)
    cases: str = PLAIN
    redis: bool = False

    def environment(self, place: Place, case: Case) -> dict[str, str]:
        deflate = "1" if case.compressed else ""
        own = {"BENCHMARK_APP": case.app, "BENCHMARK_DEFLATE": deflate, "BENCHMARK_REDIS": place.redis}
        return {**self.env, **own}


def workers(case: Case) -> list[str]:
    return ["--workers", str(case.workers)] if case.workers > 1 else []


def flowserve(place: Place, case: Case) -> list[str]:
    tls = place.tls("--ssl-certfile", "--ssl-keyfile")
    quiet = ["--log-level", "warning"]
    redis = ["--topics-url", place.redis] if case.redis else []
    alone = ["--ws-ping-interval", "off"] if case.kind == "subscriptions" else []  # pings would take memory meanwhile
    options = [*quiet, *redis, *alone, *workers(case), *tls]
    module = "subscribing" if case.app == "topic" else "applications"
    return flowserve_command(place.python, f"{module}:{case.app}", APPS, place.port, *options)


def flowserve_takeover(place: Place, case: Case) -> list[str]:
    return [*flowserve(place, case), "--ws-deflate-context", "takeover"]


def flowserve_alike(place: Place, case: Case) -> list[str]:
    """As uvicorn and websockets compress: to the byte, given the same library."""
    windows = ["--ws-deflate-server-window-bits", "12", "--ws-deflate-client-window-bits", "12"]
    return [*flowserve_takeover(place, case), *windows, "--ws-deflate-mem-level", "5"]


def uvicorn(place: Place, case: Case, app: str = "", http: str = "httptools") -> list[str]:
    """`app` is that of the case by default; there are no topics, but there is the loop that case J has."""
    app = app or ("applications:room" if case.app == "topic" else f"applications:{case.app}")
    fastest = ["--loop", "uvloop", "--http", http, "--ws", "websockets-sansio", *workers(case)]
    deflate = ["--ws-per-message-deflate", "true" if case.compressed else "false"]
    quiet = ["--no-access-log", "--log-level", "warning"]
    listen = ["--host", HOST, "--port", str(place.port)]
    tls = place.tls("--ssl-certfile", "--ssl-keyfile")
    return [place.python, "-m", "uvicorn", *listen, *fastest, *deflate, *quiet, *tls, app]


def connection_manager(place: Place, case: Case) -> list[str]:
    return uvicorn(place, case, "manager:app")


def channels(place: Place, case: Case) -> list[str]:
    return uvicorn(place, case, "channels_room:app")


def uvicorn_zttp(place: Place, case: Case) -> list[str]:
    return uvicorn(place, case, http="zttp")


def granian(place: Place, case: Case, module: str = "granian") -> list[str]:
    listen = ["--host", HOST, "--port", str(place.port), "--workers", str(case.workers)]
    fastest = ["--interface", "asgi", "--loop", "uvloop", "--http", "1"]
    quiet = ["--no-access-log", "--log-level", "warning"]
    tls = place.tls("--ssl-certificate", "--ssl-keyfile")
    return [place.python, "-m", module, *listen, *fastest, *quiet, *tls, f"applications:{case.app}"]


def aethonan(place: Place, case: Case) -> list[str]:
    return granian(place, case, "aethonan")


def installed_command(name: str, *options: str) -> Callable[[Place, Case], list[str]]:
    """A server whose command lies beside the interpreter, and has the usual options."""

    def command(place: Place, case: Case) -> list[str]:
        beside = str(Path(place.python).with_name(name))
        return [beside, "--host", HOST, "--port", str(place.port), *options, *workers(case), f"applications:{case.app}"]

    return command


def hypercorn(place: Place, case: Case) -> list[str]:
    options = ["--bind", f"{HOST}:{place.port}", "--worker-class", "uvloop", "--log-level", "warning"]
    options += workers(case)
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


CORE_LAYER = {"BENCHMARK_LAYER": "channels_redis.core.RedisChannelLayer"}
PUBSUB_LAYER = {"BENCHMARK_LAYER": "channels_redis.pubsub.RedisPubSubChannelLayer"}
PEERS = {
    peer.name: peer
    for peer in (
        Peer("floor", "uvloop", script("floor.py"), cases="ABCDEGIJKL1" + FAN_OUT),
        Peer("flowserve", "flowserve", flowserve, flowserve_env(pure=False), EVERY),
        Peer("flowserve-pure", "flowserve", flowserve, flowserve_env(pure=True), EVERY),
        # The one above compresses with isal, which is installed beside it.
        Peer("flowserve-zlib", "flowserve", flowserve, {"FLOWSERVE_ZLIB": "zlib"}, COMPRESSED),
        Peer("flowserve-zlib-ng", "zlib_ng", flowserve, {"FLOWSERVE_ZLIB": "zlib-ng"}, COMPRESSED),
        Peer("flowserve-takeover", "flowserve", flowserve_takeover, cases=COMPRESSED),
        Peer("flowserve-alike", "flowserve", flowserve_alike, {"FLOWSERVE_ZLIB": "zlib"}, COMPRESSED),
        Peer("uvicorn", "uvicorn", uvicorn, cases=PLAIN + COMPRESSED + FAN_OUT),
        Peer("manager", "starlette", connection_manager, cases=FAN_OUT),
        Peer("channels", "channels_redis", channels, CORE_LAYER, FAN_OUT, redis=True),
        Peer("channels-pubsub", "channels_redis", channels, PUBSUB_LAYER, FAN_OUT, redis=True),
        Peer("granian", "granian", granian),
        Peer("hypercorn", "hypercorn", hypercorn),
        Peer("peregrine", "peregrine", installed_command("peregrine"), cases=IN_CLEAR),
        Peer("h2corn", "h2corn", installed_command("h2corn", "--loop", "uvloop", "--no-access-log"), cases=IN_CLEAR),
        Peer("aethonan", "aethonan", aethonan),
        Peer("m0serve", "m0serve", installed_command("m0serve", "--protocol", "asgi"), cases=IN_CLEAR),
        Peer("freastal", "freastal", script("freastal_server.py"), cases=HTTP),
        Peer("fastpysgi", "fastpysgi", installed_command("fastpysgi", "--loglevel", "1"), cases=HTTP),
        Peer("uvicorn-zttp", "zttp", uvicorn_zttp, cases=HTTP),
        Peer("picows", "picows", script("picows_server.py"), cases="ABCDEFIJKL"),
        Peer("websockets", "websockets", script("websockets_server.py"), cases="ABCDEFIJKLMN"),
        Peer("aiohttp", "aiohttp", script("aiohttp_server.py"), cases="ABCDEFGIJKL"),
        Peer("bun", "bun", script("bun_server.js"), cases="ABCDEFGIJKL1" + FAN_OUT),
    )
}
