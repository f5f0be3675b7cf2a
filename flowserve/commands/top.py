"""The command `flowserve top`: a live view of a server's metrics (--metrics).

It scrapes the metrics as Prometheus does, and shows the changes between two scrapes. Needs rich and prometheus-client,
which the extra flowserve[top] installs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from flowserve import metrics
from flowserve.commands.figures import (
    Change,
    MetricsAddress,
    Unreachable,
    parse_address,
    scrape,
    show_count,
    show_seconds,
    show_size,
)
from flowserve.errors import FlowserveError, install_hint

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

_HIGH_LAG = 0.1
"""Seconds of event loop lag from which on it is shown in red."""
_WIDTH = 120
"""Columns if the output is not a terminal."""

# The view


def view(address: MetricsAddress, change: Change, error_text: str = "") -> RenderableType:
    """Return the view of a server's metrics, with the message `error_text` in red."""
    from rich.console import Group
    from rich.text import Text

    now = change.now
    version = next(iter(now.by(metrics.INFO, "version")), "")
    uptime = show_seconds(time.time() - now.total(metrics.START))
    title = Text.assemble(("flowserve ", "bold"), version, f" at {address}, up {uptime}")
    return Group(title, Text(error_text, "bold red"), _workers(change), Text(), _summary(change))


_HEADINGS = ("worker", "state", "http", "ws", "req/s", "in/s", "out/s", "in B/s", "out B/s", "lag", "memory", "up")
_TOTAL_COUNTERS = (metrics.REQUESTS, metrics.RECEIVED, metrics.SENT, metrics.RECEIVED_BYTES, metrics.SENT_BYTES)
"""Counters over all workers, including those that have ended."""


def _workers(change: Change) -> Table:
    from rich.table import Table

    now = change.now
    names = sorted(now.by(metrics.WORKER_START, "worker"), key=lambda name: (len(name), name))
    totals = _row(change, "all", [change.rate(name) for name in _TOTAL_COUNTERS], now.total(metrics.START))
    totals[1] = f"{len(names)} workers"
    table = Table(box=None, header_style="bold", footer_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.show_footer = len(names) > 1
    for heading, total in zip(_HEADINGS, totals, strict=True):
        table.add_column(heading, total, justify="left" if heading in ("worker", "state") else "right", no_wrap=True)
    for name in names:
        which = {"worker": name}
        rates = [change.rate(metrics.WORKER_REQUESTS, **which)]
        rates += [change.rate(metrics.WORKER_MESSAGES, direction=way, **which) for way in ("in", "out")]
        rates += [change.rate(metrics.WORKER_BYTES, direction=way, **which) for way in ("in", "out")]
        table.add_row(*_row(change, name, rates, now.total(metrics.WORKER_START, **which), **which))
    return table


def _row(change: Change, name: str, rates: list[float], started: float, **which: str) -> list[str | Text]:
    """Return the table row of one worker, or of all."""
    from rich.text import Text

    now = change.now
    draining = now.total(metrics.WORKER_DRAINING, **which)
    lags = now.values.get(metrics.WORKER_LAG, ())
    lag = max((value for labels, value in lags if which.items() <= labels.items()), default=0.0)
    return [
        Text(name),
        Text("draining", "yellow") if draining else Text("serving"),
        show_count(now.total(metrics.WORKER_OPEN, kind="http", **which)),
        show_count(now.total(metrics.WORKER_OPEN, kind="websocket", **which)),
        *map(show_count, rates[:3]),
        *map(show_size, rates[3:]),
        Text(show_seconds(lag), "red" if lag >= _HIGH_LAG else ""),
        show_size(now.total(metrics.WORKER_MEMORY, **which)),
        show_seconds(max(0.0, time.time() - started)),
    ]


_LABELLED_COUNTERS = (
    ("opened", metrics.OPENED, "kind"),
    ("closes", metrics.CLOSES, "code"),
    ("refusals", metrics.REFUSALS, "reason"),
    ("restarts", metrics.RESTARTS, "reason"),
)


def _summary(change: Change) -> Table:
    from rich.table import Table
    from rich.text import Text

    now = change.now
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, family in (("ping round trip", metrics.ROUND_TRIPS), ("HTTP request", metrics.DURATIONS)):
        p50, p99 = change.quantile(family, 0.5), change.quantile(family, 0.99)
        table.add_row(name, f"p50 {show_seconds(p50)}, p99 {show_seconds(p99)}")
    held = {way: f"{now.total(metrics.PAUSED, direction=way):.0f} held up" for way in ("in", "out")}
    dropped, rate = now.total(metrics.DROPPED), change.rate(metrics.DROPPED)
    table.add_row("slow clients", f"{held['out']}, {show_count(dropped)} messages dropped ({show_count(rate)}/s)")
    table.add_row("slow application", f"{held['in']}, {show_count(now.total(metrics.QUEUED))} messages queued")
    if metrics.TOPICS_SUBSCRIBERS in now.values:
        table.add_row("topics", _topics(change))
    if metrics.TOPICS_MEMBERS in now.values:
        table.add_row("presence", _presence(change))
    if metrics.TOPICS_CLIENTS in now.values:
        table.add_row("topics' clients", _clients(change))
        table.add_row("their requests", Text(_format_labels(change, metrics.TOPICS_REQUESTS, "result")))
    for name, family, label in _LABELLED_COUNTERS:
        table.add_row(name, Text(_format_labels(change, family, label)))
    return table


def _topics(change: Change) -> str:
    published, delivered = (show_count(change.rate(f)) for f in (metrics.TOPICS_PUBLISHED, metrics.TOPICS_DELIVERED))
    subscribers = show_count(change.now.total(metrics.TOPICS_SUBSCRIBERS))
    return f"{published}/s published, {delivered}/s delivered to {subscribers} subscribers"


def _presence(change: Change) -> str:
    rates = {way: show_count(change.rate(metrics.TOPICS_MEMBER_CHANGES, change=way)) for way in ("joined", "left")}
    told = {way: show_count(change.rate(metrics.TOPICS_PRESENCE_MESSAGES, direction=way)) for way in ("out", "in")}
    members = show_count(change.now.total(metrics.TOPICS_MEMBERS))
    return (
        f"{members} members, {rates['joined']}/s joined, {rates['left']}/s left;"
        f" {told['out']}/s messages to other processes, {told['in']}/s from them"
    )


def _clients(change: Change) -> str:
    clients = show_count(change.now.total(metrics.TOPICS_CLIENTS))
    requests = show_count(change.rate(metrics.TOPICS_REQUESTS))
    published = show_count(change.rate(metrics.TOPICS_REQUESTS, type="publish", result="ok"))
    return f"{clients}, {requests}/s requests, {published}/s published"


def _format_labels(change: Change, name: str, label: str) -> str:
    """Return each value of a label with its count and, in parentheses, the growth between the scrapes."""
    shown = []
    for value, count in sorted(change.now.by(name, label).items()):
        new = change.count(name, **{label: value})
        if count:
            shown.append(f"{value} {show_count(count)}" + (f" (+{show_count(new)})" if new else ""))
    return ", ".join(shown) or "none"


# The command


def _watch(console: Console, address: MetricsAddress, interval: float) -> None:
    """Show the view until Ctrl-C, also while the server does not respond."""
    from rich.live import Live

    before = now = scrape(address)
    error_text = ""
    with Live(view(address, Change(before, now)), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            try:
                before, now, error_text = now, scrape(address), ""
            except Unreachable as error:
                error_text = f"{error}; trying again"
            live.update(view(address, Change(before, now), error_text), refresh=True)


def _top(address: MetricsAddress, interval: float, once: bool) -> None:
    try:
        import prometheus_client  # noqa: F401
        from rich.console import Console
    except ImportError:
        raise FlowserveError(install_hint("rich", "prometheus-client")) from None
    console = Console()
    try:
        if console.is_terminal and not once:
            _watch(console, address, interval)
        else:
            before = scrape(address)
            time.sleep(interval)
            if not console.is_terminal:
                console = Console(width=_WIDTH)
            console.print(view(address, Change(before, scrape(address))))
    except KeyboardInterrupt:
        pass  # the normal way to end it


def _parse_argument(_ctx: Any, _param: Any, value: str) -> MetricsAddress:
    return parse_address(value)


top = click.Command(
    "top",
    callback=_top,
    help="Watch the server whose --metrics are at ADDRESS: host:port, a URL or unix:PATH. Ctrl-C ends it.",
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[
        click.Argument(["address"], callback=_parse_argument),
        click.Option(
            ["--interval"],
            type=click.FloatRange(0.1),
            default=1.0,
            show_default=True,
            metavar="SECONDS",
            help="Seconds between two looks.",
        ),
        click.Option(
            ["--once"], is_flag=True, help="Print one interval's figures and end; so it is without a terminal, too."
        ),
    ],
)
