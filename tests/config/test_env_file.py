"""--env-file: the application finds its variables in the environment, in every process, from the first import on."""

from __future__ import annotations

import os
import sys

import pytest
from support.forks import COMMAND

from flowserve.asgi.loader import load
from flowserve.config import Config
from flowserve.config.env_file import environment_with, load_env_file, read_env_file
from flowserve.errors import ConfigError

FILE = """\
# a comment
export GREETING="good morning"
PLACE=${GREETING}, all
HOME_OF_TEST=here
EMPTY=
UNSET
"""
APP = """\
import os

GREETING = os.environ["GREETING"]

async def app(scope, receive, send): ...
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    for name in ("GREETING", "PLACE", "EMPTY", "UNSET"):
        monkeypatch.setenv(name, "")  # so that it is removed again
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME_OF_TEST", "there")
    path = tmp_path / "variables.env"
    path.write_text(FILE)
    return str(path)


def test_what_a_file_says(file):
    values = read_env_file(file)
    assert values == {"GREETING": "good morning", "PLACE": "good morning, all", "HOME_OF_TEST": "here", "EMPTY": ""}
    assert environment_with(file)["HOME_OF_TEST"] == "there"
    assert environment_with(None) == os.environ
    assert "GREETING" not in os.environ


def test_loading_leaves_what_is_set(file):
    load_env_file(file)
    assert (os.environ["PLACE"], os.environ["HOME_OF_TEST"]) == ("good morning, all", "there")
    assert "UNSET" not in os.environ


def test_the_file_is_loaded_before_the_application(file, tmp_path, monkeypatch):
    (tmp_path / "reads_environment.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    config = Config("reads_environment:app", env_file=file, app_dir=tmp_path)
    assert "GREETING" not in os.environ
    load(config)
    assert sys.modules["reads_environment"].GREETING == "good morning"


def test_options_in_the_file(file, tmp_path, forks):
    with open(file, "a") as env:
        env.write("FLOWSERVE_BACKLOG=77\nFLOWSERVE_PORT=1\n")
    run = forks.run(COMMAND, "a:b", "--env-file", str(file), "--port", "2", "--print-config", cwd=tmp_path)
    lines = [" ".join(line.split()) for line in run.stdout.splitlines()]
    assert "backlog = 77 # environment FLOWSERVE_BACKLOG" in lines
    assert "port = 2 # command line" in lines


def test_a_file_that_can_not_be_read(tmp_path):
    (tmp_path / "latin").write_bytes(b"A=\xe9")
    for name, says in (
        ("none", "No such file or directory"),
        (".", "Is a directory"),
        ("latin", "is not text in UTF-8"),
    ):
        with pytest.raises(ConfigError, match=rf"^env_file: .*{says}$"):
            Config("a:b", env_file=tmp_path / name)


def test_without_python_dotenv(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "dotenv", None)
    with pytest.raises(ConfigError, match=r"^--env-file: python-dotenv is missing; pip install python-dotenv$"):
        read_env_file(file)
