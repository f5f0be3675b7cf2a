"""What is said of a failed start."""

from __future__ import annotations

import traceback

import pytest

from flowserve.errors import StartupFailed
from flowserve.runtime.startup_errors import explain

GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "app.py", line 1, in lifespan
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "app.py", line 2, in start
    | ValueError: no database
    +------------------------------------
"""


@pytest.mark.parametrize("told", [GROUP, "Traceback (most recent call last):\n  File\nValueError: no database\n"])
def test_the_line_has_what_a_traceback_ends_with(told: str) -> None:
    failure = explain(StartupFailed(told), "app:app")
    assert failure.line == "application startup failed: ValueError: no database"
    assert failure.details == told.strip()


def test_an_unexpected_error_has_its_traceback() -> None:
    try:
        raise ZeroDivisionError("oops")
    except ZeroDivisionError as error:
        failure = explain(error, "app:app")
        assert failure.details == traceback.format_exc().rstrip("\n")
    assert failure.line == "stopped by an unexpected ZeroDivisionError"
