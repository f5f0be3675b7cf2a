"""The checker of compliance.topics sees each way in which a message can be lost, doubled or swapped."""

from __future__ import annotations

import pytest

from compliance.topics.checker import Checker, View


class Played:
    """Two subscribers of one topic, to which the messages 1 to 5 are published."""

    def __init__(self, *, complete: bool = True, rolls_back: bool = False) -> None:
        self.checker = Checker(complete=complete, rolls_back=rolls_back)
        self.views = [View(name, "t") for name in ("first", "second")]
        for view in self.views:
            view.resume()
            self.checker.subscribed(view, at(0), None)
        self.checker.positions = {(1, number): at(number) for number in range(1, 6)}

    def get(self, view: View, *items: int | str) -> None:
        """Deliver messages by number; "gap N" is a gap up to N, "resume" and "recovered" begin a connection."""
        for item in items:
            if isinstance(item, int):
                self.deliver(view, at(item), item)
            elif item.startswith("gap"):
                self.checker.told_gap(view, at(int(item[4:])) if item[4:] else None)
            elif item == "resume":
                view.resume()
            else:
                self.checker.subscribed(view, "", item == "recovered")

    def deliver(self, view: View, position: str, number: int) -> None:
        entry = self.checker.message({"topic": "t", "position": position, "data": [1, number, 0.0]})
        assert entry is not None
        self.checker.got(view, entry)

    def verdict(self) -> str:
        self.checker.finish(self.views, {"t": at(5)})
        return " ".join(self.checker.violations)


def at(offset: int) -> str:
    """A position."""
    return f"e.{offset:x}.c{offset}"


@pytest.mark.parametrize(
    "items",
    [
        (1, 2, 3, 4, 5),
        (1, 2, "resume", 3, 4, "recovered", 5),
        (1, 2, "resume", "recovered", 3, 4, 5),
    ],
)
def test_each_message_once_is_right(items: tuple[int | str, ...]) -> None:
    played = Played()
    played.get(played.views[0], 1, 2, 3, 4, 5)
    played.get(played.views[1], *items)
    assert played.verdict() == ""


@pytest.mark.parametrize("items", [(1, "gap 3", 4, 5), (1, "gap", 4, 5), (1, "resume", "gap 3", "not", 4, 5)])
def test_a_gap_that_is_told_is_right_where_the_history_is_short(items: tuple[int | str, ...]) -> None:
    for complete, violation in ((False, ""), (True, "though the history has everything")):
        played = Played(complete=complete)
        played.get(played.views[0], 1, 2, 3, 4, 5)
        played.get(played.views[1], *items)
        assert violation in (verdict := played.verdict())
        assert bool(verdict) == complete


@pytest.mark.parametrize(
    ("items", "violation"),
    [
        ((1, 2, 4, 5), "lost: e.4 came after e.2"),
        ((2, 3, 4, 5), "lost: e.2 came after e.0"),
        ((1, 2, 3, 4), "second: lost: got e.4 last"),
        ((1, 2, 2, 3, 4, 5), "doubled or swapped: e.2 came after e.2"),
        ((1, 3, 2, 4, 5), "doubled or swapped: e.2 came after e.3"),
        ((1, 2, "resume", 2, "recovered", 3, 4, 5), "doubled or swapped: e.2 came after e.2"),
        ((1, "resume", "recovered", 3, 4, 5), "lost: e.3 came after e.1"),
        ((1, "gap 2", 4, 5), "lost: e.4 came after e.2"),
        ((1, 2, 3, "gap 1", 2, 3, 4, 5), "goes back"),
        ((1, 2, 3, "gap", 3, 4, 5), "came again"),
        ((1, "resume", "gap 2", "recovered", 3, 4, 5), "recovered is True"),
        ((1, 2, "resume", "not", 3, 4, 5), "recovered is False"),
    ],
)
def test_a_message_lost_doubled_or_swapped_is_seen(items: tuple[int | str, ...], violation: str) -> None:
    played = Played(complete=False)
    played.get(played.views[0], 1, 2, 3, 4, 5)
    played.get(played.views[1], *items)
    assert violation in played.verdict()


def test_a_message_that_reached_another_machine_alone_is_followed_by_a_gap() -> None:
    """Published as number 6 before a gap; the first subscriber got it, or was told after it."""
    for got, told, violation in ((True, False, ""), (False, True, ""), (False, False, "no gap was told after it")):
        played = Played(complete=False)
        first, second = played.views
        first.told_at, began = 1.0, 2.0
        played.checker.published("t", (1, 6), "", began)
        played.get(first, 1, 2, 3)
        played.get(second, 1, 2, 3, "gap 4", 5)
        if got:
            played.checker.got_local(first, (1, 6))
        played.get(first, *(["gap 4"] if told else [4]), 5)
        assert violation in (verdict := played.verdict())
        assert bool(verdict) == bool(violation)


def test_a_gap_behind_the_last_message_is_right() -> None:
    played = Played(complete=False)
    for view in played.views:
        played.get(view, 1, 2, 3, 4, 5)
    played.get(played.views[0], "gap 6")
    assert played.verdict() == ""


def test_two_orders_are_seen() -> None:
    played = Played(rolls_back=True)
    played.get(played.views[0], 1, 2, 3, 4, 5)
    played.get(played.views[1], 1)
    played.deliver(played.views[1], "e.2.other", 2)
    played.get(played.views[1], 3, 4, 5)
    assert "elsewhere after e.2.c2" in played.verdict()


def test_the_outcomes_of_publishers_are_compared() -> None:
    played = Played()
    for view in played.views:
        played.get(view, 1, 2, 3, 4, 5)
    played.checker.positions = {(1, 1): at(1), (1, 2): at(9), (1, 3): "", (1, 5): at(5), (2, 1): at(7)}
    verdict = played.verdict()
    assert "message (1, 2) came as e.2, its publisher was told e.9" in verdict
    assert "message (1, 3) came as e.3, its publisher was told that it reached one machine alone" in verdict
    assert "message (1, 4) at e.4 was never published" in verdict
    assert "message (2, 1) was published at e.7.c7, and nobody got it" in verdict


def test_a_message_at_two_places_is_seen() -> None:
    played = Played()
    for view in played.views:
        played.get(view, 1, 2, 3, 4, 5)
        played.deliver(view, at(6), 5)
    assert "message (1, 5) is at e.5 and at e.6" in played.verdict()


def test_a_local_message_that_comes_twice_is_seen() -> None:
    played = Played()
    for _ in range(2):
        played.checker.got_local(played.views[0], (1, 1))
    assert "doubled: (1, 1), which has no position" in played.verdict()
