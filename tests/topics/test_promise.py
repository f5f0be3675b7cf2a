"""What flowserve/topics/README.md promises is held by the tests that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.documents import section

TESTS = Path(__file__).parents[1]
ROWS = re.findall(r"^\| (\d) \| (.*) \|$", section("flowserve/topics/README.md", "The promise"), re.MULTILINE)


def test_each_line_of_the_promise_has_tests() -> None:
    lines = re.findall(r"^(\d)\. ", section("flowserve/topics/README.md", "The promise"), re.MULTILINE)
    assert [number for number, _ in ROWS] == lines


@pytest.mark.parametrize("name", sorted({name for _, tests in ROWS for name in re.findall(r"`(\w+)`", tests)}))
def test_the_tests_are_there(name: str) -> None:
    files = [*(TESTS / "topics").rglob("*.py"), *(TESTS / "supervisor").glob("*.py")]
    assert any(re.search(rf"def {name}\(", path.read_text("utf-8")) for path in files)
