"""The checker: holds what subscribers got against the promise of topics, message by message.

Each subscriber has a View of each of its topics: the Entry it has to get the next message after. An entry is known by
its position, and has one predecessor, which all views share: the one total order. A view may go on elsewhere only where
it was told of a gap. And it has to be told of one after a message that reached one machine alone, and not this view.
"""

from __future__ import annotations

import json
import time
from typing import Any

MOST_VIOLATIONS = 50
"""That are kept as text; all are counted."""


class Entry:
    """One place in a topic, and the message there, once somebody got it."""

    __slots__ = ("before", "data", "epoch", "offset", "position", "sent", "topic")

    def __init__(self, topic: str, position: str) -> None:
        self.topic = topic
        self.position = position
        epoch, offset, _ = position.split(".")
        self.epoch = epoch
        self.offset = int(offset, 16)
        self.before: Entry | None = None
        self.data: tuple[int, int] | None = None  # publisher and number
        self.sent = 0.0  # when its publisher began to publish it

    def __str__(self) -> str:
        return f"{self.epoch}.{self.offset}"


class View:
    """What one subscriber knows of one topic. `last` is None before the first subscription and after a gap without a
    position."""

    __slots__ = ("asked", "gaps", "last", "local", "name", "passed", "told_at", "topic")

    def __init__(self, name: str, topic: str) -> None:
        self.name = name
        self.topic = topic
        self.last: Entry | None = None
        self.passed: Entry | None = None  # the last message before a gap without a position
        self.local: set[tuple[int, int]] = set()  # messages without a position
        self.asked: str | None = None  # the position that it last wanted to resume from
        self.gaps = 0  # told since then
        self.told_at = 0.0  # when it was told of a gap, the last time

    @property
    def since(self) -> str | None:
        """The position to resume from."""
        at = self.last or self.passed
        return None if at is None else at.position

    def has_reached(self, end: str) -> bool:
        """Whether it is at a position, or behind it, as it was told of a gap since."""
        at = self.last or self.passed
        if at is None or not end:
            return False
        epoch, offset, _ = end.split(".")
        return at.position == end or (at.epoch == epoch and at.offset > int(offset, 16))

    def resume(self) -> str | None:
        """Note that a connection begins; return the position to give as `since`."""
        self.asked, self.gaps = self.since, 0
        return self.asked


class Checker:
    """Everything that was published and delivered in one scenario."""

    def __init__(self, *, complete: bool = True, rolls_back: bool = False, forgets: bool = False) -> None:
        """`complete`: the history has everything, so that no gap may be told. `rolls_back`: the store may lose its end,
        so that a gap may go back, and a key be forgotten. `forgets`: a worker may be killed before it has told others
        what reached it alone."""
        self.complete = complete
        self.rolls_back = rolls_back
        self.forgets = forgets
        self.violations: list[str] = []
        self.count = 0  # of violations
        self.delivered = self.local = self.gaps = self.needless = self.recovered = self.unrecovered = 0
        self.positions: dict[tuple[int, int], str] = {}  # by message: the outcome of its publish()
        self.raised: set[tuple[int, int]] = set()
        self._entries: dict[tuple[str, str], Entry] = {}
        self._alone: dict[str, list[tuple[float, tuple[int, int]]]] = {}  # by topic: when it was sent, and the message

    def violation(self, text: str) -> None:
        self.count += 1
        if self.count <= MOST_VIOLATIONS:
            self.violations.append(text)

    def entry(self, topic: str, position: str) -> Entry:
        """The entry at a position, which may be known from elsewhere."""
        found = self._entries.get((topic, position))
        if found is None:
            found = self._entries[topic, position] = Entry(topic, position)
        return found

    def message(self, frame: dict[str, Any]) -> Entry | None:
        """The entry of a message that was delivered, None for one without a position."""
        publisher, number, sent = frame["data"][:3]
        if frame["position"] is None:
            return None
        entry = self.entry(frame["topic"], frame["position"])
        if entry.data is not None and entry.data != (publisher, number):
            self.violation(f"{entry.topic} {entry}: message {entry.data}, elsewhere {(publisher, number)}")
        entry.data, entry.sent = (publisher, number), sent
        return entry

    # What a subscriber gets, in the order in which it came

    def got(self, view: View, entry: Entry) -> None:
        """A message with a position."""
        self.delivered += 1
        last = view.last
        if last is not entry.before or last is None:
            self._unusual(view, entry)
        view.last = entry

    def _unusual(self, view: View, entry: Entry) -> None:
        """A message that is the first one seen after its predecessor, or out of place."""
        last = view.last
        if last is None:
            passed = view.passed
            if passed is None:
                self.violation(f"{view.name}: {entry} came before the subscription")
            elif (entry is passed or _is_before(entry, passed)) and not self.rolls_back:
                self.violation(f"{view.name}: {entry} came again, after {passed} and a gap")
        elif last.epoch != entry.epoch or entry.offset != last.offset + 1:
            kind = "lost" if last.epoch != entry.epoch or entry.offset > last.offset else "doubled or swapped"
            self.violation(f"{view.name}: {kind}: {entry} came after {last}")
        elif entry.before is None:
            entry.before = last
        else:
            self.violation(f"{view.name}: {entry} came after {last.position}, elsewhere after {entry.before.position}")

    def got_local(self, view: View, data: tuple[int, int]) -> None:
        """A message without a position, which reached only one machine."""
        self.local += 1
        if data in view.local:
            self.violation(f"{view.name}: doubled: {data}, which has no position")
        view.local.add(data)

    def told_gap(self, view: View, position: str | None) -> None:
        """Messages are missing; the next one comes after `position`."""
        self.gaps += 1
        view.gaps += 1
        view.told_at = time.monotonic()
        at = view.last or view.passed
        if self.complete:
            self.violation(f"{view.name}: a gap after {at}, though the history has everything")
        view.passed, view.last = at, None
        if position is not None:
            view.last = self.entry(view.topic, position)
            if view.last is at:
                self.needless += 1
            elif (
                at is not None and at.epoch == view.last.epoch and at.offset > view.last.offset and not self.rolls_back
            ):
                self.violation(f"{view.name}: the gap after {at} goes back to {view.last}")

    def subscribed(self, view: View, position: str, recovered: bool | None) -> None:
        """The answer of subscribe(); `recovered` is None without a position to resume from."""
        if view.asked is None:
            if view.last is None:
                view.last = self.entry(view.topic, position)
            return
        if recovered is None or recovered == bool(view.gaps):
            told = f"{view.gaps} gaps were told"
            self.violation(f"{view.name}: recovered is {recovered} after {view.asked}, but {told}")
        self.recovered += bool(recovered)
        self.unrecovered += not recovered

    # What publishers are told

    def published(self, topic: str, data: tuple[int, int], position: str, began: float) -> None:
        """The outcome of publish(), which was called at `began`."""
        self.positions[data] = position
        if not position:
            self._alone.setdefault(topic, []).append((began, data))

    def is_told(self, view: View) -> bool:
        """Whether a subscriber was told of a gap after each message that reached one machine alone, and not him."""
        missed = next((began for began, data in reversed(self._alone.get(view.topic, [])) if data not in view.local), 0)
        return self.forgets or not missed or view.told_at > missed

    # At the end

    def finish(self, views: list[View], ends: dict[str, str]) -> None:
        """Compare what publishers were told with what came; `ends` has the position of each topic's last message."""
        for view in views:
            if not self.is_told(view):
                self.violation(f"{view.name}: a message reached another machine alone, and no gap was told after it")
            if not view.has_reached(ends[view.topic]):
                self.violation(f"{view.name}: lost: got {view.last or view.passed} last, not {ends[view.topic]}")
        seen: dict[tuple[str, tuple[int, int]], Entry] = {}
        for entry in self._entries.values():
            if entry.data is None:
                continue
            other = seen.setdefault((entry.topic, entry.data), entry)
            if other is not entry and not self.rolls_back:
                self.violation(f"{entry.topic}: message {entry.data} is at {other} and at {entry}")
            told = self.positions.get(entry.data)
            if told is None and entry.data not in self.raised:
                self.violation(f"{entry.topic}: message {entry.data} at {entry} was never published")
            elif told is not None and told != entry.position and not self.rolls_back:
                told = told or "that it reached one machine alone"
                self.violation(f"{entry.topic}: message {entry.data} came as {entry}, its publisher was told {told}")
        if self.complete:
            missing = set(self.positions) - {data for _, data in seen}
            for data in sorted(data for data in missing if self.positions[data]):
                self.violation(f"message {data} was published at {self.positions[data]}, and nobody got it")
        self._check_publishers()

    def _check_publishers(self) -> None:
        """Hold that those who wait for each publish() have their messages in this order."""
        last: dict[tuple[str, int], tuple[int, Entry]] = {}
        entries = [entry for entry in self._entries.values() if entry.data in self.positions]
        for entry in sorted(entries, key=lambda entry: entry.data or (0, 0)):
            publisher, number = entry.data or (0, 0)
            before, earlier = last.get((entry.topic, publisher), (number, entry))
            if before < number and _is_before(entry, earlier) and not self.rolls_back:
                self.violation(f"{entry.topic}: {publisher}'s message {number} is before its message {before}")
            last[entry.topic, publisher] = number, entry


def _is_before(one: Entry, other: Entry) -> bool:
    return one.epoch == other.epoch and one.offset < other.offset


def parse(payload: bytes) -> dict[str, Any]:
    """A frame of the application's."""
    found: dict[str, Any] = json.loads(payload)
    return found
