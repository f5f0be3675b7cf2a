"""`flowserve publish` where it goes wrong; where it goes right it is tested in topics/api/test_connect.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.forks import COMMAND, Forks

WRONG = {
    "no URL": ((), "--topics-url is missing: where the servers' topics are"),
    "no topic": ((), "Missing argument 'TOPIC'"),
    "this process alone": (("--topics-url", "memory:"), "memory: reaches no other process"),
    "no backplane": (("--topics-url", "kafka://u:secret@host"), "'kafka://***@host' names no backplane"),
    "text": (("\udcff", "--topics-url", "redis://host"), "TEXT is not UTF-8"),
    "a number": (("--topics-url", "redis://host", "--topics-history", "many"), "--topics-history"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_usage(kind: str, forks: Forks, tmp_path: Path) -> None:
    """One line that says what is wrong, without a password that stands in the URL."""
    options, says = WRONG[kind]
    arguments = {"no topic": (), "text": ("news",)}.get(kind, ("news", "hello"))
    run = forks.run(COMMAND, "publish", *arguments, *options, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("flowserve: error: ")
    assert run.stderr.count("\n") == 1
    assert says in run.stderr
    assert "secret" not in run.stderr


def test_the_environment_has_the_url(forks: Forks, tmp_path: Path) -> None:
    environment = os.environ | {"FLOWSERVE_TOPICS_URL": "memory:"}
    run = forks.run(COMMAND, "publish", "news", "hello", cwd=tmp_path, env=environment)
    assert (run.returncode, "memory: reaches no other process" in run.stderr) == (2, True)
