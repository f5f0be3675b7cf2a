"""Positions as text, which clients give back."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowserve.topics.position import BEGINNING, Place, new_check, new_epoch, parse


@given(st.integers(0, 2**53))
def test_a_place_comes_back(offset: int) -> None:
    place = Place(new_epoch(), offset, new_check())
    assert parse(place.position()) == place


def test_the_beginning_comes_back() -> None:
    assert parse(BEGINNING.position()) == BEGINNING


@given(st.text())
def test_any_text_is_a_place_or_none(text: str) -> None:
    place = parse(text)
    assert place is None or place.position() == text


@given(st.sampled_from(["-1", "+1", "0x1", " 1", "1_0", "01", "A", "\u0661"]))
def test_each_place_has_one_text(offset: str) -> None:
    assert parse(f"e.{offset}.c") is None


@pytest.mark.parametrize("text", ["\ud800.0.", "é.1.c", f"e.{'f' * 14}.c", f"e.{'f' * 5000}.c", f"{'e' * 101}.1.c"])
def test_what_no_backplane_could_take_is_none(text: str) -> None:
    """Clients can send it, and it would be read for all who ask at the same time."""
    assert parse(text) is None


@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks there")
def test_a_process_that_was_forked_has_other_checks() -> None:
    """They are made many at a time; run on its own, as this process has threads.

    Each is written at once: with PYTHONUNBUFFERED, print() writes a line in two parts."""
    program = (
        "import os; from flowserve.topics.position import new_check; new_check(); child = os.fork();"
        "os.write(1, new_check().encode() + b' '); child and os.wait()"
    )
    checks = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert len({*checks}) == 2
    assert {*map(len, checks)} == {8}
