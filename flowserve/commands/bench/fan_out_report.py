"""The report of `flowserve bench --topics`, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

from flowserve.commands.bench.fan_out import FanOutPlan, FanOutResult
from flowserve.commands.bench.histogram import PRECISION
from flowserve.commands.bench.report import chart, figures, many, notes_of_connections, time_table, traffic, used_cpu
from flowserve.commands.endpoint import Endpoint, one_line
from flowserve.config.kinds import duration
from flowserve.version import __version__


def as_json(endpoint: Endpoint, plan: FanOutPlan, result: FanOutResult) -> dict[str, Any]:
    """Return the report as a JSON object: times in seconds, sizes in bytes."""
    totals = result.totals
    return {
        "flowserve": __version__,
        "url": str(endpoint.uri),
        "topic": plan.topic,
        "size": plan.size,
        "rate": plan.rate,
        "seconds": result.seconds,
        "cpu_seconds": result.cpu,
        "connections": {
            "opened": result.opened,
            "failed": dict(result.failures),
            "closed": dict(totals.ends),
            "not_subscribed": result.unsubscribed,
        },
        "published": result.published,
        "not_published": dict(result.unpublished),
        "unsent": result.unsent,
        "deliveries": {
            "delivered": totals.delivered,
            "late": totals.late,
            "lost": result.lost,
            "doubled": totals.doubled,
            "swapped": totals.swapped,
            "gaps": totals.gaps,
            "others": totals.others,
        },
        "published_per_second": result.published / result.seconds,
        "deliveries_per_second": totals.delivered / result.seconds,
        "received_bytes_per_second": totals.received_bytes / result.seconds,
        "handshake": figures(result.handshakes),
        "latency": figures(totals.latencies),
        "precision": PRECISION,
        "histogram": [{"from": low, "to": high, "count": count} for low, high, count in totals.latencies.rows()],
    }


def as_text(endpoint: Endpoint, plan: FanOutPlan, result: FanOutResult) -> str:
    """Return the report as text: a table, the histogram of latencies, and notes."""
    totals, seconds = result.totals, result.seconds
    failed, closed = sum(result.failures.values()), sum(totals.ends.values())
    late = f"{totals.late:,} late (over {duration().show(plan.late)})"
    lines = [
        f"{endpoint.uri}: what is published to {one_line(plan.topic)}, {plan.rate:,} messages a second",
        "",
        f"connections  {result.opened:,} opened, {failed:,} failed, {closed:,} closed by the server",
        f"published    {result.published:,} messages, {result.published / seconds:,.0f}/s, in {seconds:.2f} s",
        f"delivered    {traffic(totals.delivered, totals.received_bytes, seconds)}",
        f"             {result.lost:,} lost, {totals.doubled:,} doubled, {totals.swapped:,} swapped, {late}",
        "",
        *time_table({"handshake": result.handshakes, "latency": totals.latencies}),
    ]
    if totals.delivered:
        lines += ["", *chart(totals.latencies)]
    notes = _notes(plan, result)
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _notes(plan: FanOutPlan, result: FanOutResult) -> list[str]:
    totals = result.totals
    notes = notes_of_connections(result.failures, totals.ends)
    if result.unsubscribed:
        notes.append(f"{many(result.unsubscribed, 'connection')} had got nothing before it began")
    notes += _of_publishing(result.unpublished)
    if result.lost:
        limit = duration().show(plan.timeout)
        notes.append(f"{many(result.lost, 'delivery', 'deliveries')} had not come when nothing more came for {limit}")
    if totals.gaps:
        notes.append(f"clients were told {many(totals.gaps, 'time')} that messages are missing (gaps)")
    if totals.others:
        notes.append(f"{many(totals.others, 'other message')} came, as welcomes and answers")
    if result.unsent:
        notes.append(f"{many(result.unsent, 'message')} could not be published in time: lower --rate")
    if totals.delivered:
        notes += used_cpu(result.cpu, result.seconds)
    return notes


def _of_publishing(unpublished: Counter[str]) -> list[str]:
    return [f"{count:,} not published: {one_line(why)}" for why, count in unpublished.most_common(5)]
