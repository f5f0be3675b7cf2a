"""What is measured of a server while it is under load, and whether it stays as it is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from compliance._servers import Server, cpu_seconds, memory_kib, status_kib, tree
from compliance.chaos.http_clients import Cut, request, response
from compliance.chaos.peers import Peer, Site, end
from compliance.soak.traffic import Crowd

PROBE = 0.1
"""Seconds between probes: an echo and a GET each."""


@dataclass(frozen=True)
class Metric:
    """Something that has to be flat: what it may grow by over the second half of the run, by the slope of its samples;
    `share` is a part of its median, `least` is granted in any case."""

    title: str
    unit: str
    share: float
    least: float
    each: bool = True  # whether `least` is granted to each process


METRICS = {
    "pss_mib": Metric("memory (PSS)", "MiB", 0.0, 1.5),
    "rss_mib": Metric("memory (RSS)", "MiB", 0.0, 1.5),
    "blocks": Metric("blocks Python allocated", "k", 0.0, 2),
    "descriptors": Metric("descriptors", "", 0.05, 5),
    "tasks": Metric("asyncio tasks", "", 0.05, 5),
    "connections": Metric("connections in use", "", 0.05, 5),
    "echo_p50_ms": Metric("echo, p50", "ms", 1.0, 10, False),
    "echo_p99_ms": Metric("echo, p99", "ms", 1.0, 30, False),
    "get_p50_ms": Metric("GET, p50", "ms", 1.0, 10, False),
    "get_p99_ms": Metric("GET, p99", "ms", 1.0, 30, False),
    "cpu_us": Metric("CPU a message", "µs", 0.2, 10, False),
}
"""Latencies are those that the clients' process sees, on a machine that may have other things to do."""


@dataclass
class Series:
    """The samples of one server."""

    name: str
    processes: int
    seconds: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in METRICS})
    messages: int = 0
    clients: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    metric: str
    median: float
    growth: float  # over the second half
    allowed: float

    @property
    def flat(self) -> bool:
        return self.growth <= self.allowed


def verdicts(series: Series) -> list[Verdict]:
    half = len(series.seconds) // 2
    found = []
    for name, metric in METRICS.items():
        times, values = series.seconds[half:], series.values[name][half:]
        middle = statistics.median(values)
        growth = slope(times, values) * (times[-1] - times[0])
        allowed = max(metric.share * middle, metric.least * (series.processes if metric.each else 1))
        found.append(Verdict(name, round(middle, 3), round(growth, 3), round(allowed, 3)))
    return found


def slope(times: list[float], values: list[float]) -> float:
    """Theil and Sen's: the median of the slopes between all pairs, which some outliers don't bend."""
    pairs = [
        (values[later] - values[earlier]) / (times[later] - times[earlier])
        for later in range(len(times))
        for earlier in range(later)
    ]
    return statistics.median(pairs) if pairs else 0.0


class Sampler:
    """Takes the samples of one server, with probes of its own for the latencies."""

    def __init__(self, series: Series, site: Site, server: Server, crowd: Crowd) -> None:
        self.series = series
        self.site = site
        self.server = server
        self.crowd = crowd
        self.echoes: list[float] = []
        self.gets: list[float] = []
        self.began = time.monotonic()
        self.cpu = cpu_seconds(server.pid)
        self.answered = 0

    async def run(self, interval: float) -> None:
        probes = asyncio.ensure_future(self.probe())
        try:
            while time.monotonic() + interval < self.crowd.until:
                await asyncio.sleep(interval)
                with contextlib.suppress(Cut, OSError):  # else the next one
                    await self.sample()
        finally:
            probes.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await probes

    async def probe(self) -> None:
        """Ask by turns on two connections; new ones now and then, so that every worker is asked, and where the machine
        was so busy that the server has taken a connection for idle."""
        while True:
            try:
                await self.ask()
            except (Cut, OSError):
                await asyncio.sleep(PROBE)
            except Exception as error:  # told at the end, with all that was measured
                self.crowd.failures.append(f"probe: {error!r}")
                await asyncio.sleep(PROBE)

    async def ask(self) -> None:
        peer = Peer(self.site, "probe", "probe", Random())
        async with peer.websocket("echo", way="unchecked") as wire, peer.streams() as (reader, writer):
            for _ in range(50):
                began = time.perf_counter()
                await wire.send("x" * 64)
                await wire.receive()
                echoed = time.perf_counter()
                writer.write(request("GET", peer.target("get")))
                await response(reader)
                self.gets.append(time.perf_counter() - echoed)
                self.echoes.append(echoed - began)
                await asyncio.sleep(PROBE)

    async def sample(self) -> None:
        series, pids = self.series, tree(self.server.pid)
        figures = await self.figures()
        cpu, answered = cpu_seconds(self.server.pid), self.crowd.messages
        values = {
            "pss_mib": memory_kib(self.server.pid) / 1024,
            "rss_mib": sum(status_kib(pid, "VmRSS") for pid in pids) / 1024,
            "blocks": sum(one["blocks"] for one in figures) / 1000,
            "descriptors": sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),
            "tasks": sum(one["tasks"] for one in figures),
            "connections": sum(one["calls"] for one in figures),
            **quantiles("echo", self.echoes),
            **quantiles("get", self.gets),
            "cpu_us": (cpu - self.cpu) / max(1, answered - self.answered) * 1e6,
        }
        self.cpu, self.answered = cpu, answered
        self.echoes.clear()
        self.gets.clear()
        series.seconds.append(round(time.monotonic() - self.began, 1))
        for name, value in values.items():
            series.values[name].append(round(value, 3))

    async def figures(self) -> list[dict[str, Any]]:
        """What every worker says of itself."""
        found: dict[int, dict[str, Any]] = {}
        workers = max(1, self.series.processes - 1)
        for _ in range(200):
            one = await self.control()
            found[one["pid"]] = one
            if len(found) == workers:
                break
        return list(found.values())

    async def control(self) -> dict[str, Any]:
        peer = Peer(self.site, "control", "control", Random())
        reader, writer = await peer.connect()
        try:
            writer.write(request("GET", "/control/0?brief=1", "Connection: close"))
            _, body = await response(reader)
        finally:
            await end(writer)
        figures: dict[str, Any] = json.loads(body)
        return figures


def quantiles(name: str, seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds) or [0.0]
    return {
        f"{name}_p50_ms": ordered[len(ordered) // 2] * 1e3,
        f"{name}_p99_ms": ordered[int(len(ordered) * 0.99)] * 1e3,
    }


def errors_of(log: Path) -> list[str]:
    """What the server has written at WARNING or above, or in no line of the log's."""
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if not re.match(r"[-\d]+ [:.\d]+ (INFO|DEBUG):", line)]
