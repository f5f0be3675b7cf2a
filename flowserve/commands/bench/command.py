"""The command `flowserve bench URL`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import click

from flowserve.commands.bench.load import Load, Plan
from flowserve.commands.bench.report import as_json, as_text
from flowserve.commands.endpoint import INTERRUPTED, Endpoint, endpoint_options, make_endpoint, option, url_argument
from flowserve.config.kinds import duration, number, optional, size
from flowserve.errors import ConfigError
from flowserve.runtime.event_loop import run_in_loop
from flowserve.runtime.signals import handling

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_HELP = """Put the WebSocket echo server at URL under load: open connections, keep messages on their way on each, and
check every echo, byte by byte. Then show how many came back a second, and how long they took.

Each connection sends its next message when an echo has come, so that a slow server gets fewer messages. With --rate
messages are sent at this rate in all, and latency counts from when a message was to be sent, also if it had to wait for
one of --in-flight to come back.

Latencies are told within 0.8 %. All runs on one CPU; to load a server with more, start it several times. Ctrl-C ends it
early, with the results so far.

Exit status: 0 if every echo came and was right, 1 if not, or if connections failed or were closed, 2 for wrong usage,
130 after Ctrl-C.
"""

_SPARE_DESCRIPTORS = 64
"""Descriptors that are kept for other uses than connections."""
_REDRAW_INTERVAL = 0.25
"""Seconds between updates of the progress line."""


def _bench(url: str, as_json_: bool, **given: Any) -> int:
    endpoint = make_endpoint(url, given)
    max_size = (
        None if given["max_size"] is None else max(given["max_size"], given["size"])
    )  # an echo must not exceed it
    endpoint = replace(endpoint, options={**endpoint.options, "max_size": max_size, "close_timeout": given["timeout"]})
    plan = Plan(
        connections=given["connections"],
        size=given["size"],
        in_flight=given["in_flight"],
        binary=given["binary"],
        duration=_duration(given["duration"], given["messages"]),
        messages=given["messages"],
        rate=given["rate"],
        timeout=given["timeout"],
    )
    _raise_file_limit(plan.connections)
    load, status = run_in_loop("auto", lambda: _run(endpoint, plan))
    if load.result.seconds:
        click.echo(
            json.dumps(as_json(endpoint, plan, load.result)) if as_json_ else as_text(endpoint, plan, load.result)
        )
    return status


def _duration(given: float | None, messages: int | None) -> float | None:
    if given is None:
        return None if messages is not None else 10.0
    if messages is not None:
        raise click.UsageError("--duration and --messages exclude each other")
    return given


async def _run(endpoint: Endpoint, plan: Plan) -> tuple[Load, int]:
    """Run the load; return it with the exit status. Raises FlowserveError."""
    load, current_task, interrupted = Load(endpoint, plan), asyncio.current_task(), False

    def interrupt(_number: signal.Signals) -> None:
        nonlocal interrupted
        if interrupted or not load.elapsed:
            assert current_task is not None
            current_task.cancel()
        interrupted = True
        load.stop()

    with handling({signal.SIGINT: interrupt}):
        try:
            async with _progress(load, plan):
                await load.open()
                await load.run()
            await load.close()
        except asyncio.CancelledError:
            load.abort()
            return load, INTERRUPTED
    return load, INTERRUPTED if interrupted else 0 if load.result.good else 1


def _raise_file_limit(connections: int) -> None:
    """Raise the soft limit of open files (RLIMIT_NOFILE) if needed. Raises ConfigError if the hard limit is too low."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _SPARE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ConfigError(
            f"--connections {connections} takes more open files than the {hard} allowed here; see ulimit -Hn, or start"
            " several, with fewer connections each"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


# The progress line


@asynccontextmanager
async def _progress(load: Load, plan: Plan) -> AsyncIterator[None]:
    """Show the progress in one line while the body runs, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    task = asyncio.ensure_future(_redraw(load, plan))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        click.echo("\r\x1b[K", err=True, nl=False)


async def _redraw(load: Load, plan: Plan) -> None:
    before, at = 0, 0.0
    while True:
        echoed, now = load.result.totals.echoed, load.elapsed
        rate = (echoed - before) / (now - at) if now > at else 0.0
        click.echo(f"\r\x1b[K{_progress_line(load, plan, rate)}", err=True, nl=False)
        before, at = echoed, now
        await asyncio.sleep(_REDRAW_INTERVAL)


def _progress_line(load: Load, plan: Plan, rate: float) -> str:
    if not load.elapsed:
        return f"opening connections: {load.result.opened:,} of {plan.connections:,}"
    totals = load.result.totals
    part = totals.echoed / plan.messages if plan.messages else load.elapsed / (plan.duration or 1)
    filled = min(int(part * 20), 20)
    wrong = f", {totals.wrong:,} wrong" if totals.wrong else ""
    closed = f", {sum(totals.ends.values()):,} closed" if totals.ends else ""
    bar = "█" * filled + "░" * (20 - filled)
    return f"{bar} {load.elapsed:.1f} s, {totals.echoed:,} echoes, {rate:,.0f}/s{wrong}{closed}"


bench = click.Command(
    "bench",
    callback=_bench,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    params=[
        url_argument(),
        option(["-c", "--connections"], number(1, 1_000_000), 100, "Connections."),
        option(["-s", "--size"], size(), 64, "Size of a message."),
        option(["-n", "--in-flight"], number(1, 1_000_000), 1, "Messages on their way on each connection."),
        option(["-d", "--duration"], optional(duration()), None, "How long to send. [default: 10s]"),
        option(["--messages"], optional(number(1)), None, "Send so many in all, instead of for a duration."),
        option(["--rate"], optional(number(1, 100_000_000)), None, "Messages to send a second, in all."),
        click.Option(["--binary"], is_flag=True, help="Send binary messages instead of text."),
        click.Option(["--json", "as_json_"], is_flag=True, help="Print one JSON object, in seconds and bytes."),
        *endpoint_options(
            compression=False,
            ping_interval=None,
            timeout_help="Longest wait for the server: for a connection, and for an echo.",
        ),
    ],
)
