"""The command `flowserve bench URL`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import click
from click.core import ParameterSource

from flowserve.commands.bench.fan_out import FanOut, FanOutPlan
from flowserve.commands.bench.fan_out_report import as_json as fan_out_json
from flowserve.commands.bench.fan_out_report import as_text as fan_out_text
from flowserve.commands.bench.load import Load, Plan
from flowserve.commands.bench.publishers import BackplanePublisher, WebSocketPublisher
from flowserve.commands.bench.report import as_json, as_text
from flowserve.commands.endpoint import (
    INTERRUPTED,
    Endpoint,
    EndpointCommand,
    endpoint_options,
    make_endpoint,
    option,
    url_argument,
)
from flowserve.config.kinds import duration, number, optional, size
from flowserve.errors import ConfigError, FlowserveError
from flowserve.runtime.event_loop import run_in_loop
from flowserve.runtime.signals import handling

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_HELP = """Put the WebSocket echo server at URL under load: open connections, keep messages on their way on each, and
check every echo, byte by byte. Then show how many came back a second, and how long they took.

\b
flowserve bench ws://127.0.0.1:8000/ -c 100 -d 5s
flowserve bench ws://127.0.0.1:8000/ --rate 5000 --json | jq .latency.p99

Each connection sends its next message when an echo has come, so that a slow server gets fewer messages. With --rate
messages are sent at this rate in all, and latency counts from when a message was to be sent, also if it had to wait for
one of --in-flight to come back.

With --topics each message is published once, and has to come on each connection, once and in order: --topics-url says
where; without it, it is sent on one more connection, to an application that publishes what it gets.

\b
flowserve bench ws://127.0.0.1:8000/ --topics news --topics-url redis://127.0.0.1 -c 1000 --rate 100

Latencies are told within 0.8 %. All runs on one CPU; to load a server with more, start it several times. Ctrl-C ends it
early, with the results so far.

What is sent and what is received are told separately, for servers that do not echo; the exit status is 1 then.

Exit status: 0 if every echo came and was right, and nothing else, or each message came everywhere, 1 if not, or if
connections failed or were closed, 2 for wrong usage, 130 after Ctrl-C.
"""

_SPARE_DESCRIPTORS = 64
"""Descriptors that are kept for other uses than connections."""
_REDRAW_INTERVAL = 0.25
"""Seconds between updates of the progress line."""
_TOPICS_RATE = 10.0
"""Messages a second that are published to a topic, unless --rate says otherwise."""
_LATE = 1.0
"""Seconds after which a delivery is late, unless --late says otherwise."""

B = TypeVar("B", bound="Benchmark")


class Benchmark(Protocol):
    """What is run."""

    async def open(self) -> None:
        """Open the connections. Raises FlowserveError if the first one fails."""

    async def run(self) -> None:
        """Run until it is done, or `stop()` is called."""

    async def close(self) -> None:
        """Close all connections."""

    def stop(self) -> None:
        """Make `run()` end early."""

    def abort(self) -> None:
        """Abort all connections."""

    @property
    def result(self) -> Any:
        """What has come of it until now."""

    @property
    def elapsed(self) -> float:
        """Seconds since the first message; 0.0 before it."""

    @property
    def sent(self) -> int:
        """How many messages have been sent until now."""

    @property
    def received(self) -> int:
        """How many messages have come until now."""

    @property
    def progress(self) -> float:
        """The part that is done, from 0 to 1."""

    @property
    def problems(self) -> dict[str, int]:
        """What has gone wrong until now."""


def _bench(url: str, as_json_: bool, **given: Any) -> int:
    endpoint = make_endpoint(url, given)
    max_size = (
        None if given["max_size"] is None else max(given["max_size"], given["size"])
    )  # an echo must not exceed it
    endpoint = replace(endpoint, options={**endpoint.options, "max_size": max_size, "close_timeout": given["timeout"]})
    _raise_file_limit(given["connections"])
    if given["topics"] is None:
        return _bench_echo(endpoint, as_json_, given)
    return _bench_topics(endpoint, as_json_, given)


def _bench_echo(endpoint: Endpoint, json_wanted: bool, given: Mapping[str, Any]) -> int:
    for name in ("topics_url", "template", "late"):
        source = click.get_current_context().get_parameter_source(name)
        if given[name] is not None and source is not ParameterSource.ENVIRONMENT:
            raise click.UsageError(f"--{name.replace('_', '-')} is for topics: name one with --topics")
    plan = Plan(
        connections=given["connections"],
        size=given["size"],
        in_flight=given["in_flight"] or 1,
        binary=given["binary"],
        duration=_duration(given["duration"], given["messages"]),
        messages=given["messages"],
        rate=given["rate"],
        timeout=given["timeout"],
    )
    load, status = run_in_loop("auto", lambda: _run(Load(endpoint, plan), plan.connections))
    if load.result.seconds:
        shown = as_json(endpoint, plan, load.result) if json_wanted else as_text(endpoint, plan, load.result)
        click.echo(json.dumps(shown) if json_wanted else shown)
    return status


def _bench_topics(endpoint: Endpoint, json_wanted: bool, given: Mapping[str, Any]) -> int:
    for name in ("in_flight", "binary"):
        if given[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} does not go with --topics")
    template, topics_url = given["template"] or "{}", given["topics_url"]
    if "{}" not in template:
        raise click.UsageError("--template has {} where the message stands")
    plan = FanOutPlan(
        topic=given["topics"],
        connections=given["connections"],
        size=given["size"],
        rate=given["rate"] or _TOPICS_RATE,
        duration=_duration(given["duration"], given["messages"]),
        messages=given["messages"],
        timeout=given["timeout"],
        late=given["late"] or _LATE,
        template=template,
    )

    def make() -> FanOut:
        if topics_url is None:
            return FanOut(endpoint, plan, WebSocketPublisher(endpoint, plan.topic))
        return FanOut(endpoint, plan, BackplanePublisher(topics_url, plan.topic))

    load, status = run_in_loop("auto", lambda: _run(make(), plan.connections))
    if load.result.seconds:
        result = load.result
        shown = fan_out_json(endpoint, plan, result) if json_wanted else fan_out_text(endpoint, plan, result)
        click.echo(json.dumps(shown) if json_wanted else shown)
    return status


def _duration(given: float | None, messages: int | None) -> float | None:
    if given is None:
        return None if messages is not None else 10.0
    if messages is not None:
        raise click.UsageError("--duration and --messages exclude each other")
    return given


async def _run(load: B, connections: int) -> tuple[B, int]:
    """Run the load; return it with the exit status. Raises FlowserveError."""
    current_task, interrupted = asyncio.current_task(), False

    def interrupt(_number: signal.Signals) -> None:
        nonlocal interrupted
        if interrupted or not load.elapsed:
            assert current_task is not None
            current_task.cancel()
        interrupted = True
        load.stop()

    with handling({signal.SIGINT: interrupt}):
        try:
            async with _progress(load, connections):
                await load.open()
                await load.run()
            await load.close()
        except asyncio.CancelledError:
            load.abort()
            return load, INTERRUPTED
        except FlowserveError:
            load.abort()
            raise
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
async def _progress(load: Benchmark, connections: int) -> AsyncIterator[None]:
    """Show the progress in one line while the body runs, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    task = asyncio.ensure_future(_redraw(load, connections))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        click.echo("\r\x1b[K", err=True, nl=False)


async def _redraw(load: Benchmark, connections: int) -> None:
    before, at = (0, 0), 0.0
    while True:
        counts, now = (load.sent, load.received), load.elapsed
        rates = [(count - old) / (now - at) if now > at else 0.0 for count, old in zip(counts, before, strict=True)]
        click.echo(f"\r\x1b[K{_progress_line(load, connections, *rates)}", err=True, nl=False)
        before, at = counts, now
        await asyncio.sleep(_REDRAW_INTERVAL)


def _progress_line(load: Benchmark, connections: int, sent: float, received: float) -> str:
    """Return the line; `sent` and `received` are messages a second."""
    if not load.elapsed:
        return f"opening connections: {load.result.opened:,} of {connections:,}"
    filled = min(int(load.progress * 20), 20)
    problems = "".join(f", {count:,} {what}" for what, count in load.problems.items() if count)
    bar = "█" * filled + "░" * (20 - filled)
    return f"{bar} {load.elapsed:.1f} s, sent {sent:,.0f}/s, received {received:,.0f}/s{problems}"


bench = EndpointCommand(
    "bench",
    callback=_bench,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    params=[
        url_argument(),
        option(["-c", "--connections"], number(1, 1_000_000), 100, "Connections."),
        option(["-s", "--size"], size(), 64, "Size of a message."),
        option(
            ["-n", "--in-flight"],
            optional(number(1, 1_000_000)),
            None,
            "Messages on their way on each connection. [default: 1]",
        ),
        option(["-d", "--duration"], optional(duration()), None, "How long to send. [default: 10s]"),
        option(["--messages"], optional(number(1)), None, "Send so many in all, instead of for a duration."),
        option(
            ["--rate"],
            optional(number(1, 100_000_000)),
            None,
            "Messages to send a second, in all; with --topics 10 if it does not say.",
        ),
        click.Option(
            ["--topics"],
            metavar="TOPIC",
            help="No echoes: publish to this topic, and have each message come on all connections.",
        ),
        click.Option(
            ["--topics-url"],
            metavar="URL",
            envvar="FLOWSERVE_TOPICS_URL",  # as for the server; one with a password need not be shown
            help="Publish there, as what the servers use; else on one more connection.",
        ),
        click.Option(["--template"], metavar="TEXT", help="What to publish, with {} for the message."),
        option(["--late"], optional(duration()), None, "Count what comes later than that as late. [default: 1s]"),
        click.Option(["--binary"], is_flag=True, help="Send binary messages instead of text."),
        click.Option(["--json", "as_json_"], is_flag=True, help="Print one JSON object, in seconds and bytes."),
        *endpoint_options(
            compression=False,
            ping_interval=None,
            timeout_help="Longest wait for the server: for a connection, and for an echo.",
        ),
    ],
)
