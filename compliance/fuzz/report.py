"""Results that add up over runs: results.json, and the same as a table."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from compliance.fuzz import corpus
from compliance.fuzz.slices import Slice

Row = dict[str, Any]
"""What a target has come to: executions, cpu (seconds), compared, edges, features, inputs."""
_SUMMED, _LARGEST = ("executions", "cpu", "compared"), ("edges", "features", "inputs")
_ABOUT_FINDINGS = (
    "Findings are the inputs that ever broke what must hold, or that another implementation read otherwise, mostly for"
    " a reason\nthat is a rule of the comparison now. The tests replay them all."
)


def added(slices: Iterable[Slice], rows: dict[str, Row] | None = None) -> dict[str, Row]:
    """Rows by target, with the slices added to those that are there."""
    found = {name: dict(row) for name, row in (rows or {}).items()}
    for each in slices:
        row = found.setdefault(each.name, dict.fromkeys((*_SUMMED, *_LARGEST), 0))
        row.update({key: row[key] + getattr(each, key) for key in _SUMMED})
        row.update({key: max(row[key], getattr(each, key)) for key in _LARGEST})
        row["cpu"] = round(row["cpu"], 1)
    return dict(sorted(found.items()))


def add(directory: Path, one: Slice, version: str) -> None:
    """Add a slice to the results in `directory`."""
    path = directory / "results.json"
    before = json.loads(path.read_text())["targets"] if path.exists() else {}
    rows = added([one], before)
    directory.mkdir(parents=True, exist_ok=True)
    document = {"flowserve": version, "date": time.strftime("%Y-%m-%d"), "targets": rows}
    path.write_text(json.dumps(document, indent=1) + "\n")
    about = f"Added up by `python -m compliance.fuzz --output compliance/fuzz`, last on {document['date']},"
    about += f" with {version}.\n\n{_ABOUT_FINDINGS}"
    (directory / "results.md").write_text(f"# Fuzzing\n\n{about}\n\n{table(rows)}")


def table(rows: dict[str, Row]) -> str:
    """A line for each target. `findings` counts the inputs that ever found something; the tests replay them."""
    lines = ["| target | executions | CPU hours | compared with others | edges | features | inputs | findings |"]
    lines.append("|---|" + "--:|" * 7)
    for name, row in rows.items():
        findings = len(corpus.read(corpus.FAILED / f"{name}.txt"))
        counts = [row["executions"], f"{row['cpu'] / 3600:.3f}", row["compared"], *(row[key] for key in _LARGEST)]
        lines.append(f"| {name} | {' | '.join(map(_number, [*counts, findings]))} |")
    total = [sum(row["executions"] for row in rows.values()), f"{sum(row['cpu'] for row in rows.values()) / 3600:.3f}"]
    lines.append(f"| all | {' | '.join(map(_number, total))} | | | | | |")
    return "\n".join(lines) + "\n"


def _number(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value
