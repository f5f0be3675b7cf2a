"""What may not be: things left behind, lines in the log that nobody asked for, ends that are told otherwise."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from compliance.chaos.peers import Record

MEMORY_KIB = 12 * 1024
"""What a worker's memory may grow by after the warm-up: the allocator's, which keeps what it had at a peak."""
OBJECTS = 300
"""Python objects: caches of the interpreter and of the application's libraries, and what a task of the loop holds."""
CACHED = {"flowserve.websocket.deflate.DeflateParameters": 64, "flowserve.websocket.deflate.Deflater": 8}
"""How many caches keep: one for each offer, or window, that they have met."""
COUNTS = ("calls", "hub", "tasks", "descriptors")
MARK = re.compile(r"chaos-[a-z0-9.]+")
EXPECTED = re.compile(r"Cutting \d+ ")
"""Of warnings: the responses that are streamed at the end do not end by themselves."""
LAST = "chaos-e"
"""Marks of the last crowd begin so: what it made the application raise after the last figures is not known."""


CLIENTS = 24
"""At a time; as many as may do what no figures tell any more."""


class Lost(Exception):
    """The server does not answer."""


def left_behind(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What a worker has more than before."""
    found = [f"{name}: {after[name]}, {before[name]} before" for name in COUNTS if after[name] > before[name]]
    kinds = Counter(after["kinds"])
    kinds.subtract(before["kinds"])
    found += [f"{count} more of {kind}" for kind, count in sorted(kinds.items()) if count > CACHED.get(kind, 0)]
    if after["objects"] > before["objects"] + OBJECTS + len(after["raised"]):
        found.append(f"objects: {after['objects']}, {before['objects']} before")
    return found


def grown(growth_kib: int, workers: int) -> list[str]:
    allowed = MEMORY_KIB * workers
    return [f"memory: {growth_kib} KiB more than after the warm-up"] if growth_kib > allowed else []


class Log:
    """What the server has written: access lines by identity, errors by mark, and all that fits nowhere."""

    def __init__(self, path: Path) -> None:
        self.access: dict[str, list[dict[str, Any]]] = {}
        self.marks: Counter[str] = Counter()
        self.silent_returns = 0
        self.strange: list[str] = []
        for line in path.read_text(errors="replace").splitlines():
            self.add(line)

    def closes(self) -> dict[int, int]:
        """How many WebSockets ended with each code."""
        lines = (line for lines in self.access.values() for line in lines if line["event"] == "close")
        return dict(sorted(Counter(line["close_code"] for line in lines).items()))

    def add(self, line: str) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            self.strange.append(f"no line of the log's: {line[:300]}")
            return
        if entry["logger"] == "flowserve.access":
            parts = entry["path"].split("/")
            if len(parts) == 3:
                self.access.setdefault(parts[2], []).append(entry)
        elif entry["level"] in ("WARNING", "ERROR", "CRITICAL"):
            self.add_error(entry)

    def add_error(self, entry: dict[str, Any]) -> None:
        message, trace = entry["message"], entry.get("exception", "")
        marks = set(MARK.findall(trace))
        if message == "Exception in the application" and len(marks) == 1:
            self.marks[marks.pop()] += 1
        elif message == "The application returned without accepting or denying the WebSocket":
            self.silent_returns += 1
        elif not EXPECTED.match(message):
            self.strange.append(f"in the log: {message} {trace[-600:]}")


def judge(records: list[Record], figures: list[dict[str, Any]], log: Log) -> list[str]:
    """The violations of a whole run, those that the clients saw first."""
    found = [violation for record in records for violation in record.violations]
    for one in figures:
        found += one["wrong"]
    found += judge_errors(figures, log)
    for record in records:
        about = f"{record.identity} ({record.behaviour}, {record.fault})"
        found += [f"{about}: {what}" for what in judge_access(record, log)]
    return found


def judge_errors(figures: list[dict[str, Any]], log: Log) -> list[str]:
    """Each error that the application raised is in the log once, and nothing else is."""
    raised = Counter(mark for one in figures for mark in one["raised"])
    found = [f"raised, and {log.marks[mark]} times in the log: {mark}" for mark in raised if log.marks[mark] != 1]
    found += [
        f"in the log, and not raised: {mark}" for mark in log.marks if mark not in raised and not mark.startswith(LAST)
    ]
    returns = sum(one["silent_returns"] for one in figures)
    if not returns <= log.silent_returns <= returns + CLIENTS:
        found.append(f"{log.silent_returns} WebSockets neither accepted nor denied in the log, not {returns}")
    return found + log.strange


def judge_access(record: Record, log: Log) -> list[str]:
    """What the access lines say of one client."""
    found: list[str] = []
    for identity, statuses in record.requests.items():
        lines = [line for line in log.access.get(identity, []) if line["kind"] == "http"]
        if len(lines) > 1:
            found.append(f"{len(lines)} access lines of {identity}")
        found += [f"status {line['status']}, not {statuses}" for line in lines if line["status"] not in statuses]
        if not lines and not statuses & {499}:
            found.append(f"no access line of {identity}")
    lines = [line for line in log.access.get(record.identity, []) if line["kind"] == "websocket"]
    if lines or (record.codes and not record.requests):
        found += judge_websocket(record, lines)
    return found


def judge_websocket(record: Record, lines: list[dict[str, Any]]) -> list[str]:
    events = [line["event"] for line in lines]
    if events != ["open", "close"]:
        return [f"access lines {events}"]
    end = lines[1]
    found = []
    if record.codes and end["close_code"] not in record.codes:
        found.append(f"the server says it ended with {end['close_code']}, not {record.codes}")
    wanted = {"messages_in": record.sent, "messages_out": record.received, "dropped": record.missing}
    for name, value in wanted.items():
        exact = value is not None and (name != "dropped" or record.received is not None)
        if exact and (end.get(name) or 0) != value:
            found.append(f"the server says {name} {end.get(name)}, not {value}")
    return found
