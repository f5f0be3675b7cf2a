"""A flock of birds that follows everybody's pointer, with its web page: `python flock_server.py [PORT]`.

Open the address that it prints in two windows, or start flock_client.py beside it. The page comes from the WebSocket
server itself, and speaks JSON with it. To the server, places being [x, y] from the upper left corner, 0 to 1:

    {"lure": [0.5, 0.5]}     where the visitor's pointer is; null when it has left
    {"clap": [0.5, 0.5]}     startles the birds there

From the server, first your number, then 25 times a second everything that there is to see:

    {"you": 2}
    {"birds": [0.1, 0.2, 0.3, 0.4, …], "visitors": [{"number": 1, "lure": [0.5, 0.5], "ms": 0.4}, …], "claps": []}
"""

from __future__ import annotations

import argparse
import asyncio
import cmath
import json
import random
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from flowserve import CloseCode, FlowserveError, Handshake, Headers, Request, Response, WebSocket, broadcast, serve

PAGE = Path(__file__).with_name("flock.html")
STEP = 1 / 25  # seconds between two frames
BIRDS = 90
MOST_VISITORS = 50
# Places are complex numbers. The sky is 1 high; lengths are in its height, speeds in its height a second.
WIDTH = 1.6
SIGHT, ELBOW_ROOM, FRIGHT = 0.18, 0.05, 0.3
SLOWEST, FASTEST = 0.15, 0.45


@dataclass
class Bird:
    place: complex
    velocity: complex

    def steer(self, flock: list[Bird], lures: Collection[complex], claps: Collection[complex]) -> complex:
        """The acceleration: keep together, in step and apart, follow the nearest lure, flee from claps, stay inside."""
        near = [bird for bird in flock if 0 < abs(bird.place - self.place) < SIGHT]
        push = cmath.rect(random.uniform(0, 0.6), random.uniform(-cmath.pi, cmath.pi))  # a bird's own mind
        if near:
            push += 1.5 * (sum(bird.place for bird in near) / len(near) - self.place)
            push += 2.0 * (sum(bird.velocity for bird in near) / len(near) - self.velocity)
        for bird in near:
            away = self.place - bird.place
            if abs(away) < ELBOW_ROOM:
                push += 0.04 * away / abs(away) ** 2
        if lures:
            way = min((lure - self.place for lure in lures), key=abs)
            push += 1.2 * way / max(abs(way), 0.2)
        for clap in claps:
            away = self.place - clap
            if 0 < abs(away) < FRIGHT:
                push += 12 * away / abs(away)
        x, y = self.place.real, self.place.imag
        return push + 20 * complex(max(0.05 - x, 0) + min(WIDTH - 0.05 - x, 0), max(0.05 - y, 0) + min(0.95 - y, 0))

    def fly(self, push: complex) -> None:
        self.velocity += push * STEP
        self.velocity *= min(max(abs(self.velocity), SLOWEST), FASTEST) / (abs(self.velocity) or 1)
        self.place += self.velocity * STEP


@dataclass
class Visitor:
    number: int
    lure: complex | None = None


def random_bird() -> Bird:
    return Bird(complex(random.uniform(0, WIDTH), random.random()), cmath.rect(SLOWEST, random.uniform(-3, 3)))


@dataclass
class Sky:
    """The birds, and who watches them."""

    birds: list[Bird] = field(default_factory=lambda: [random_bird() for _ in range(BIRDS)])
    visitors: dict[WebSocket, Visitor] = field(default_factory=dict)
    claps: list[complex] = field(default_factory=list)
    numbers: count[int] = field(default_factory=lambda: count(1))

    async def live(self) -> None:
        """Move the birds and show them to everybody, for ever; nothing moves while nobody looks."""
        while True:
            await asyncio.sleep(STEP)
            if self.visitors:
                lures = [visitor.lure for visitor in self.visitors.values() if visitor.lure is not None]
                pushes = [bird.steer(self.birds, lures, self.claps) for bird in self.birds]
                for bird, push in zip(self.birds, pushes, strict=True):
                    bird.fly(push)
                broadcast(self.visitors, self.frame())  # encoded and compressed once for all, and waits for nobody
                self.claps.clear()

    def frame(self) -> str:
        visitors = [
            # The round trip is that of the keepalive's last ping, which needs no code here.
            {"number": visitor.number, "lure": shown(visitor.lure), "ms": round(ws.latency * 1000, 1)}
            for ws, visitor in self.visitors.items()
        ]
        birds = [number for bird in self.birds for number in shown(bird.place) or ()]
        return json.dumps({"birds": birds, "visitors": visitors, "claps": [shown(clap) for clap in self.claps]})

    async def visit(self, ws: WebSocket) -> None:
        """The handler: one visitor's stay."""
        if len(self.visitors) == MOST_VISITORS:
            await ws.close(CloseCode.TRY_AGAIN_LATER, "The sky is full")
            return
        visitor = self.visitors[ws] = Visitor(next(self.numbers))
        print(f"{visitor.number} came, from {ws.remote_address[0]}", flush=True)
        try:
            await ws.send(json.dumps({"you": visitor.number}))
            async for message in ws:
                self.hear(visitor, message)
        except (ValueError, TypeError):  # it makes no sense
            await ws.close(CloseCode.POLICY_VIOLATION, 'Send {"lure": [0.5, 0.5]} or {"clap": [0.5, 0.5]}')
        finally:
            del self.visitors[ws]
            print(f"{visitor.number} left: {ws.close_code} {ws.close_reason}", flush=True)

    def hear(self, visitor: Visitor, message: str | bytes) -> None:
        match json.loads(message):
            case {"lure": None}:
                visitor.lure = None
            case {"lure": spot}:
                visitor.lure = place(spot)
            case {"clap": spot}:
                self.claps.append(place(spot))
            case other:
                raise ValueError(other)


def place(spot: Any) -> complex:
    x, y = spot
    if not (0 <= x <= 1 and 0 <= y <= 1):  # nor NaN, which is JSON for Python
        raise ValueError(spot)
    return complex(x * WIDTH, y)


def shown(place: complex | None) -> list[float] | None:
    return None if place is None else [round(place.real / WIDTH, 4), round(place.imag, 4)]


def answer(handshake: Handshake, request: Request) -> Response | None:
    """What comes before a WebSocket, and plain requests: the page at /, the flock's WebSocket at /flock."""
    path = request.path.partition("?")[0]
    if path == "/flock":
        return None
    if path != "/":
        return handshake.respond(404, "The page is at /\n")
    headers = Headers({"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-cache"})
    return Response(200, "OK", headers, PAGE.read_bytes())


async def main(host: str, port: int) -> None:
    sky = Sky()
    async with serve(
        sky.visit,
        host,
        port,
        process_request=answer,
        ping_interval=2,
        max_size=256,
        slow_consumer="drop",  # who reads too slowly misses frames: the next one is better than an old one
        slow_consumer_mark="64KiB",
    ) as server:
        host, port = server.sockets[0].getsockname()[:2]
        print(f"Open http://{f'[{host}]' if ':' in host else host}:{port} in two windows; Ctrl-C stops it", flush=True)
        await asyncio.gather(server.serve_forever(), sky.live())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", nargs="?", type=int, default=9007)
    parser.add_argument("--host", default="127.0.0.1", help="this machine's address in its network lets phones in")
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.host, arguments.port))
    except KeyboardInterrupt:
        pass
    except (FlowserveError, OSError) as error:
        sys.exit(f"flock_server.py: {error}")
