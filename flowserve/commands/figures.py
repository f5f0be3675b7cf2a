"""The figures of a server's metrics: one page of them, what has changed between two, and how they are shown to people.

Needs prometheus-client.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import click

from flowserve import metrics
from flowserve.errors import FlowserveError

_PATH = "/metrics"
_TIMEOUT = 5.0
"""Seconds for one scrape."""


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


# Showing


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
