"""The manual page: it is what the declaration of the options makes, and it can be read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
from support.documents import section

from flowserve._man import _EXIT_STATUSES, PAGE, manual
from flowserve.cli import main
from flowserve.cli.subcommands import SUBCOMMANDS, load
from flowserve.config.config import OPTIONS


def test_it_is_made_from_the_declaration():
    assert PAGE.read_text("utf-8") == manual(), "write it anew: python -m flowserve._man"


def test_it_has_every_option_of_every_command():
    text = manual().replace("\\-", "-")
    for option in OPTIONS.values():
        assert re.search(rf"^\.TP\n\\fB{option.flag}\\fR.*\n(?:(?!\.).+\n)+", text, re.MULTILINE), option.flag
    parts = dict(zip(re.findall(r'^\.SH "(.*)"$', text, re.MULTILINE), text.split(".SH ")[1:], strict=True))
    for name in SUBCOMMANDS:
        words = {word for param in load(name).params for word in param.opts if word.startswith("--")}
        shown = {
            word for line in parts[f"FLOWSERVE {name.upper()}"].splitlines() for word in re.findall(r"--[\w-]+", line)
        }
        assert name == "dev" or words <= shown
    assert {"--config", "--print-config", "--version", "--help"} <= set(re.findall(r"--[\w-]+", parts["OPTIONS"]))
    assert main.name in parts["NAME"]


def test_exit_statuses_are_those_of_the_page():
    rows = re.findall(r"^\| (\w.*?) \| (.*?) \|$", section("flowserve/server/README.md", "Exit status"), re.MULTILINE)
    shown = {
        status.replace(" (143 in a shell)", ""): text.replace("`", "") for status, text in rows if status != "status"
    }
    assert shown == _EXIT_STATUSES


@pytest.mark.parametrize("command", [("mandoc", "-T", "lint", "-W", "style"), ("groff", "-man", "-Tutf8", "-ww", "-z")])
def test_formatters_have_nothing_to_say(command):
    if shutil.which(command[0]) is None:
        if os.environ.get("FLOWSERVE_CI"):
            pytest.fail(f"{command[0]} is not installed here")
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([*command, str(PAGE)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
