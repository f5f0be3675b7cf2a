"""What compliance/topics/pages holds pages to: that it sees what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from compliance.topics.pages.run import Outcome, check


@pytest.mark.parametrize(
    ("seen", "wrong"),
    [
        ([0, 1, 2, 3], ""),
        ([0, "gap", 3], ""),
        (["gap", 1, 2, 3], ""),
        ([0, 1, "gap"], ""),
        (["gap"], ""),
        (None, "not reported"),
        ([], "lost"),
        ([0, 1, 2], "lost"),
        ([0, 2, 3], "lost: 2 came after 0"),
        ([1, 2, 3], "lost"),
        ([0, 1, 1, 2, 3], "doubled"),
        ([0, "gap", 0, 1, 2, 3], "doubled"),
        ([0, 2, 1, 3], "swapped: 1 came after 2"),
    ],
)
def test_what_a_page_has_seen(seen: Any, wrong: str) -> None:
    outcome = Outcome("", 1, published=4)
    found = check("page", seen, outcome)
    assert any(wrong in each for each in found) if wrong else found == []
