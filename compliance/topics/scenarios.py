"""What happens while messages are published, for the workers of one supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from compliance._servers import Server
from compliance.topics.checker import Checker
from compliance.topics.client import Client
from compliance.topics.crowd import Crowd, until
from compliance.topics.stores import Store

_STOPPED = 4.0
"""Seconds for which a worker stands still, so that the supervisor has given it up."""
_MOST_DELAY = 4.0
"""Seconds by which others may be delayed then: one, and what a busy machine adds."""


@dataclass
class Rig:
    """One scenario while it runs."""

    crowd: Crowd
    servers: list[Server]
    stores: list[Store]
    seconds: float
    notes: list[str] = field(default_factory=list)

    @property
    def checker(self) -> Checker:
        return self.crowd.checker

    async def pause(self, share: float) -> None:
        """Let a share of the scenario's time pass."""
        await asyncio.sleep(self.seconds * share)


Disturb = Callable[[Rig], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """What is disturbed, and what is expected then."""

    name: str
    about: str
    disturb: Disturb
    options: tuple[str, ...] = ()
    complete: bool = True
    """The history reaches back far enough, so that no gap may be told."""
    topics: int = 1
    each: int = 1
    """Topics of a subscriber."""
    subscribers: int = 2000
    """At most."""
    store: str = ""
    """What `stores.start()` starts: "redis", "sentinel", "cluster", "nats" or "nats-memory"."""
    servers: int = 1
    rolls_back: bool = False
    """The store may lose the last messages that it has confirmed."""
    forgets: bool = False
    """Workers are killed, which may owe a gap to others."""
    told: bool = False
    """Gaps have to occur, else it has not shown what it is for."""


SCENARIOS: list[Scenario] = []

DEEP = ("--topics-history", "100000", "--topics-history-size", "64MiB")
"""Keeps everything."""


def scenario(name: str, about: str, *options: str, **expected: object) -> Callable[[Disturb], Disturb]:
    def listed(disturb: Disturb) -> Disturb:
        SCENARIOS.append(Scenario(name, about, disturb, options, **expected))  # type: ignore[arg-type]
        return disturb

    return listed


@scenario("plain", "nothing happens, with the default history")
async def plain(rig: Rig) -> None:
    await rig.pause(1)


@scenario("several-topics", "20 topics, 5 a subscriber", topics=20, each=5)
async def several_topics(rig: Rig) -> None:
    await rig.pause(1)


@scenario("killed", "a worker is killed (SIGKILL) again and again", *DEEP)
async def killed(rig: Rig) -> None:
    end, times, random = time.monotonic() + rig.seconds, 0, Random(0)
    while time.monotonic() < end:
        if len(rig.crowd.workers) > 1:
            os.kill(random.choice(sorted(rig.crowd.workers)), signal.SIGKILL)
            times += 1
        await asyncio.sleep(max(1.0, rig.seconds / 10))
    rig.notes.append(f"{times} workers were killed")
    if not times:
        rig.checker.violation("no worker could be killed: all subscribers were with one")


@scenario("rolling-restart", "SIGHUP: each worker is replaced", *DEEP, "--timeout-graceful-shutdown", "2")
async def rolling_restart(rig: Rig) -> None:
    end, times = time.monotonic() + rig.seconds, 0
    while time.monotonic() < end:
        before = rig.crowd.workers
        os.kill(rig.servers[0].pid, signal.SIGHUP)
        times += 1
        if not await until(lambda: not before & rig.crowd.workers):  # noqa: B023 called in this turn
            rig.checker.violation("subscribers are with the old workers a minute after SIGHUP")
        await rig.pause(0.1)
    rig.notes.append(f"{times} restarts")


async def stop_a_worker(rig: Rig) -> None:
    """Stop a worker until the supervisor has given it up, and continue it; see what it means to the others."""
    bulk, crowd = rig.crowd.topics[-1], rig.crowd
    for _ in range(8):
        crowd.add([bulk])
    await until(lambda: all(client.live for client in crowd.clients))
    crowd.publish(2, [bulk], 0.01, 65536)  # fills the channel to the stopped worker
    worst = 0.0
    for _ in range(max(1, round(rig.seconds / 15))):
        await asyncio.sleep(0.5)
        worst = max(worst, await _stop_one(rig))
    rig.notes.append(f"others were delayed by {worst:.2f} s at most")
    if worst > _MOST_DELAY:
        rig.checker.violation(f"a worker that stood still has delayed others by {worst:.2f} s")


async def _stop_one(rig: Rig) -> float:
    pid = min(rig.crowd.workers)
    others = [client for client in rig.crowd.clients if client.worker != pid]
    for client in others:
        client.delay = 0.0
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(_STOPPED)
    worst = max((client.delay for client in others), default=0.0)
    os.kill(pid, signal.SIGCONT)
    await asyncio.sleep(2)
    return worst


@scenario("stopped", "a worker is stopped (SIGSTOP), its channel fills; all is kept", *DEEP, subscribers=400, topics=2)
async def stopped(rig: Rig) -> None:
    await stop_a_worker(rig)


@scenario("stopped-short-history", "the same, the history is too short", subscribers=400, topics=2, complete=False)
async def stopped_short_history(rig: Rig) -> None:
    await stop_a_worker(rig)


@scenario(
    "supervisor-stopped", "the supervisor is stopped (SIGSTOP), with large messages waiting", *DEEP, subscribers=40
)
async def supervisor_stopped(rig: Rig) -> None:
    rig.crowd.publish(20, rig.crowd.topics, 0.4, 65536)
    end = time.monotonic() + rig.seconds
    while time.monotonic() < end:
        await asyncio.sleep(0.5)
        os.kill(rig.servers[0].pid, signal.SIGSTOP)
        await asyncio.sleep(_STOPPED / 2)
        os.kill(rig.servers[0].pid, signal.SIGCONT)
        await asyncio.sleep(1)


async def do_not_read(rig: Rig) -> None:
    """Every fourth subscriber reads late, with large messages on their way."""
    crowd = rig.crowd
    crowd.publish(2, crowd.topics, 0.1, 131072)
    slow = crowd.clients[::4]
    random = Random(0)
    end = time.monotonic() + rig.seconds
    while time.monotonic() < end:
        chosen = random.sample(slow, max(1, len(slow) // 2))
        _each_transport(chosen, "pause_reading")
        await asyncio.sleep(min(8.0, rig.seconds * 0.8))
        _each_transport(chosen, "resume_reading")
        await rig.pause(0.05)
    rig.notes.append(f"{len(slow)} subscribers read late")


def _each_transport(clients: list[Client], method: str) -> None:
    for client in clients:
        if client.connection is not None:
            with contextlib.suppress(RuntimeError):  # it is closing
                getattr(client.connection.transport, method)()


@scenario("not-reading", "subscribers that do not read for a while; all is kept", *DEEP, subscribers=40)
async def not_reading(rig: Rig) -> None:
    await do_not_read(rig)


@scenario(
    "not-reading-short-history",
    "the same, and too little is kept, so that gaps are told",
    *("--topics-history", "5", "--topics-max-pending", "256KiB"),
    subscribers=40,
    complete=False,
    told=True,
)
async def not_reading_short_history(rig: Rig) -> None:
    await do_not_read(rig)


async def lose_connections(rig: Rig, away: float) -> None:
    """A tenth of the connections is lost each second; their clients come back after at most `away` seconds."""
    random = Random(0)
    end = time.monotonic() + rig.seconds
    while time.monotonic() < end:
        for client in random.sample(rig.crowd.clients, max(1, len(rig.crowd.clients) // 40)):
            client.away = random.uniform(0, away)
            if client.connection is not None:
                client.connection.transport.abort()
        await asyncio.sleep(0.25)


@scenario("reconnecting", "connections are lost at random, and resumed", *DEEP, topics=4, each=2)
async def reconnecting(rig: Rig) -> None:
    await lose_connections(rig, 1.0)


@scenario("short-history", "the same, with a history of 3 messages", "--topics-history", "3", complete=False, told=True)
async def short_history(rig: Rig) -> None:
    await lose_connections(rig, 1.0)


@scenario("no-history", "the same, without a history", "--topics-history", "0", complete=False, told=True)
async def no_history(rig: Rig) -> None:
    await lose_connections(rig, 1.0)
