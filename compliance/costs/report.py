"""The outcome as a table: Markdown and JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from compliance.costs.measure import Cost
from compliance.costs.pattern import Limits, Pattern

HEAD = (
    "| pattern | sent | closed | CPU ms | ns a byte | us a unit | longest turn, ms | peak MiB | after MiB | |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|"
)


@dataclass
class Row:
    """A pattern, what it cost, and which limits that is over."""

    pattern: Pattern
    cost: Cost
    faults: list[str]


def line(row: Row) -> str:
    cost = row.cost
    sent = f"{cost.sent / 1e3:,.0f} KB" if cost.sent < 1e7 else f"{cost.sent / 1e6:,.0f} MB"
    figures = f"{cost.cpu * 1e3:.0f} | {cost.ns_per_byte:,.1f} | {cost.cpu * 1e6 / cost.units:,.1f}"
    memory = f"{cost.peak_kib / 1024:.1f} | {cost.after_kib / 1024:.1f}"
    verdict = "; ".join(row.faults) or "ok"
    cells = (
        row.pattern.name,
        f"{cost.units:,} {row.pattern.unit}s, {sent}",
        f"{cost.closed} of {cost.connections}",
        figures,
        f"{cost.hold_ms:.1f}",
        memory,
        verdict,
    )
    return f"| {' | '.join(cells)} |"


def markdown(rows: Iterable[Row]) -> str:
    return "\n".join([HEAD, *map(line, rows)]) + "\n"


def limits_table(patterns: Iterable[Pattern]) -> str:
    """What each class may cost, and why."""
    classes = dict.fromkeys(pattern.limits for pattern in patterns)
    lines = [
        "| class | ns a byte | us a connection | MiB, and bytes a byte, KiB a connection | longest turn, ms | why |",
        "|---|--:|--:|--:|--:|---|",
    ]
    lines += [_class(one) for one in classes]
    return "\n".join(lines) + "\n"


def _class(one: Limits) -> str:
    memory = f"{one.memory_mib:g}, {one.memory_per_byte:g}, {one.memory_kib_per_connection:g}"
    return (
        f"| {one.name} | {one.ns_per_byte:,g} | {one.us_per_connection:,g} | {memory} | {one.hold_ms:g} | {one.why} |"
    )


def entry(row: Row) -> dict[str, Any]:
    return {
        "pattern": row.pattern.name,
        "class": row.pattern.limits.name,
        **asdict(row.cost),
        "hold_limit_ms": row.pattern.limits.hold_ms,
        "faults": row.faults,
    }
