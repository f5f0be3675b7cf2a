"""--help: what fits a person, and the way to all the rest."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from flowserve.cli import main
from flowserve.cli.help import FIRST, topics
from flowserve.cli.subcommands import SUBCOMMANDS
from flowserve.config.config import OPTIONS

TWO_SCREENS = 72
"""Lines, in a terminal of 80 columns."""
HEADING = re.compile(r"^(\S.*):$", re.MULTILINE)


def helped(*args: str) -> str:
    run = CliRunner().invoke(main, list(args))
    assert (run.exit_code, run.stderr) == (0, "")
    return run.stdout


def flags(text: str) -> list[str]:
    """The options that are listed."""
    return re.findall(r"^  --(?:\[no-\])?([a-z0-9-]+)", text, re.MULTILINE)


def test_what_comes_first_fits_a_person():
    text = helped("--help")
    assert text.startswith("Usage: flowserve [OPTIONS] [APP]\n       flowserve COMMAND ...\n")
    assert len(text.splitlines()) <= TWO_SCREENS
    assert max(map(len, text.splitlines())) <= 80
    assert HEADING.findall(text) == ["Options to begin with", "Other", "Commands", f"All {len(OPTIONS)} options"]
    assert len(FIRST) == 10
    assert flags(text)[:10] == [OPTIONS[name].word for name in FIRST]
    for name, subcommand in SUBCOMMANDS.items():
        assert re.search(rf"^  flowserve {name} +{re.escape(subcommand.help[:40])}", text, re.MULTILINE)
    assert re.findall(r"[a-z]+", text[text.index("--help GROUP") + len("--help GROUP") :])[: len(topics())] == [
        *topics()
    ]


def test_all_options_by_group():
    text = helped("--help", "all")
    headings = HEADING.findall(text)
    assert headings == [*dict.fromkeys(option.group for option in OPTIONS.values()), "Other", "Commands"]
    sections = dict(zip(headings, re.split(r"^\S.*:$", text, flags=re.MULTILINE)[1:], strict=True))
    for option in OPTIONS.values():
        word = f"--[no-]{option.word}" if option.kind.switch else option.flag
        entry = re.search(rf"^  {re.escape(word)} .*\n(?:   .*\n)*", sections[option.group], re.MULTILINE)
        assert entry, option.flag
        explanation = " ".join(entry[0].split())
        assert option.help in explanation
        shown = option.kind.show(option.default)
        assert (f"[default: {shown}]" in explanation) == bool(shown)
    for flag in ("--config FILE", "--print-config", "--version", "--install-completion [SHELL]", "-h, --help [TOPIC]"):
        assert f"\n  {flag}" in sections["Other"]
    assert max(map(len, text.splitlines())) <= 80


def test_one_group():
    assert len(set(topics())) == len({option.group for option in OPTIONS.values()})
    for topic, group in topics().items():
        text = helped("--help", topic)
        if topic in SUBCOMMANDS:  # which is told of first
            text = text[text.index(f"\n{group}:\n") + 1 :]
        assert HEADING.findall(text) == [group]
        assert flags(text) == [option.word for option in OPTIONS.values() if option.group == group]


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("reload", ["reload", "reload-dir", "reload-include", "reload-exclude", "reload-delay", "ssl-reload"]),
        ("port", ["port"]),
        ("prometheus", ["metrics"]),
    ],
)
def test_options_that_a_word_is_found_in(topic, words):
    assert flags(helped("-h", topic)) == words


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_subcommands(name):
    text = helped(name, "--help")
    assert text.startswith(f"Usage: flowserve {name} [OPTIONS] ")
    explained = helped("--help", name)
    assert explained.startswith(text) if name in topics() else explained == text
    assert len(text.splitlines()) <= TWO_SCREENS


@pytest.mark.parametrize("name", ["connect", "bench"])
def test_options_of_a_connection_are_apart(name):
    text = helped(name, "--help")
    assert HEADING.findall(text) == ["Options", "Connection"]
    own, connection = (set(flags(part)) for part in text.split("\nOptions:\n")[1].split("\nConnection:\n"))
    assert {"subprotocol", "ca-file", "timeout"} <= connection
    assert {"binary"} <= own
    assert "\n  URL" not in text
    assert not own & connection


def test_what_dev_stands_for():
    text = " ".join(helped("dev", "--help", "processes").split())
    assert "--[no-]reload Start anew when a file changes; for development. [default: on]" in text
    assert "[default: debug]" in helped("dev", "main:app", "--help")


@pytest.mark.parametrize("args", [("main:app", "--help"), ("--help", "main:app"), ("--port", "80", "-h", "main.py")])
def test_help_beside_other_arguments(args):
    assert helped(*args) == helped("--help")


@pytest.mark.parametrize(("columns", "widest"), [(60, 78), (80, 80), (120, 112)])
def test_help_keeps_to_the_terminals_width(columns, widest):
    command = [sys.executable, "-m", "flowserve", "--help", "all"]
    environment = os.environ | {"COLUMNS": str(columns)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert columns - 15 < max(map(len, run.stdout.splitlines())) <= widest
