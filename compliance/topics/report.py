"""The outcome: a line each, a table, and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from compliance.topics.run import Outcome

HEAD = (
    "| scenario | subscribers | connections | published | raised, or local only | delivered | resumed in full / not "
    "| gaps told | longest delay, s | violations |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def line(one: Outcome) -> str:
    return (
        f"{one.scenario}: {one.published:,} published, {one.raised + one.local:,} raised or local, {one.delivered:,} "
        f"delivered, {one.recovered:,} resumed in full, {one.unrecovered:,} not, {one.gaps:,} gaps told, "
        f"delay {one.delay:.2f} s, {one.seconds:.0f} s: {one.count} violations"
        + "".join(f"; {note}" for note in one.notes)
    )


def row(one: Outcome) -> str:
    notes = "".join(f"; {note}" for note in one.notes if not note.startswith("logged:"))
    cells = (
        f"`{one.scenario}`: {one.about}{notes}",
        f"{one.subscribers:,}",
        f"{one.connections:,}",
        f"{one.published:,}",
        f"{one.raised + one.local:,}",
        f"{one.delivered:,}",
        f"{one.recovered:,} / {one.unrecovered:,}",
        f"{one.gaps:,}",
        f"{one.delay:.2f}",
        f"{one.count}",
    )
    return "| " + " | ".join(cells) + " |"


def write(directory: Path, outcomes: list[Outcome], left_out: list[str], version: str, date: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    document = {"flowserve": version, "date": date, "scenarios": [asdict(one) for one in outcomes]}
    (directory / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    about = f"Written by `python -m compliance.topics` on {date}, with {version}."
    rows = [row(one) for one in outcomes]
    notes = [f"Left out: {each}." for each in left_out]
    (directory / "results.md").write_text(
        "\n".join(["# Topics", "", about, "", HEAD, *rows, "", *notes]).rstrip() + "\n"
    )
