"""The report of `flowserve bench`, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

from flowserve.commands.bench.histogram import PRECISION, Histogram
from flowserve.commands.bench.load import ConnectionsResult, Plan, Result
from flowserve.commands.endpoint import Endpoint
from flowserve.config.kinds import duration
from flowserve.version import __version__

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
_BAR = 40
"""Width of the longest bar in columns."""
_EIGHTHS = " ▏▎▍▌▋▊▉"
_MAX_SHOWN = 60
"""Characters or bytes of a wrong echo to show."""
_BUSY = 0.9
"""Fraction of a CPU; above it the tool itself may limit the results."""


def figures(times: Histogram) -> dict[str, float | None]:
    """Return minimum, mean, quantiles and maximum of a histogram, in seconds."""
    quantiles = {name: times.quantile(part) for name, part in _QUANTILES.items()}
    return {"min": times.least, "mean": times.mean, **quantiles, "max": times.quantile(1.0)}


def as_json(endpoint: Endpoint, plan: Plan, result: Result) -> dict[str, Any]:
    """Return the report as a JSON object: times in seconds, sizes in bytes."""
    totals, seconds = result.totals, result.seconds
    return {
        "flowserve": __version__,
        "url": str(endpoint.uri),
        "size": plan.size,
        "in_flight": plan.in_flight,
        "binary": plan.binary,
        "rate": plan.rate,
        "seconds": result.seconds,
        "cpu_seconds": result.cpu,
        "connections": {
            "opened": result.opened,
            "failed": dict(result.failures),
            "closed": dict(totals.ends),
        },
        "messages": {
            "sent": result.sent,
            "received": totals.received,
            "echoed": totals.echoed,
            "wrong": totals.wrong,
            "unasked": totals.unasked,
            "missing": result.missing,
            "unsent": result.unsent,
        },
        "messages_per_second": totals.echoed / seconds,
        "bytes_per_second": totals.echoed * plan.size / seconds,
        "sent_per_second": result.sent / seconds,
        "sent_bytes_per_second": result.sent * plan.size / seconds,
        "received_per_second": totals.received / seconds,
        "received_bytes_per_second": totals.received_bytes / seconds,
        **timings(result.handshakes, totals.latencies),
    }


def timings(handshakes: Histogram, latencies: Histogram) -> dict[str, Any]:
    """Return the members of a JSON object that tell the times."""
    return {
        "handshake": figures(handshakes),
        "latency": figures(latencies),
        "precision": PRECISION,
        "histogram": [{"from": low, "to": high, "count": count} for low, high, count in latencies.rows()],
    }


def as_text(endpoint: Endpoint, plan: Plan, result: Result) -> str:
    """Return the report as text: a table, the histogram of latencies, and notes."""
    totals = result.totals
    kind = "binary" if plan.binary else "text"
    lines = [
        f"{endpoint.uri}: {kind} messages of {plan.size:,} bytes, {plan.in_flight:,} in flight on each connection",
        "",
        connections_line(result, totals.ends),
        f"sent         {traffic(result.sent, result.sent * plan.size, result.seconds)}, in {result.seconds:.2f} s",
        f"received     {traffic(totals.received, totals.received_bytes, result.seconds)}",
        f"echoes       {totals.echoed:,} right, {totals.wrong:,} wrong, {result.missing:,} missing;"
        f" {totals.unasked:,} other messages",
    ]
    return page(lines, result.handshakes, totals.latencies, _notes(plan, result))


def connections_line(result: ConnectionsResult, ends: Counter[str]) -> str:
    """Return the line that tells how many connections there were."""
    failed, closed = sum(result.failures.values()), sum(ends.values())
    return f"connections  {result.opened:,} opened, {failed:,} failed, {closed:,} closed by the server"


def page(lines: list[str], handshakes: Histogram, latencies: Histogram, notes: list[str]) -> str:
    """Return a report: some lines, the table of times, the histogram of latencies if there are some, and notes."""
    table = time_table({"handshake": handshakes, "latency": latencies})
    bars = ["", *chart(latencies)] if latencies.rows() else []
    return "\n".join([*lines, "", *table, *bars, *([""] if notes else []), *notes])


def traffic(messages: int, size: int, seconds: float) -> str:
    """Format messages, and their bytes, in some seconds."""
    return f"{messages:,} messages, {messages / seconds:,.0f}/s, {size / seconds / 1e6:,.2f} MB/s"


def time_table(histograms: dict[str, Histogram]) -> list[str]:
    """Return the lines of a table of times, a row for each histogram."""
    rows = [
        (name, {key: _format_time(value) for key, value in figures(each).items()}) for name, each in histograms.items()
    ]
    heading = " " * 11 + "".join(f"{key:>10}" for key in rows[0][1])
    return [heading, *(f"{name:<11}" + "".join(f"{value:>10}" for value in row.values()) for name, row in rows)]


def _format_time(seconds: float | None) -> str:
    """Format a time with about three digits: 85.3us, 1.24ms, 1.50s; - for None."""
    if seconds is None:
        return "-"
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            value = seconds * factor
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}{unit}"
    return f"{seconds:.2f}s"


def chart(times: Histogram) -> list[str]:
    """Return the lines of a bar chart of latencies, one for each of the histogram's `rows()`."""
    rows = times.rows()
    highest, total = max(count for *_, count in rows), sum(count for *_, count in rows)
    lines = ["latency up to         messages"]
    for _, high, count in rows:
        eighths = round(count / highest * _BAR * 8) if count else 0
        bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
        lines.append(
            f"{_bound(high):>13} {count:>12,} {100 * count / total:>6.2f}% {bar or ('▏' if count else '')}".rstrip()
        )
    return lines


def _bound(seconds: float) -> str:
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{seconds * factor:g} {unit}"
    return f"{seconds:g} s"


def _notes(plan: Plan, result: Result) -> list[str]:
    totals = result.totals
    notes = notes_of_connections(result.failures, totals.ends)
    if totals.example is not None:
        sent, got = totals.example
        first = f"{excerpt(got)} came, {excerpt(sent)} was sent"
        if totals.echoed:
            notes.append(f"the first wrong echo: {first}")
        else:
            notes.append(f"no answer was an echo, and the latencies are those of other answers; the first: {first}")
    if totals.unasked:
        notes.append(
            f"{many(totals.unasked, 'message')} answered nothing: the server passes on what one sends to all, or sends"
            " of its own accord"
        )
    if result.missing and result.timed_out:
        why = "" if totals.received else ": the server does not answer"
        limit = duration().show(plan.timeout)
        notes.append(f"{many(result.missing, 'echo', 'echoes')} did not come within --timeout {limit}{why}")
    elif result.missing:
        notes.append(f"{many(result.missing, 'echo', 'echoes')} did not come before the connection was closed")
    if result.unsent:
        notes.append(f"{result.unsent:,} messages were not sent in time: the server is slower than --rate")
    return notes + (used_cpu(result.cpu, result.seconds) if totals.answered else [])


def notes_of_connections(failures: Counter[str], ends: Counter[str]) -> list[str]:
    """Return why connections were not opened, and how they were closed."""
    notes = [f"{count:,} not opened: {why}" for why, count in failures.most_common(5)]
    return notes + [f"{count:,} closed: {how}" for how, count in ends.most_common(5)]


def used_cpu(cpu: float, seconds: float) -> list[str]:
    """Return a note if this program may have limited the results. `cpu` is the CPU time that it used."""
    if cpu <= _BUSY * seconds:
        return []
    return [f"this program used {100 * cpu / seconds:.0f} % of a CPU: the server may do more"]


def many(count: int, one: str, more: str = "") -> str:
    """Return a count with what is counted, in the singular or the plural."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def excerpt(message: str | bytes) -> str:
    """Return the beginning of a message, for a terminal."""
    shown = repr(message[:_MAX_SHOWN])  # repr() escapes control characters
    return shown + (f"... ({len(message):,})" if len(message) > _MAX_SHOWN else "")
