"""The outcome: a line each, a table, and JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from compliance.chaos.round import Outcome

HEAD = (
    "| configuration | connections | messages | faulty clients and applications | dropped, all counted | memory, MiB "
    "| violations | seconds |\n|---|--:|--:|--:|--:|--:|--:|--:|"
)


def line(one: Outcome) -> str:
    return (
        f"{one.configuration}: {one.connections:,} connections, {one.messages:,} messages, {one.faults:,} faults, "
        f"{one.dropped:,} dropped, memory {one.growth_kib / 1024:+.1f} MiB, {one.seconds:.0f} s: "
        f"{len(one.violations)} violations"
    )


def total(outcomes: list[Outcome]) -> Outcome:
    return Outcome(
        "all",
        outcomes[0].seed,
        sum(one.seconds for one in outcomes),
        sum(one.connections for one in outcomes),
        sum(one.messages for one in outcomes),
        sum(one.faults for one in outcomes),
        sum(one.dropped for one in outcomes),
        max(one.growth_kib for one in outcomes),
        violations=[violation for one in outcomes for violation in one.violations],
    )


def summary(outcomes: list[Outcome]) -> str:
    return line(total(outcomes)) + f" (--seed {outcomes[0].seed})"


def row(one: Outcome) -> str:
    cells = (one.connections, one.messages, one.faults, one.dropped)
    numbers = " | ".join(f"{cell:,}" for cell in cells)
    memory = f"{one.growth_kib / 1024:+.1f}"
    return f"| {one.configuration} | {numbers} | {memory} | {len(one.violations)} | {one.seconds:.0f} |"


def write(directory: Path, outcomes: list[Outcome], version: str, seed: str, date: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    document = {"flowserve": version, "date": date, "seed": seed, "configurations": [asdict(one) for one in outcomes]}
    (directory / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    about = f"Written by `python -m compliance.chaos --seed {seed}` on {date}, with {version}."
    rows = [*(row(one) for one in outcomes), row(total(outcomes))]
    closes = sum((Counter(one.closes) for one in outcomes), Counter())
    told = (
        "WebSockets by close code: " + ", ".join(f"{code}: {count:,}" for code, count in sorted(closes.items())) + "."
    )
    text = "\n".join(["# Chaos", "", about, "", HEAD, *rows, "", told, ""])
    (directory / "results.md").write_text(text)
