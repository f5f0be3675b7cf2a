"""One run: pages on two workers, numbered messages, and workers that are killed meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compliance._servers import CHECKOUT, HOST, Progress, flowserve_command, free_port, serving
from compliance.topics.crowd import until
from compliance.topics.pages.engines import started
from flowserve.topics.client import Client, Gap, Subscription, connect

APP = "compliance.topics.pages.application:app"
_BATCH = 10
"""Messages that are published together."""
_WAITING = 500
"""Messages that wait for their answers, at most."""


@dataclass
class Outcome:
    """What came of a run."""

    history: str
    pages: int
    kills: int = 0
    published: int = 0
    received: int = 0
    gaps: int = 0
    connections: int = 0
    violations: list[str] = field(default_factory=list)


class Rig:
    """The driver: it publishes, kills workers, and hears of pages by the client in Python."""

    def __init__(self, client: Client, outcome: Outcome) -> None:
        self.client = client
        self.outcome = outcome
        self.workers: dict[str, int] = {}  # by page: the process id of the worker that it is connected to
        self.reports: dict[str, list[Any]] = {}

    async def hear(self) -> None:
        """Note where pages are, and what they report."""
        await asyncio.gather(
            self._each(self.client.subscribe("workers", since="*.0."), self._on_worker),
            self._each(self.client.subscribe("reports", since="*.0."), self._on_report),
        )

    async def _each(self, subscription: Subscription, handle: Any) -> None:
        async for item in subscription:
            if isinstance(item, Gap):
                self.outcome.violations.append(f"the driver was told of a gap in {item.topic}")
            else:
                handle(item.data)

    def _on_worker(self, text: str) -> None:
        data = json.loads(text)
        self.workers[data["page"]] = data["worker"]
        self.outcome.connections += 1

    def _on_report(self, data: dict[str, Any]) -> None:
        if data["page"] in self.reports:
            self.outcome.violations.append(f"{data['page']}: its report came twice")
        self.reports[data["page"]] = data["seen"]

    async def publish(self, count: int, seconds: float) -> None:
        """Publish the numbers below `count`, in order."""
        waiting = asyncio.Semaphore(_WAITING)

        async def one(number: int) -> None:
            try:
                await self.client.publish("numbers", json=number)
                self.outcome.published += 1
            finally:
                waiting.release()

        tasks = []
        for number in range(count):
            await waiting.acquire()
            tasks.append(asyncio.ensure_future(one(number)))
            if number % _BATCH == _BATCH - 1:
                await asyncio.sleep(seconds * _BATCH / count)
        await asyncio.gather(*tasks)

    async def kill(self, times: int, seconds: float) -> None:
        """Kill the worker that has the most pages, again and again."""
        while self.outcome.kills < times:
            await asyncio.sleep(seconds / (times + 1))
            await until(self._kill_one)

    def _kill_one(self) -> bool:
        there = list(self.workers.values())
        try:
            os.kill(max(set(there), key=there.count), signal.SIGKILL)
        except ProcessLookupError:  # its pages have not come back yet
            return False
        self.outcome.kills += 1
        return True

    async def stop(self, pages: int) -> None:
        """Tell all pages to report. The word is said again, as it may be part of what is missing."""
        for _ in range(100):
            await self.client.publish("numbers", "stop")
            if await until(lambda: len(self.reports) == pages, 1.0):
                return


def run(engines: dict[str, str], options: Any, history: str, arguments: Sequence[str], progress: Progress) -> Outcome:
    """Run once with some history. Raises ServerFailed."""
    outcome = Outcome(history, len(engines) * options.pages)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.ExitStack() as stack:
        port = free_port()
        command = flowserve_command(sys.executable, APP, CHECKOUT, port, *arguments, "--workers", "2")
        server = stack.enter_context(serving(command, port=port))
        for engine, program in engines.items():
            where = Path(folder, engine)
            stack.enter_context(started(engine, program, f"http://{HOST}:{port}", where, options.pages))
        asyncio.run(_drive(outcome, port, options, progress))
        log = server.log.read_text(errors="replace").splitlines()
        outcome.violations += [f"logged: {line[:200]}" for line in log if "Traceback" in line][:5]
    return outcome


async def _drive(outcome: Outcome, port: int, options: Any, progress: Progress) -> None:
    async with connect(f"ws://{HOST}:{port}/topics", proxy=None) as client:
        rig = Rig(client, outcome)
        hearing = asyncio.ensure_future(rig.hear())
        if not await until(lambda: len(rig.workers) == outcome.pages):
            outcome.violations.append(f"of {outcome.pages} pages {len(rig.workers)} are connected after a minute")
        if len(set(rig.workers.values())) < 2:
            outcome.violations.append(
                "all pages are connected to one worker, so that it shows too little: run it again"
            )
        progress.show(f"{outcome.history}: {len(rig.workers)} pages are connected")
        await asyncio.gather(rig.publish(options.messages, options.seconds), rig.kill(options.kills, options.seconds))
        await rig.stop(outcome.pages)
        hearing.cancel()
    for page in sorted(rig.workers):
        outcome.violations += check(page, rig.reports.get(page), outcome)


def check(page: str, seen: list[Any] | None, outcome: Outcome) -> list[str]:
    """Count what a page has seen, and return what breaks the promise: each number once and in order, or a gap."""
    if seen is None:
        return [f"{page}: it has not reported"]
    wrong, last, gap = [], -1, False
    for item in seen:
        if item == "gap":
            gap = True
            outcome.gaps += 1
            continue
        if item <= last:
            wrong.append(f"{page}: doubled or swapped: {item} came after {last}")
        elif item != last + 1 and not gap:
            wrong.append(f"{page}: lost: {item} came after {last}")
        last, gap = item, False
        outcome.received += 1
    if last != outcome.published - 1 and not gap:
        wrong.append(f"{page}: lost: the last one is {last}")
    return wrong[:5]
