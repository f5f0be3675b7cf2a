"""One configuration: a server, a crowd of clients that warms it up and another that counts, quiet, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from compliance._servers import CHECKOUT, Server, flowserve_command, flowserve_env, free_port, serving
from compliance.chaos import audit, foreign_clients, http_clients, websocket_clients
from compliance.chaos.configurations import Configuration
from compliance.chaos.http_clients import request, response
from compliance.chaos.peers import Peer, Record, Site, closing, end
from compliance.chaos.wire import encode_close

Behaviour = Callable[[Peer], Awaitable[None]]
BEHAVIOURS: dict[Behaviour, int] = {
    websocket_clients.echo: 20,
    websocket_clients.faulty: 10,
    websocket_clients.flood: 8,
    websocket_clients.interrupted: 5,
    websocket_clients.hub: 8,
    websocket_clients.deaf: 4,
    websocket_clients.denied: 5,
    websocket_clients.half_opened: 6,
    foreign_clients.foreign: 4,
    foreign_clients.library: 4,
    http_clients.get: 8,
    http_clients.pipelined_and_gone: 5,
    http_clients.stream: 10,
    http_clients.events: 5,
    http_clients.upload: 8,
    http_clients.garbage: 4,
    http_clients.no_tls: 4,
}
HANGS = 40.0
"""Seconds after which a client is given up: longer than any timeout of the server."""
QUIET = 25.0
"""Seconds in which all has to be back where it was, when the clients are gone or silent."""
LAST_SECONDS = 0.7
"""How long the last crowd is at work when SIGTERM comes, and goes on after it."""
EXIT = 13.0
"""Seconds from SIGTERM to the process's end: the graceful timeout, and what comes behind it at the most."""
IDLE = 2.5
"""Seconds in which connections that are kept alive, and clients that have half left, come to their end."""
SANITIZED = 4
"""Times as long is all that for an interpreter with sanitizers, on which everything takes longer."""
WARM_UP = 0.3
"""This part of the time warms up: caches, thread pools and the allocator take what they keep."""
SILENCE = 0.5
"""In this part of the time clients may fall silent, so that the server finds them out in the rest."""


@dataclass
class Outcome:
    """A row of the results."""

    configuration: str
    seed: str
    seconds: float = 0.0
    connections: int = 0
    messages: int = 0
    faults: int = 0
    dropped: int = 0
    growth_kib: int = 0
    closes: dict[int, int] = field(default_factory=dict)  # WebSockets, by the code that the server tells
    behaviours: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


class Round:
    def __init__(
        self, configuration: Configuration, site: Site, server: Server, only: list[str], patience: int
    ) -> None:
        self.configuration = configuration
        self.patience = patience
        self.site = site
        self.server = server
        self.only = only
        self.records: list[Record] = []
        self.violations: list[str] = []

    async def run(self, seconds: float) -> tuple[int, list[dict[str, Any]]]:
        """Returns what the memory has grown by, in KiB, and the last figures of all workers."""
        before = await self.warm_up(seconds * WARM_UP)
        self.site.silence = True
        began = time.monotonic()
        await self.crowd("c", began + seconds * (1 - WARM_UP), began + seconds * SILENCE)
        after = await self.quiet(before)
        for writer in self.site.silent:
            writer.transport.abort()
        return sum(one["rss_kib"] for one in after) - sum(one["rss_kib"] for one in before), after

    async def warm_up(self, seconds: float) -> list[dict[str, Any]]:
        self.site.silence = False
        await self.crowd("w", time.monotonic() + seconds, 0)
        deadline = time.monotonic() + QUIET * self.patience
        while True:
            figures = await self.figures()
            if all(one["calls"] == 0 for one in figures) or time.monotonic() > deadline:
                await asyncio.sleep(IDLE * self.patience)
                return await self.figures()
            await asyncio.sleep(0.1)

    # Clients

    async def crowd(self, phase: str, until: float, silence_until: float) -> None:
        numbers = iter(self.only) if self.only else (f"{phase}{number}" for number in range(10**9))
        await asyncio.gather(*(self.lane(numbers, until, silence_until) for _ in range(audit.CLIENTS)))
        self.only = [] if self.only and phase == "c" else self.only

    async def lane(self, numbers: Iterator[str], until: float, silence_until: float) -> None:
        while time.monotonic() < until:
            identity = next(numbers, None)
            if identity is None:
                return
            if self.site.silence and silence_until < time.monotonic():
                self.site.silence = False
            await self.client(identity)

    async def client(self, identity: str) -> None:
        rng = Random(f"{self.site.seed}/{identity}")
        behaviour = rng.choices(list(BEHAVIOURS), list(BEHAVIOURS.values()))[0]
        peer = Peer(self.site, identity, behaviour.__name__, rng)
        self.records.append(peer.record)
        try:
            await asyncio.wait_for(behaviour(peer), HANGS * self.patience)
        except Exception as error:
            peer.violate(f"{type(error).__name__}: {error}")
            await asyncio.sleep(0.01)  # where nobody listens any more

    # The quiet after it

    async def quiet(self, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Wait until all is as before; a violation for what is not."""
        deadline = time.monotonic() + QUIET * self.patience
        while True:
            after = await self.figures()
            left = [what for one, other in zip(before, after, strict=True) for what in audit.left_behind(one, other)]
            if not left:
                return after
            if time.monotonic() > deadline:
                self.violations += left
                return after
            await asyncio.sleep(0.2)

    async def figures(self) -> list[dict[str, Any]]:
        """The figures of every worker, in the order of their process IDs."""
        found: dict[int, dict[str, Any]] = {}
        for _ in range(200):
            one = await self.control()
            found[one["pid"]] = one
            if len(found) == self.configuration.workers:
                return [found[pid] for pid in sorted(found)]
        raise audit.Lost(f"of {self.configuration.workers} workers only {len(found)} answer")

    async def control(self) -> dict[str, Any]:
        peer = Peer(self.site, "control", "control", Random())
        reader, writer = await peer.connect()
        try:
            writer.write(request("GET", "/control/0", "Connection: close"))
            _, body = await asyncio.wait_for(response(reader), HANGS * self.patience)
        finally:
            await end(writer)
        figures: dict[str, Any] = json.loads(body)
        return figures


async def stop(round_: Round) -> list[str]:
    """SIGTERM in the middle of it all. Returns violations; what the last crowd sees of it is not judged."""
    judged = list(round_.records)
    crowd = asyncio.ensure_future(round_.crowd("e", time.monotonic() + 2 * LAST_SECONDS, 0))
    await asyncio.sleep(LAST_SECONDS)
    try:
        return await terminate(round_)
    finally:
        crowd.cancel()
        await asyncio.wait({crowd})
        round_.records = judged


async def terminate(round_: Round) -> list[str]:
    """SIGTERM while a WebSocket that shall get a 1012 is open, and a response that has no end is streamed."""
    found: list[str] = []
    peer = Peer(round_.site, "end", "end", Random(0))
    process, exit_within = round_.server.process, EXIT * round_.patience
    async with peer.websocket("echo") as wire, peer.streams() as (reader, writer):
        writer.write(request("GET", "/events/end", "Connection: close"))
        await reader.readuntil(b"\r\n\r\n")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        closed = await asyncio.wait_for(closing(wire), exit_within)
        if closed.code != 1012:
            found.append(f"at the end the WebSocket got {closed.code} {closed.reason}, not 1012")
        with contextlib.suppress(ConnectionError):
            await wire.write(encode_close(closed.code, "", wire.rng))
    while process.poll() is None and time.monotonic() - began < exit_within:  # noqa: ASYNC110  (another process)
        await asyncio.sleep(0.02)
    if process.returncode != 0:
        found.append(f"{time.monotonic() - began:.1f} s after SIGTERM the exit status is {process.returncode}")
    return found


def run(
    configuration: Configuration, seconds: float, seed: str, certificate: tuple[Path, Path], options: Any
) -> Outcome:
    """Run one configuration; `options` are those of the command line. Raises ServerFailed when the server fails."""
    port, began = free_port(), time.monotonic()
    tls = ssl.create_default_context(cafile=str(certificate[1])) if configuration.tls else None
    site = Site(port, tls, f"{seed}/{configuration.name}", configuration.policy)
    patience = SANITIZED if options.sanitized else 1
    flags = configuration.options(str(certificate[0]), patience)
    command = flowserve_command(options.python, "compliance.chaos.application:app", CHECKOUT, port, *flags)
    command.remove("--no-access-log")
    env = {**flowserve_env(configuration.pure), "PYTHONWARNINGS": "default"}  # what is not closed is told
    with serving(command, port=port, env=env) as server:
        round_ = Round(configuration, site, server, options.client, patience)
        try:
            growth_kib, figures = asyncio.run(whole(round_, seconds))
        except (audit.Lost, OSError, asyncio.TimeoutError, ValueError) as error:
            raise server.failed(f"{configuration.name} does not answer any more: {error!r}") from error
        log = audit.Log(server.log)
    violations = round_.violations + audit.judge(round_.records, figures, log)
    if not options.sanitized:  # there, memory that is given back is kept for a while
        violations += audit.grown(growth_kib, configuration.workers)
    records = round_.records
    return Outcome(
        configuration.name,
        seed,
        seconds=time.monotonic() - began,
        connections=len(records),
        messages=sum(record.messages for record in records),
        faults=sum(bool(record.fault) for record in records),
        dropped=sum(record.missing for record in records),
        growth_kib=growth_kib,
        closes=log.closes(),
        behaviours=dict(Counter(record.behaviour for record in records)),
        violations=violations,
    )


async def whole(round_: Round, seconds: float) -> tuple[int, list[dict[str, Any]]]:
    result = await round_.run(seconds)
    round_.violations += await stop(round_)
    return result
