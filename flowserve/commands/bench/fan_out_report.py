"""The report of `flowserve bench --topics`, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from flowserve.commands.bench.fan_out import FanOutPlan, FanOutResult
from flowserve.commands.bench.report import (
    connections_line,
    many,
    notes_of_connections,
    page,
    timings,
    traffic,
    used_cpu,
)
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
        "publishing_stopped": None if result.stop is None else asdict(result.stop),
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
        **timings(result.handshakes, totals.latencies),
    }


def as_text(endpoint: Endpoint, plan: FanOutPlan, result: FanOutResult) -> str:
    """Return the report as text: a table, the histogram of latencies, and notes."""
    totals, seconds = result.totals, result.seconds
    late = f"{totals.late:,} late (over {duration().show(plan.late)})"
    lines = [
        f"{endpoint.uri}: what is published to {one_line(plan.topic)}, {plan.rate:,} messages a second",
        "",
        connections_line(result, totals.ends),
        f"published    {result.published:,} messages, {result.published / seconds:,.0f}/s, in {seconds:.2f} s",
        *_early_end(plan, result),
        f"delivered    {traffic(totals.delivered, totals.received_bytes, seconds)}",
        f"             {result.lost:,} lost, {totals.doubled:,} doubled, {totals.swapped:,} swapped, {late}",
    ]
    return page(lines, result.handshakes, totals.latencies, _notes(plan, result))


def _early_end(plan: FanOutPlan, result: FanOutResult) -> list[str]:
    if result.stop is None:
        return []
    planned = "" if plan.planned is None else f" of {plan.planned:,}"
    after = f"{result.published:,}{planned} messages, at {result.stop.at:.2f} s"
    return [f"             publishing stopped after {after}: {one_line(result.stop.why)}"]


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
