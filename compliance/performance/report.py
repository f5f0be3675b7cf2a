"""Results as ratios, as a table, as JSON. A result is what load.py measured in one round of one case on one server."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from compliance._servers import cache_dir
from compliance.performance.cases import CASES

Rounds = list[dict[str, Any]]
Results = dict[str, dict[str, Rounds]]  # case -> server -> rounds, each {"round": n, "value": ..., ...}


def middle(rounds: Rounds, key: str) -> float | None:
    """The median of a figure over the rounds that have it."""
    values = [one[key] for one in rounds if key in one]
    return median(values) if values else None


def ratio(rounds: Rounds, base: Rounds, key: str = "value") -> float | None:
    """The median over the rounds of a figure relative to `base` in the same round, so that a slow minute hits both."""
    bases = {one["round"]: one[key] for one in base if key in one}
    pairs = [one[key] / bases[one["round"]] for one in rounds if key in one and bases.get(one["round"])]
    return median(pairs) if pairs else None


def summarise(results: Results) -> dict[str, dict[str, dict[str, float | str | None]]]:
    """Case -> server -> the medians and the ratios."""
    summary: dict[str, dict[str, dict[str, float | str | None]]] = {}
    for case, servers in results.items():
        summary[case] = {}
        for server, rounds in servers.items():
            row: dict[str, float | str | None] = {
                key: middle(rounds, key)
                for key in ("value", "per_second", "busy", "p50", "p99", "p99_9", "memory_kib", "bytes_out")
            }
            row["to_uvicorn"] = ratio(rounds, servers.get("uvicorn", []))
            row["to_floor"] = ratio(rounds, servers.get("floor", []))
            row["error"] = next((one["error"] for one in rounds if "error" in one), None)
            summary[case][server] = row
    return summary


def conclude(
    results: Results,
    promises: list[tuple[str, bool]],
    notes: list[str],
    output: Path | None,
    name: str,
    about: dict[str, Any],
) -> Path:
    """Print what the figures say of the promises, and write them with `about` as the file `name`; return its folder."""
    if promises:
        print("\nPromises")
    for text, kept in promises:
        print(f"  {'kept  ' if kept else 'BROKEN'}  {text}")
    for note in notes:
        print(f"note: {note}")
    output = output or cache_dir("performance") / "results"
    output.mkdir(parents=True, exist_ok=True)
    (output / name).write_text(json.dumps({**about, "rounds": results}, indent=1) + "\n")
    print(f"{name} is in {output}")
    return output


def number(value: Any, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def brief(error: Any) -> str:
    """What went wrong, and the last line that the server said. results.json has all of it."""
    lines = str(error).splitlines()
    return lines[0] if len(lines) == 1 else f"{lines[0]}: {lines[-1].strip()}"


def table(results: Results) -> str:
    """One block a case."""
    lines: list[str] = []
    for name, servers in summarise(results).items():
        case = CASES[name]
        lines.append(f"\n{name}: {case.title}")
        lines.append(
            f"  {'server':<19}{'CPU ' + case.unit if case.unit == 'µs' else case.unit:>10}{'/uvicorn':>10}{'/floor':>8}"
            f"{'per second':>12}{'busy':>6}{'p50 µs':>9}{'p99 µs':>9}{'p99.9 µs':>10}{'MiB':>7}"
        )
        for server, row in servers.items():
            if row["value"] is None:
                lines.append(f"  {server:<19}{'failed':>10}  {brief(row['error'])}")
                continue
            memory = row["memory_kib"]
            lines.append(
                f"  {server:<19}{number(row['value']):>10}{number(row['to_uvicorn']):>10}{number(row['to_floor']):>8}"
                f"{number(row['per_second'], 0):>12}{number(row['busy']):>6}{number(row['p50'], 0):>9}"
                f"{number(row['p99'], 0):>9}{number(row['p99_9'], 0):>10}"
                f"{number(memory / 1024 if isinstance(memory, float | int) else None, 0):>7}"
            )
            if isinstance(row["bytes_out"], float):
                lines[-1] += (
                    f"   {row['bytes_out']:.0f} B a message sent, {row['bytes_out'] / case.size:.3f} of its size"
                )
            if row["error"]:
                lines.append(f"    in one of the rounds: {brief(row['error'])}")
    return "\n".join(lines)
