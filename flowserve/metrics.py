"""What a worker counts, how the counts of several workers add up, and their page for Prometheus. A leaf.

Nothing here runs unless --metrics is given. What is counted for each message goes into plain lists; the library
prometheus-client, an extra, only renders.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import accumulate
from time import monotonic, time
from typing import Any

from flowserve.version import __version__

Snapshot = dict[str, dict[str, Any]]
"""A family's name -> its label values, joined by commas -> a number or a histogram's cells. JSON can carry it.

A histogram's cells: for each bound the values up to it and above the one before, then those above all bounds, then
the sum of all values.
"""

SIZES = tuple(64 * 4**n for n in range(10))
"""Bounds in bytes: 64 B to 16 MiB."""
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_SAMPLE_EVERY = 0.5
"""Seconds between looks at how late the event loop is."""
_SAMPLES = 20
"""How many of them the largest lag is taken from."""

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_STATUSES = frozenset((*map(int, HTTPStatus), 499))  # 499: the client left before there was a status
_CLOSE_CODES = frozenset((*range(1000, 1004), *range(1005, 1016)))  # the IANA registry


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with its labels; `per_worker` has one more, `worker`, and is no part of the sums."""

    kind: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    per_worker: bool = False


def _counter(help: str, *labels: str) -> Family:
    return Family("counter", help, labels)


def _gauge(help: str, *labels: str) -> Family:
    return Family("gauge", help, labels)


def _histogram(help: str, bounds: tuple[float, ...], *labels: str) -> Family:
    return Family("histogram", help, labels, bounds)


def _each(kind: str, help: str, *labels: str) -> Family:
    return Family(kind, help, labels, per_worker=True)


OPEN = "flowserve_open_connections"
OPENED = "flowserve_connections_total"
REFUSALS = "flowserve_refusals_total"
SENT = "flowserve_websocket_messages_sent_total"
RECEIVED = "flowserve_websocket_messages_received_total"
SENT_BYTES = "flowserve_websocket_sent_bytes_total"
RECEIVED_BYTES = "flowserve_websocket_received_bytes_total"
MESSAGE_SIZES = "flowserve_websocket_message_size_bytes"
CLOSES = "flowserve_websocket_closes_total"
ROUND_TRIPS = "flowserve_websocket_ping_round_trip_seconds"
QUEUED = "flowserve_websocket_queued_messages"
PAUSED = "flowserve_websocket_paused"
DROPPED = "flowserve_websocket_dropped_messages_total"
REQUESTS = "flowserve_http_requests_total"
DURATIONS = "flowserve_http_request_duration_seconds"
LAG = "flowserve_event_loop_lag_seconds"
RESTARTS = "flowserve_worker_restarts_total"
WORKERS = "flowserve_workers"
START = "flowserve_start_time_seconds"
INFO = "flowserve_info"
WORKER_OPEN = "flowserve_worker_open_connections"
WORKER_REQUESTS = "flowserve_worker_http_requests_total"
WORKER_MESSAGES = "flowserve_worker_websocket_messages_total"
WORKER_BYTES = "flowserve_worker_websocket_bytes_total"
WORKER_LAG = "flowserve_worker_event_loop_lag_max_seconds"
WORKER_MEMORY = "flowserve_worker_resident_memory_bytes"
WORKER_DRAINING = "flowserve_worker_draining"
WORKER_START = "flowserve_worker_start_time_seconds"

FAMILIES: dict[str, Family] = {
    OPEN: _gauge("Open connections; one that has become a WebSocket is no longer http.", "kind"),
    OPENED: _counter("Connections accepted (http), and WebSockets that came of them (websocket).", "kind"),
    REFUSALS: _counter("Connections, requests and WebSocket handshakes that came to nothing, and why.", "reason"),
    RECEIVED: _counter("WebSocket messages from clients.", "type"),
    SENT: _counter("WebSocket messages to clients.", "type"),
    RECEIVED_BYTES: _counter("Payload of WebSocket messages from clients, decompressed.", "type"),
    SENT_BYTES: _counter("Payload of WebSocket messages to clients, before compression.", "type"),
    MESSAGE_SIZES: _histogram("Payload of a WebSocket message, uncompressed.", SIZES, "direction", "type"),
    CLOSES: _counter("WebSockets that have ended; 1005: without a code, 1006: without a close frame.", "code"),
    ROUND_TRIPS: _histogram("Time from a keepalive ping to its pong.", SECONDS),
    QUEUED: _gauge("WebSocket messages that have come and wait for the application."),
    PAUSED: _gauge("WebSockets held up by a slow application (in) or a slow client (out).", "direction"),
    DROPPED: _counter("WebSocket messages that slow clients missed (--ws-slow-consumer drop)."),
    REQUESTS: _counter("HTTP requests, by the status of the answer; 499: the client left.", "method", "status"),
    DURATIONS: _histogram("Time from a request's head to the end of its response.", SECONDS, "status_class"),
    LAG: _histogram("How late the event loop calls a timer, looked at twice a second.", SECONDS),
    RESTARTS: _counter("Workers that were replaced, and why.", "reason"),
    WORKERS: _gauge("Worker processes that answer."),
    START: _gauge("When the server started, in seconds since the epoch."),
    INFO: _gauge("1, with the version of the server.", "version"),
    WORKER_OPEN: _each("gauge", "Open connections of a worker.", "kind"),
    WORKER_REQUESTS: _each("counter", "HTTP requests that a worker answered."),
    WORKER_MESSAGES: _each("counter", "WebSocket messages of a worker.", "direction"),
    WORKER_BYTES: _each("counter", "Payload of a worker's WebSocket messages, uncompressed.", "direction"),
    WORKER_LAG: _each("gauge", "Largest lag of a worker's event loop in the last ten seconds."),
    WORKER_MEMORY: _each("gauge", "Memory that a worker takes (RSS)."),
    WORKER_DRAINING: _each("gauge", "1 while a worker drains, else 0."),
    WORKER_START: _each("gauge", "When a worker started, in seconds since the epoch."),
}


def cells(bounds: Sequence[float]) -> list[float]:
    """Return the cells of an empty histogram; see `Snapshot`."""
    return [0] * (len(bounds) + 2)


def observe(histogram: list[float], bounds: Sequence[float], value: float) -> None:
    """Count `value`, which belongs to the first bound that is not below it."""
    histogram[bisect_left(bounds, value)] += 1
    histogram[-1] += value


class Metrics:
    """What one worker has counted since it started, and the clock that watches its event loop.

    The lists and dictionaries are for whoever counts to write into; `text_in` and the other three are histograms
    over SIZES, `round_trips` one over SECONDS, in cells as in `Snapshot`.
    """

    __slots__ = (
        "_durations",
        "_handle",
        "_lag",
        "_lags",
        "_loop",
        "_requests",
        "_sample_due",
        "_started_at",
        "binary_in",
        "binary_out",
        "closes",
        "connections",
        "dropped",
        "round_trips",
        "text_in",
        "text_out",
        "websockets",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count from now on, and look at how late `loop` is until `close()`."""
        self.text_in, self.text_out, self.binary_in, self.binary_out = (cells(SIZES) for _ in range(4))
        self.round_trips = cells(SECONDS)
        self.closes: dict[str, int] = {}
        self.connections = 0
        self.websockets = 0
        self.dropped = 0  # by sessions that have ended
        self._requests: dict[str, int] = {}
        self._durations: dict[str, list[float]] = {}
        self._lag = cells(SECONDS)
        self._lags: deque[float] = deque((0.0,), _SAMPLES)
        self._started_at = time()
        self._loop = loop
        self._watch()

    # For whoever counts

    def request(self, method: str, status: int, seconds: float) -> None:
        """An HTTP request has its answer, or none: 499."""
        group = f"{status // 100}xx"
        key = f"{method if method in _METHODS else 'other'},{status if status in _STATUSES else group}"
        self._requests[key] = self._requests.get(key, 0) + 1
        if group not in self._durations:
            self._durations[group] = cells(SECONDS)
        observe(self._durations[group], SECONDS, seconds)

    def closed(self, code: int, dropped: int) -> None:
        """A WebSocket has ended with `code`, and its client missed so many messages."""
        label = close_label(code)
        self.closes[label] = self.closes.get(label, 0) + 1
        self.dropped += dropped

    # The event loop's lag

    def _watch(self) -> None:
        self._sample_due = monotonic() + _SAMPLE_EVERY
        self._handle = self._loop.call_later(_SAMPLE_EVERY, self._sample)

    def _sample(self) -> None:
        lag = max(0.0, monotonic() - self._sample_due)
        observe(self._lag, SECONDS, lag)
        self._lags.append(lag)
        self._watch()

    def close(self) -> None:
        """Stop looking at the event loop."""
        self._handle.cancel()

    # What comes of it

    def snapshot(self) -> Snapshot:
        """Return what was counted, and what the worker is like; whoever knows the open connections adds them."""
        received = {"text": self.text_in, "binary": self.binary_in}
        sent = {"text": self.text_out, "binary": self.binary_out}
        directions = {"in": received, "out": sent}
        return {
            OPENED: {"http": self.connections, "websocket": self.websockets},
            RECEIVED: {kind: sum(sizes[:-1]) for kind, sizes in received.items()},
            SENT: {kind: sum(sizes[:-1]) for kind, sizes in sent.items()},
            RECEIVED_BYTES: {kind: sizes[-1] for kind, sizes in received.items()},
            SENT_BYTES: {kind: sizes[-1] for kind, sizes in sent.items()},
            MESSAGE_SIZES: {f"{way},{kind}": list(s) for way, each in directions.items() for kind, s in each.items()},
            CLOSES: dict(self.closes),
            ROUND_TRIPS: {"": list(self.round_trips)},
            DROPPED: {"": self.dropped},
            REQUESTS: dict(self._requests),
            DURATIONS: {group: list(seconds) for group, seconds in self._durations.items()},
            LAG: {"": list(self._lag)},
            WORKER_LAG: {"": max(*self._lags, monotonic() - self._sample_due)},
            WORKER_START: {"": self._started_at},
        }


def close_label(code: int) -> str:
    """Return what a close code is counted under: there are few of these, whatever peers and applications send."""
    if code in _CLOSE_CODES:
        return str(code)
    return {3: "3000-3999", 4: "4000-4999"}.get(code // 1000, "other")


# Several workers


def merge(snapshots: Iterable[Mapping[str, Mapping[str, Any]]]) -> Snapshot:
    """Return the sums of snapshots, without what only says something of a single worker.

    Gauges add up, too: for a worker that has ended pass `lasting()` of its last snapshot.
    """
    total: Snapshot = {}
    for snapshot in snapshots:
        for name, series in snapshot.items():
            family = FAMILIES.get(name)
            if family is not None and not family.per_worker:
                sums = total.setdefault(name, {})
                for labels, value in series.items():
                    sums[labels] = _add(sums[labels], value) if labels in sums else _add(value, 0)
    return total


def _add(first: Any, second: Any) -> Any:
    if isinstance(first, list):
        return [a + b for a, b in zip(first, second, strict=True)] if second else list(first)
    return first + second


def lasting(snapshot: Mapping[str, Mapping[str, Any]]) -> Snapshot:
    """Return what stays of a worker that has ended: its counters and histograms, not the state that it was in."""
    counted = merge([snapshot])
    return {name: series for name, series in counted.items() if FAMILIES[name].kind != "gauge"}


def _of_worker(snapshot: Mapping[str, Mapping[str, Any]]) -> Snapshot:
    """What the page says of one worker alone."""
    found: Snapshot = {name: dict(series) for name, series in snapshot.items() if name in _ONE_WORKERS}
    found[WORKER_OPEN] = dict(snapshot.get(OPEN, {}))
    found[WORKER_REQUESTS] = {"": _sum(snapshot, REQUESTS)}
    found[WORKER_MESSAGES] = {"in": _sum(snapshot, RECEIVED), "out": _sum(snapshot, SENT)}
    found[WORKER_BYTES] = {"in": _sum(snapshot, RECEIVED_BYTES), "out": _sum(snapshot, SENT_BYTES)}
    return found


_ONE_WORKERS = frozenset(name for name, family in FAMILIES.items() if family.per_worker)


def _sum(snapshot: Mapping[str, Mapping[str, Any]], name: str) -> float:
    return float(sum(snapshot.get(name, {}).values()))


# The page


def render(parts: Sequence[tuple[str, Snapshot]], accept: str = "") -> tuple[bytes, str]:
    """Return the page and its media type: Prometheus' text format, or OpenMetrics where `accept` asks for that.

    `parts` are the workers' names and snapshots; a part with an empty name counts in the sums only. Needs the
    library prometheus-client.
    """
    from prometheus_client.exposition import choose_encoder

    encoder, media_type = choose_encoder(accept)
    return encoder(_Collector(parts)), media_type


class _Collector:
    """What prometheus-client renders."""

    def __init__(self, parts: Sequence[tuple[str, Snapshot]]) -> None:
        total = merge(snapshot for _, snapshot in parts)
        workers = {name: _of_worker(snapshot) for name, snapshot in parts if name}
        total[WORKERS] = {"": len(workers)}
        total[INFO] = {__version__: 1}
        self._series: dict[str, list[tuple[list[str], Any]]] = {name: [] for name in FAMILIES}
        for name, series in total.items():
            self._series[name] += [(labels.split(","), value) for labels, value in series.items()]
        for worker, snapshot in workers.items():
            for name, series in snapshot.items():
                self._series[name] += [([worker, *labels.split(",")], value) for labels, value in series.items()]

    def collect(self) -> Iterator[Any]:
        """Every family, those without a value too."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        classes = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
        for name, family in FAMILIES.items():
            labels = ("worker", *family.labels) if family.per_worker else family.labels
            metric: Any = classes[family.kind](name, family.help, labels=labels)
            for values, value in self._series[name]:
                named = values[: len(labels)]  # without labels their text is empty, which splits into one
                if family.kind == "histogram":
                    metric.add_metric(named, _cumulative(family.bounds, value), value[-1])
                else:
                    metric.add_metric(named, value)
            yield metric


def _cumulative(bounds: Sequence[float], histogram: Sequence[float]) -> list[tuple[str, float]]:
    names = [*(f"{bound:.1f}" if bound == int(bound) else f"{bound:g}" for bound in bounds), "+Inf"]
    return list(zip(names, accumulate(histogram[:-1]), strict=True))
