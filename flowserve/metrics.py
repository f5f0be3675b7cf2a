"""The metrics of a worker, their sum over several workers, and their exposition for Prometheus.

Nothing here runs without --metrics. Counts per message go into plain lists; the library prometheus-client, an optional
dependency, only renders them.
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
"""A family's name -> its label values, joined with commas -> a number or a histogram's cells. Can be encoded as JSON.

The cells of a histogram are, for each bound, the number of values up to it and above the previous bound; then the
number of values above all bounds; then the sum of all values.
"""

SIZES = tuple(64 * 4**n for n in range(10))
"""Bounds of sizes, in bytes: 64 B to 16 MiB."""
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_SAMPLE_EVERY = 0.5
"""Seconds between samples of the event loop's lag."""
_SAMPLES = 20
"""Samples from which the largest lag is taken."""

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_STATUSES = frozenset((*map(int, HTTPStatus), 499))  # 499: the client left before there was a status
_CLOSE_CODES = frozenset((*range(1000, 1004), *range(1005, 1016)))  # the IANA registry


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family (https://prometheus.io/docs/concepts/data_model/)."""

    kind: str
    """'counter', 'gauge' or 'histogram'."""
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    """Of a histogram."""
    per_worker: bool = False
    """Whether it is exposed per worker, with another label `worker`, instead of summed over all workers."""


def _counter(help: str, *labels: str) -> Family:
    return Family("counter", help, labels)


def _gauge(help: str, *labels: str) -> Family:
    return Family("gauge", help, labels)


def _histogram(help: str, bounds: tuple[float, ...], *labels: str) -> Family:
    return Family("histogram", help, labels, bounds)


def _per_worker(kind: str, help: str, *labels: str) -> Family:
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
TOPICS_PUBLISHED = "flowserve_topics_published_total"
TOPICS_DELIVERED = "flowserve_topics_delivered_total"
TOPICS_DROPPED = "flowserve_topics_dropped_total"
TOPICS_GAPS = "flowserve_topics_gaps_total"
TOPICS_RESUMES = "flowserve_topics_resumes_total"
TOPICS_SUBSCRIBERS = "flowserve_topics_subscribers"
TOPICS_MEMBERS = "flowserve_topics_members"
TOPICS_MEMBER_CHANGES = "flowserve_topics_member_changes_total"
TOPICS_PRESENCE_MESSAGES = "flowserve_topics_presence_messages_total"
TOPICS_CLIENTS = "flowserve_topics_clients"
TOPICS_REQUESTS = "flowserve_topics_client_requests_total"
TOPICS_LAG = "flowserve_topics_backplane_lag_seconds"
TOPICS_RECONNECTS = "flowserve_topics_backplane_reconnects_total"
TOPICS_CONNECTED = "flowserve_topics_backplane_connected"
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
    TOPICS_PUBLISHED: _counter("Messages that the application published to topics.", "topic"),
    TOPICS_DELIVERED: _counter("Messages of topics to subscribers, each counted once a subscriber.", "topic"),
    TOPICS_DROPPED: _counter("Messages of topics that were dropped, counted once a slow subscriber.", "topic"),
    TOPICS_GAPS: _counter("Gaps in what subscribers got, counted once a subscriber.", "topic"),
    TOPICS_RESUMES: _counter(
        "Subscriptions from a position on, and whether nothing was missing.", "topic", "recovered"
    ),
    TOPICS_SUBSCRIBERS: _gauge("Subscriptions to topics.", "topic"),
    TOPICS_MEMBERS: _gauge("Connections that are members of topics.", "topic"),
    TOPICS_MEMBER_CHANGES: _counter("Connections that became members, left, or gave another info.", "topic", "change"),
    TOPICS_PRESENCE_MESSAGES: _counter("Messages about presence between processes.", "direction"),
    TOPICS_CLIENTS: _gauge("Clients that subscribe by themselves (topics.serve)."),
    TOPICS_REQUESTS: _counter("Requests of these clients, done (ok) or refused, and why.", "type", "result"),
    TOPICS_LAG: _histogram("Time from when a message got its place in a topic to its delivery in a worker.", SECONDS),
    TOPICS_RECONNECTS: _counter("Times that workers connected to the backplane of topics again."),
    TOPICS_CONNECTED: _per_worker("gauge", "1 while a worker is connected to the backplane of topics, else 0."),
    RESTARTS: _counter("Workers that were replaced, and why.", "reason"),
    WORKERS: _gauge("Worker processes that answer."),
    START: _gauge("When the server started, in seconds since the epoch."),
    INFO: _gauge("1, with the version of the server.", "version"),
    WORKER_OPEN: _per_worker("gauge", "Open connections of a worker.", "kind"),
    WORKER_REQUESTS: _per_worker("counter", "HTTP requests that a worker answered."),
    WORKER_MESSAGES: _per_worker("counter", "WebSocket messages of a worker.", "direction"),
    WORKER_BYTES: _per_worker("counter", "Payload of a worker's WebSocket messages, uncompressed.", "direction"),
    WORKER_LAG: _per_worker("gauge", "Largest lag of a worker's event loop in the last ten seconds."),
    WORKER_MEMORY: _per_worker("gauge", "Memory that a worker takes (RSS)."),
    WORKER_DRAINING: _per_worker("gauge", "1 while a worker drains, else 0."),
    WORKER_START: _per_worker("gauge", "When a worker started, in seconds since the epoch."),
}


def cells(bounds: Sequence[float]) -> list[float]:
    """Return the cells of an empty histogram; see `Snapshot`."""
    return [0] * (len(bounds) + 2)


def observe(histogram: list[float], bounds: Sequence[float], value: float) -> None:
    """Count `value` in the cell of the first bound that is not below it."""
    histogram[bisect_left(bounds, value)] += 1
    histogram[-1] += value


class Metrics:
    """The metrics of one worker since it started, with a timer that samples the lag of its event loop.

    Callers write directly into the public attributes. Histograms are lists of cells, as in `Snapshot`.
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
        """Sample the lag of `loop` until `close()`."""
        # histograms over SIZES, of WebSocket messages
        self.text_in, self.text_out, self.binary_in, self.binary_out = (cells(SIZES) for _ in range(4))
        self.round_trips = cells(SECONDS)  # histogram of keepalive pings
        self.closes: dict[str, int] = {}  # by `close_label()`
        self.connections = 0  # accepted so far
        self.websockets = 0  # opened so far
        self.dropped = 0  # messages, by sessions that have ended
        self._requests: dict[str, int] = {}
        self._durations: dict[str, list[float]] = {}
        self._lag = cells(SECONDS)
        self._lags: deque[float] = deque((0.0,), _SAMPLES)
        self._started_at = time()
        self._loop = loop
        self._watch()

    # Counting

    def request(self, method: str, status: int, seconds: float) -> None:
        """Count an HTTP request that took `seconds`; `status` is 499 if the client left before the response."""
        group = f"{status // 100}xx"
        key = f"{method if method in _METHODS else 'other'},{status if status in _STATUSES else group}"
        self._requests[key] = self._requests.get(key, 0) + 1
        if group not in self._durations:
            self._durations[group] = cells(SECONDS)
        observe(self._durations[group], SECONDS, seconds)

    def closed(self, code: int, dropped: int) -> None:
        """Count a WebSocket that has ended with `code`, for which `dropped` messages were dropped."""
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
        """Stop sampling the lag."""
        self._handle.cancel()

    # Reading

    def snapshot(self) -> Snapshot:
        """Return all counts and the state of the worker, except for its open connections, which the caller adds."""
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
    """Return the label under which a close code is counted. The number of labels is bounded, whatever codes peers and
    applications send."""
    if code in _CLOSE_CODES:
        return str(code)
    return {3: "3000-3999", 4: "4000-4999"}.get(code // 1000, "other")


# Several workers


def merge(snapshots: Iterable[Mapping[str, Mapping[str, Any]]]) -> Snapshot:
    """Return the sums of snapshots, without families that are `per_worker`.

    Gauges are summed too: for a worker that has ended, pass `without_gauges()` of its last snapshot.
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


def without_gauges(snapshot: Mapping[str, Mapping[str, Any]]) -> Snapshot:
    """Return the counters and histograms of a worker that has ended, without its gauges and `per_worker` families."""
    counted = merge([snapshot])
    return {name: series for name, series in counted.items() if FAMILIES[name].kind != "gauge"}


def _worker_series(snapshot: Mapping[str, Mapping[str, Any]]) -> Snapshot:
    """Return the `per_worker` series of one worker."""
    found: Snapshot = {name: dict(series) for name, series in snapshot.items() if name in _PER_WORKER}
    found[WORKER_OPEN] = dict(snapshot.get(OPEN, {}))
    found[WORKER_REQUESTS] = {"": _sum(snapshot, REQUESTS)}
    found[WORKER_MESSAGES] = {"in": _sum(snapshot, RECEIVED), "out": _sum(snapshot, SENT)}
    found[WORKER_BYTES] = {"in": _sum(snapshot, RECEIVED_BYTES), "out": _sum(snapshot, SENT_BYTES)}
    return found


_PER_WORKER = frozenset(name for name, family in FAMILIES.items() if family.per_worker)


def _sum(snapshot: Mapping[str, Mapping[str, Any]], name: str) -> float:
    return float(sum(snapshot.get(name, {}).values()))


# Exposition


def render(parts: Sequence[tuple[str, Snapshot]], accept: str = "") -> tuple[bytes, str]:
    """Return the exposition and its media type: Prometheus' text format, or OpenMetrics if `accept`, the value of an
    Accept field, prefers it.

    `parts` are names and snapshots of the workers; a part with an empty name is included in the sums only. Raises
    ImportError without the library prometheus-client.
    """
    from prometheus_client.exposition import choose_encoder

    encoder, media_type = choose_encoder(accept)
    return encoder(_Collector(parts)), media_type


class _Collector:
    """A collector for prometheus-client, which renders it."""

    def __init__(self, parts: Sequence[tuple[str, Snapshot]]) -> None:
        total = merge(snapshot for _, snapshot in parts)
        workers = {name: _worker_series(snapshot) for name, snapshot in parts if name}
        total[WORKERS] = {"": len(workers)}
        total[INFO] = {__version__: 1}
        self._series: dict[str, list[tuple[list[str], Any]]] = {name: [] for name in FAMILIES}
        for name, series in total.items():
            self._series[name] += [(labels.split(","), value) for labels, value in series.items()]
        for worker, snapshot in workers.items():
            for name, series in snapshot.items():
                self._series[name] += [([worker, *labels.split(",")], value) for labels, value in series.items()]

    def collect(self) -> Iterator[Any]:
        """Yield every family, including those without a value."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        classes = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
        for name, family in FAMILIES.items():
            labels = ("worker", *family.labels) if family.per_worker else family.labels
            metric: Any = classes[family.kind](name, family.help, labels=labels)
            for values, value in self._series[name]:
                named = values[: len(labels)]  # without labels, splitting the empty string gives one value
                if family.kind == "histogram":
                    metric.add_metric(named, _cumulative(family.bounds, value), value[-1])
                else:
                    metric.add_metric(named, value)
            yield metric


def _cumulative(bounds: Sequence[float], histogram: Sequence[float]) -> list[tuple[str, float]]:
    """Return the buckets as prometheus-client takes them: (upper bound, number of values up to it)."""
    names = [*(f"{bound:.1f}" if bound == int(bound) else f"{bound:g}" for bound in bounds), "+Inf"]
    return list(zip(names, accumulate(histogram[:-1]), strict=True))
