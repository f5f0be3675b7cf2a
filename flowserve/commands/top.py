"""The command `flowserve top`: a live view of a server's metrics (--metrics).

It scrapes the metrics as Prometheus does, and shows the changes between two scrapes. Needs rich and prometheus-client,
which the extra flowserve[top] installs.
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
from flowserve.errors import FlowserveError, install_hint

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

_PATH = "/metrics"
_TIMEOUT = 5.0
"""Seconds for one scrape."""
_HIGH_LAG = 0.1
"""Seconds of event loop lag from which on it is shown in red."""
_WIDTH = 120
"""Columns if the output is not a terminal."""


class Unreachable(FlowserveError):
    """The metrics could not be fetched; the message says why."""


@dataclass(frozen=True)
class MetricsAddress:
    """Where the metrics are served: `url`, or the UNIX domain socket `path`."""

    url: str = ""
    path: str = ""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else self.url


def parse_address(text: str) -> MetricsAddress:
    """Parse unix:PATH, a URL, or HOST:PORT. Raises click.BadParameter."""
    if text.startswith("unix:"):
        return MetricsAddress(path=text.removeprefix("unix:"))
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or "://" in text)
    except ValueError:
        usable = False
    if not usable:
        raise click.BadParameter(f"{text!r} is no address of metrics; write host:port, a URL or unix:PATH")
    return MetricsAddress(url=url if parts.path not in ("", "/") else f"{parts.scheme}://{parts.netloc}{_PATH}")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)


def fetch(address: MetricsAddress) -> str:
    """Fetch the metrics; return them as text. Raises Unreachable."""
    parts = urlsplit(address.url)
    connection: http.client.HTTPConnection
    if address.path:
        connection = _UnixConnection(address.path)
    elif parts.scheme == "https":
        tls = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.netloc, timeout=_TIMEOUT, context=tls)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT)
    try:
        connection.request("GET", parts.path or _PATH, headers={"Accept": "text/plain"})
        response = connection.getresponse()
        page = response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"can't read metrics from {address}: {_describe(error)}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise Unreachable(f"{address} answered {response.status}; is it what --metrics says?")
    return page


def _describe(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@dataclass
class Scrape:
    """The samples of one scrape."""

    at: float
    """The time of the scrape, by `time.monotonic()`."""
    values: dict[str, list[tuple[dict[str, str], float]]] = field(default_factory=dict)
    """The samples by metric name, each with its labels and value."""

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of a metric that have these labels."""
        wanted = labels.items()
        return sum(value for sample_labels, value in self.values.get(name, ()) if wanted <= sample_labels.items())

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the sum of the samples of a metric for each value of `label`."""
        found: dict[str, float] = {}
        for sample_labels, value in self.values.get(name, ()):
            found[sample_labels.get(label, "")] = found.get(sample_labels.get(label, ""), 0.0) + value
        return found


def scrape(address: MetricsAddress) -> Scrape:
    """Fetch and parse the metrics. Raises Unreachable."""
    from prometheus_client.parser import text_string_to_metric_families

    page = fetch(address)
    result = Scrape(time.monotonic())
    try:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                result.values.setdefault(sample.name, []).append((sample.labels, sample.value))
    except (ValueError, IndexError):  # it is not in the text format of Prometheus
        result.values.clear()
    if metrics.INFO not in result.values:
        raise Unreachable(f"what {address} answers are no metrics of flowserve; is it what --metrics says?")
    return result


@dataclass(frozen=True)
class Change:
    """The changes between two scrapes."""

    before: Scrape
    now: Scrape

    def count(self, name: str, **labels: str) -> float:
        """Return by how much a counter grew; if it fell, it was reset to 0 in between."""
        now, before = self.now.total(name, **labels), self.before.total(name, **labels)
        return now - before if now >= before else now

    def rate(self, name: str, **labels: str) -> float:
        """Return by how much a counter grew a second."""
        return self.count(name, **labels) / max(self.now.at - self.before.at, 0.001)

    def quantile(self, name: str, part: float) -> float | None:
        """Return the quantile `part`, from 0 to 1, of a histogram: of the observations between the scrapes, or of all
        if there were none between them; None if it is empty."""
        bounds = self.now.by(f"{name}_bucket", "le")
        earlier = self.before.by(f"{name}_bucket", "le")
        cumulative = {float(le): count for le, count in bounds.items()}
        recent = {float(le): count - earlier.get(le, 0.0) for le, count in bounds.items()}
        if min(recent.values(), default=0.0) >= 0.0 and recent.get(float("inf"), 0.0) > 0:
            cumulative = recent
        return quantile(cumulative, part)


def quantile(cumulative: dict[float, float], part: float) -> float | None:
    """Return the quantile `part`, from 0 to 1, of a histogram, None if it is empty. `cumulative` maps the upper bound
    of each bucket to the number of observations up to it. Observations are assumed to be spread evenly inside a bucket;
    the result is at most the highest finite bound."""
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
    """Format a count: 8, 8.2k, 82k, 8.2M."""
    return _scaled(value, ("", "k", "M", "G", "T"))


def show_size(value: float) -> str:
    """Format a size in bytes: 812B, 3.4kB, 120MB."""
    return _scaled(value, ("B", "kB", "MB", "GB", "TB"))


def _scaled(value: float, units: tuple[str, ...]) -> str:
    step = 0
    while value >= 999.5 and step < len(units) - 1:
        value /= 1000
        step += 1
    return f"{value:.1f}{units[step]}" if step and value < 9.95 else f"{value:.0f}{units[step]}"


def show_seconds(value: float | None) -> str:
    """Format a duration: 0.4ms, 25ms, 1.5s, 15s, 5m, 3h, 2d; '-' for None."""
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
    for name, family, label in _LABELLED_COUNTERS:
        table.add_row(name, Text(_format_labels(change, family, label)))
    return table


def _topics(change: Change) -> str:
    published, delivered = (show_count(change.rate(f)) for f in (metrics.TOPICS_PUBLISHED, metrics.TOPICS_DELIVERED))
    subscribers = show_count(change.now.total(metrics.TOPICS_SUBSCRIBERS))
    return f"{published}/s published, {delivered}/s delivered to {subscribers} subscribers"


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
