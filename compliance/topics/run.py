"""Runs one scenario: its stores and servers, its crowd, what disturbs them, and the verdict."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from compliance._servers import CHECKOUT, Progress, Server, flowserve_command, free_port, serving
from compliance.topics import stores
from compliance.topics.checker import Checker
from compliance.topics.crowd import Crowd
from compliance.topics.scenarios import Rig, Scenario

T = TypeVar("T")
APP = "compliance.topics.application:app"
_WORKERS = 2
_PATIENCE = 30.0
_MOST_LINES = 10
"""Of what servers have logged that is shown."""


@dataclass
class Outcome:
    """What came of a scenario."""

    scenario: str
    about: str
    subscribers: int = 0
    connections: int = 0
    published: int = 0
    local: int = 0
    """Messages that reached one machine alone, as their publishers were told."""
    raised: int = 0
    delivered: int = 0
    recovered: int = 0
    """Resumes; the next are those that were told that something is missing."""
    unrecovered: int = 0
    gaps: int = 0
    """Told to subscribers."""
    needless: int = 0
    """Of those, where nothing was missing."""
    closes: dict[int, int] = field(default_factory=dict)
    """Closed by the server, by code."""
    delay: float = 0.0
    """The longest from publish() to a live subscriber, in seconds; the clients' own delay included."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    count: int = 0
    """Of violations; at most 50 are kept as text."""


def run(scenario: Scenario, options: argparse.Namespace, progress: Progress) -> Outcome:
    """Run a scenario. Raises ServerFailed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.ExitStack() as stack:
        started, url = stores.start(scenario.store, Path(folder)) if scenario.store else ([], "")
        for store in started:
            stack.callback(store.end)
        arguments = [*scenario.options, *(["--topics-url", url] if url else []), "--workers", str(_WORKERS)]
        servers = []
        for _ in range(scenario.servers):
            port = free_port()
            command = flowserve_command(sys.executable, APP, CHECKOUT, port, *arguments)
            servers.append(stack.enter_context(serving(command, port=port)))
            servers[-1].wait_for_workers(_PATIENCE)
        outcome = in_loop(_run(scenario, options, servers, started, progress))
        for server in servers:
            log = server.log.read_text(errors="replace").splitlines()
            wrong = [line for line in log if "Traceback" in line or "Error" in line]
            outcome.notes += [f"logged: {line[:200]}" for line in wrong[:_MOST_LINES]]
    return outcome


def in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run something in an event loop of uvloop."""
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


async def _run(
    scenario: Scenario,
    options: argparse.Namespace,
    servers: list[Server],
    started: list[stores.Store],
    progress: Progress,
) -> Outcome:
    began = time.monotonic()
    checker = Checker(complete=scenario.complete, rolls_back=scenario.rolls_back, forgets=scenario.forgets)
    topics = [f"{scenario.name}:{number}" for number in range(scenario.topics)]
    crowd = Crowd(checker, [server.port for server in servers], topics)
    rig = Rig(crowd, servers, started, options.seconds)
    showing = asyncio.ensure_future(_show(scenario, crowd, progress))
    try:
        await crowd.subscribe(min(options.subscribers, scenario.subscribers), scenario.each)
        crowd.publish(options.publishers, topics, 1 / options.rate, 0)
        await scenario.disturb(rig)
        await crowd.finish()
    finally:
        showing.cancel()
        await crowd.close()
    if scenario.told and not checker.gaps:
        checker.violation("no gap was told, so that the scenario has shown nothing")
    outcome = _outcome(scenario, crowd)
    errors = ", ".join(f"{name} {count} times" for name, count in crowd.errors.items())
    outcome.notes = rig.notes + ([f"publishers saw {errors}"] if errors else [])
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


async def _show(scenario: Scenario, crowd: Crowd, progress: Progress) -> None:
    while True:
        checker = crowd.checker
        live = sum(client.live for client in crowd.clients)
        text = f"{scenario.name}: {live} subscribed, {len(checker.positions)} published, {checker.delivered} delivered"
        progress.show(text, every=10)
        await asyncio.sleep(0.5)


def _outcome(scenario: Scenario, crowd: Crowd) -> Outcome:
    checker, clients = crowd.checker, crowd.clients
    return Outcome(
        scenario.name,
        scenario.about,
        subscribers=len(clients),
        connections=sum(client.connections for client in clients),
        published=sum(bool(position) for position in checker.positions.values()),
        local=sum(not position for position in checker.positions.values()),
        raised=len(checker.raised - checker.positions.keys()),
        delivered=checker.delivered,
        recovered=checker.recovered,
        unrecovered=checker.unrecovered,
        gaps=checker.gaps,
        needless=checker.needless,
        closes=dict(crowd.closes),
        delay=round(max((client.delay for client in clients), default=0.0), 3),
        violations=checker.violations,
        count=checker.count,
    )


def descriptors_suffice(subscribers: int) -> bool:
    """Whether this process may have so many connections; the limit is raised where that is possible."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = subscribers + 200
    if soft < wanted <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted <= hard
