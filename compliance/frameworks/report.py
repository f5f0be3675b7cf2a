"""The outcome as a table: Markdown and JSON."""

from __future__ import annotations

from typing import Any

from compliance.frameworks.launch import SERVERS

QUIET = "quiet log: "
Outcome = dict[str, str]
"""Check -> 'ok', or why it failed."""


def entry(name: str, versions: dict[str, str], outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """One row: every check that ran on either server, with what came of it on both."""
    checks = dict.fromkeys(check for outcome in outcomes.values() for check in outcome)
    rows = [{"check": check, **{name: came_of(check, one) for name, one in outcomes.items()}} for check in checks]
    return {"row": name, "versions": versions, "checks": rows}


def came_of(check: str, outcome: Outcome) -> str:
    """Noise in the log is noted only where there was some, in a check that passed."""
    return outcome.get(check, "ok" if outcome.get(check.removeprefix(QUIET)) == "ok" else "not run")


def behind(entries: list[dict[str, Any]]) -> list[str]:
    """The checks that uvicorn passes and flowserve fails."""
    return [
        f"{entry['row']}: {check['check']}: {check['flowserve']}"
        for entry in entries
        for check in entry["checks"]
        if check.get("uvicorn") == "ok" != check.get("flowserve", "ok")
    ]


def markdown(entries: list[dict[str, Any]]) -> str:
    """A line for each row, and below it every check that either server failed."""
    lines = ["| row | with | " + " | ".join(SERVERS) + " |", "|---|---|" + "--:|" * len(SERVERS)]
    for one in entries:
        with_ = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
        lines.append(f"| {one['row']} | {with_} | " + " | ".join(passed(one, server) for server in SERVERS) + " |")
    failures = [(one["row"], check) for one in entries for check in one["checks"] if set(outcomes(check)) != {"ok"}]
    if failures:
        lines += ["", "What failed on either server:", "", "| row | check | " + " | ".join(SERVERS) + " |"]
        lines.append("|---|---|" + "---|" * len(SERVERS))
        lines += [f"| {row} | {one['check']} | {' | '.join(map(cell, outcomes(one)))} |" for row, one in failures]
    return "\n".join(lines) + "\n"


def outcomes(check: dict[str, str]) -> list[str]:
    return [check[server] for server in SERVERS if server in check]


def passed(entry: dict[str, Any], server: str) -> str:
    seen = [check[server] for check in entry["checks"] if server in check]
    return f"{seen.count('ok')} of {len(seen)}" if seen else "not run"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
