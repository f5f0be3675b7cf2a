"""The command `flowserve top`: a live view of what a server's --metrics tell.

It scrapes the page as Prometheus does, and shows what happened between two scrapes. Needs the libraries rich and
prometheus-client, an extra.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from flowserve import metrics
from flowserve.errors import FlowserveError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

_PATH = "/metrics"
_PATIENCE = 5.0
"""Seconds for one scrape."""
_LATE = 0.1
"""Seconds of an event loop's lag that are too many."""
_WIDTH = 120
"""Columns where the output is no terminal."""


class Unreachable(FlowserveError):
    """There is no page of metrics to be had."""


@dataclass(frozen=True)
class Place:
    """Where the metrics are: `url`, or the UNIX domain socket `path`."""

    url: str = ""
    path: str = ""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else self.url


def place_of(text: str) -> Place:
    """Read unix:PATH, a URL, or HOST:PORT. Raises click.BadParameter."""
    if text.startswith("unix:"):
        return Place(path=text.removeprefix("unix:"))
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or "://" in text)
    except ValueError:
        usable = False
    if not usable:
        raise click.BadParameter(f"{text!r} is no address of metrics; write host:port, a URL or unix:PATH")
    return Place(url=url if parts.path not in ("", "/") else f"{parts.scheme}://{parts.netloc}{_PATH}")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_PATIENCE)
        self.sock.connect(self._path)


def fetch(place: Place) -> str:
    """Return the page. Raises Unreachable."""
    parts = urlsplit(place.url)
    connection: http.client.HTTPConnection
    if place.path:
        connection = _UnixConnection(place.path)
    elif parts.scheme == "https":
        tls = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.netloc, timeout=_PATIENCE, context=tls)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=_PATIENCE)
    try:
        connection.request("GET", parts.path or _PATH, headers={"Accept": "text/plain"})
        response = connection.getresponse()
        page = response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"can't read metrics from {place}: {_why(error)}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise Unreachable(f"{place} answered {response.status}; is it what --metrics says?")
    return page


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@dataclass
class Scrape:
    """One page as numbers: `values[name]` are (labels, value) pairs, `at` the seconds of a steady clock."""

    at: float
    values: dict[str, list[tuple[dict[str, str], float]]] = field(default_factory=dict)

    def total(self, name: str, **labels: str) -> float:
        """The sum of all that have these labels."""
        wanted = labels.items()
        return sum(value for has, value in self.values.get(name, ()) if wanted <= has.items())

    def by(self, name: str, label: str) -> dict[str, float]:
        """The sums for each value of `label`."""
        found: dict[str, float] = {}
        for has, value in self.values.get(name, ()):
            found[has.get(label, "")] = found.get(has.get(label, ""), 0.0) + value
        return found


def scrape(place: Place) -> Scrape:
    """Fetch and read a page. Raises Unreachable."""
    from prometheus_client.parser import text_string_to_metric_families

    page = fetch(place)
    result = Scrape(time.monotonic())
    try:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                result.values.setdefault(sample.name, []).append((sample.labels, sample.value))
    except (ValueError, IndexError):  # what the parser makes of something else
        result.values.clear()
    if metrics.INFO not in result.values:
        raise Unreachable(f"what {place} answers are no metrics of flowserve; is it what --metrics says?")
    return result


@dataclass(frozen=True)
class Change:
    """What happened between two scrapes."""

    before: Scrape
    now: Scrape

    def count(self, name: str, **labels: str) -> float:
        """How much a counter grew; one that fell has begun anew."""
        now, before = self.now.total(name, **labels), self.before.total(name, **labels)
        return now - before if now >= before else now

    def rate(self, name: str, **labels: str) -> float:
        """How much a counter grew, a second."""
        return self.count(name, **labels) / max(self.now.at - self.before.at, 0.001)

    def quantile(self, name: str, part: float) -> float | None:
        """The value of a histogram below which `part` of what was seen lies: between the scrapes, or ever if there
        was nothing between them. None if there never was."""
        bounds = self.now.by(f"{name}_bucket", "le")
        earlier = self.before.by(f"{name}_bucket", "le")
        cumulative = {float(le): count for le, count in bounds.items()}
        recent = {float(le): count - earlier.get(le, 0.0) for le, count in bounds.items()}
        if min(recent.values(), default=0.0) >= 0.0 and recent.get(float("inf"), 0.0) > 0:
            cumulative = recent
        return quantile(cumulative, part)


def quantile(cumulative: dict[float, float], part: float) -> float | None:
    """Return the value below which `part` of a histogram lies, taken to be spread evenly inside a bucket; the highest
    finite bound for what lies above it, None if it is empty. `cumulative`: upper bound -> how many up to it."""
    count = cumulative.get(float("inf"), 0.0)
    if not count:
        return None
    low = below = 0.0
    for bound, up_to in sorted(cumulative.items()):
        if up_to >= count * part:
            if bound == float("inf"):
                return low
            return low + (bound - low) * ((count * part - below) / (up_to - below) if up_to > below else 1.0)
        low, below = bound, up_to
    return low


# The view


def show_count(value: float) -> str:
    """8, 8.2k, 82k, 8.2M."""
    return _scaled(value, ("", "k", "M", "G", "T"))


def show_size(value: float) -> str:
    """812B, 3.4kB, 120MB."""
    return _scaled(value, ("B", "kB", "MB", "GB", "TB"))


def _scaled(value: float, units: tuple[str, ...]) -> str:
    step = 0
    while value >= 999.5 and step < len(units) - 1:
        value /= 1000
        step += 1
    return f"{value:.1f}{units[step]}" if step and value < 9.95 else f"{value:.0f}{units[step]}"


def show_seconds(value: float | None) -> str:
    """0.4ms, 25ms, 1.5s, 15s, 5m, 3h, 2d; '-' for None."""
    if value is None:
        return "-"
    if value < 0.9995:
        return f"{value * 1000:.1f}ms" if value < 0.00995 else f"{value * 1000:.0f}ms"
    if value < 9.95:
        return f"{value:.1f}s"
    for limit, length, unit in ((100, 1, "s"), (100, 60, "m"), (48, 3600, "h")):
        if value / length < limit:
            return f"{value / length:.0f}{unit}"
    return f"{value / 86400:.0f}d"


def view(place: Place, change: Change, trouble: str = "") -> RenderableType:
    """Return what is to be shown of a server."""
    from rich.console import Group
    from rich.text import Text

    now = change.now
    version = next(iter(now.by(metrics.INFO, "version")), "")
    uptime = show_seconds(time.time() - now.total(metrics.START))
    title = Text.assemble(("flowserve ", "bold"), version, f" at {place}, up {uptime}")
    return Group(title, Text(trouble, "bold red"), _workers(change), Text(), _facts(change))


_HEADINGS = ("worker", "state", "http", "ws", "req/s", "in/s", "out/s", "in B/s", "out B/s", "lag", "memory", "up")
_ALL = (metrics.REQUESTS, metrics.RECEIVED, metrics.SENT, metrics.RECEIVED_BYTES, metrics.SENT_BYTES)
"""What counters say of all workers, those that have ended too."""


def _workers(change: Change) -> Table:
    from rich.table import Table

    now = change.now
    names = sorted(now.by(metrics.WORKER_START, "worker"), key=lambda name: (len(name), name))
    totals = _row(change, "all", [change.rate(name) for name in _ALL], now.total(metrics.START))
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
    """The figures of one worker, or of all."""
    from rich.text import Text

    now = change.now
    draining = now.total(metrics.WORKER_DRAINING, **which)
    late = now.values.get(metrics.WORKER_LAG, ())
    lag = max((value for labels, value in late if which.items() <= labels.items()), default=0.0)
    return [
        Text(name),
        Text("draining", "yellow") if draining else Text("serving"),
        show_count(now.total(metrics.WORKER_OPEN, kind="http", **which)),
        show_count(now.total(metrics.WORKER_OPEN, kind="websocket", **which)),
        *map(show_count, rates[:3]),
        *map(show_size, rates[3:]),
        Text(show_seconds(lag), "red" if lag >= _LATE else ""),
        show_size(now.total(metrics.WORKER_MEMORY, **which)),
        show_seconds(max(0.0, time.time() - started)),
    ]


_LISTS = (
    ("opened", metrics.OPENED, "kind"),
    ("closes", metrics.CLOSES, "code"),
    ("refusals", metrics.REFUSALS, "reason"),
    ("restarts", metrics.RESTARTS, "reason"),
)


def _facts(change: Change) -> Table:
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
    for name, family, label in _LISTS:
        table.add_row(name, Text(_listed(change, family, label)))
    return table


def _listed(change: Change, name: str, label: str) -> str:
    """Each value of the label with its count, and how much of it is new."""
    shown = []
    for value, count in sorted(change.now.by(name, label).items()):
        new = change.count(name, **{label: value})
        if count:
            shown.append(f"{value} {show_count(count)}" + (f" (+{show_count(new)})" if new else ""))
    return ", ".join(shown) or "none"


# The command


def _watch(console: Console, place: Place, interval: float) -> None:
    """Show the server until Ctrl-C, whether it answers or not."""
    from rich.live import Live

    before = now = scrape(place)
    trouble = ""
    with Live(view(place, Change(before, now)), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            try:
                before, now, trouble = now, scrape(place), ""
            except Unreachable as error:
                trouble = f"{error}; trying again"
            live.update(view(place, Change(before, now), trouble), refresh=True)


def _top(address: Place, interval: float, once: bool) -> None:
    try:
        import prometheus_client  # noqa: F401
        from rich.console import Console
    except ImportError as error:
        raise FlowserveError(f"{error.name} is missing; pip install 'flowserve[top]'") from None
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
        pass  # the usual way to end it


def _read_place(_ctx: Any, _param: Any, value: str) -> Place:
    return place_of(value)


top = click.Command(
    "top",
    callback=_top,
    help="Watch the server whose --metrics are at ADDRESS: host:port, a URL or unix:PATH. Ctrl-C ends it.",
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[
        click.Argument(["address"], callback=_read_place),
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
