"""Completion: what is offered, and real shells in which Tab is pressed."""

from __future__ import annotations

import os
import shutil
import sys

import pytest
from click.testing import CliRunner
from support.terminal import Terminal

from flowserve.cli import main
from flowserve.cli.completion import SHELLS, candidates, respond
from flowserve.cli.help import ALL, topics
from flowserve.cli.subcommands import SUBCOMMANDS
from flowserve.config.config import OPTIONS

ASGI = "async def app(scope, receive, send): ...\n"
BREAKS = " \t\n\"'@><=;|&(:"
"""COMP_WORDBREAKS, as bash has it."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to start in, with an application."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("FLOWSERVE_") and name != "FLOWSERVE_PURE":
            monkeypatch.delenv(name)
    (tmp_path / "main.py").write_text(ASGI + "other = FastAPI()\nraise SystemExit('imported')\n")
    (tmp_path / "code" / "shop").mkdir(parents=True)
    (tmp_path / "code" / "shop" / "__init__.py").write_text("def create_app(): ...\n")
    (tmp_path / "code" / "read me.txt").write_text("")
    (tmp_path / "code" / ".hidden").mkdir()
    return tmp_path


def offered(*args: str) -> list[str]:
    """What the last word may become; with a note for what the shell itself completes."""
    items = candidates(main, list(args[:-1]), args[-1])
    return [item.value if item.type in ("plain", "part") else f"({item.type})" for item in items]


# APP


def test_applications(folder):
    assert offered("") == [*SUBCOMMANDS, "main:app", "main:other"]
    assert offered("m") == ["main:app", "main:other"]
    assert offered("main:") == ["main:app", "main:other"]
    assert offered("main:o") == ["main:other"]
    assert offered("nowhere:") == []
    assert offered("--reload", "main:a") == ["main:app"]
    assert offered("dev", "main:a") == ["main:app"]
    assert offered("--app-dir", "code", "sh") == ["shop:create_app"]
    assert offered("main:app", "") == []


def test_files_and_folders(folder):
    assert offered("./") == ["./main.py", "./code/"]
    assert offered("co") == ["connect", "code/"]
    assert offered("code/") == ["code/shop/"]
    assert offered("code/.") == ["code/.hidden/"]
    assert offered("code/shop/") == []
    assert offered("code/shop/__") == ["code/shop/__init__.py"]
    assert offered("nowhere/") == []


# Options and their values


def test_options(folder):
    assert offered("--rel") == ["--reload", "--reload-dir", "--reload-include", "--reload-exclude", "--reload-delay"]
    assert offered("--no-re") == ["--no-reload"]
    words = {f"--{option.word}" for option in OPTIONS.values()}
    assert words | {"--config", "--print-config", "--version", "--help", "--install-completion"} <= set(offered("--"))
    assert offered("main:app", "--ws-max-q") == ["--ws-max-queue"]
    assert offered("connect", "--ca") == ["--ca-file"]
    assert offered("top", "--on") == ["--once"]


@pytest.mark.parametrize(
    ("args", "values"),
    [
        (["--log-level", "de"], ["debug"]),
        (["--log-level=de"], ["--log-level=debug"]),
        (["--loop", ""], ["auto", "uvloop", "asyncio"]),
        (["--ws-per-message-deflate", ""], ["on", "off"]),
        (["--ws-ping-interval", "o"], ["off"]),
        (["--workers", ""], ["auto"]),
        (["--port", ""], []),
        (["--root-path", "/"], []),
        (["--config", "f"], ["(file)"]),
        (["--ssl-certfile=f"], ["(file)"]),
        (["--uds", ""], ["(file)"]),
        (["--app-dir", ""], ["(dir)"]),
        (["--reload-dir", ""], ["(dir)"]),
        (["--install-completion", ""], list(SHELLS)),
        (["--help", ""], [ALL, *dict.fromkeys((*topics(), *SUBCOMMANDS))]),
        (["connect", "--max-size", ""], ["off"]),
        (["connect", "ws://a", "--wait", "f"], ["forever"]),
        (["bench", "--ca-file", "f"], ["(file)"]),
    ],
)
def test_values(folder, args, values):
    assert offered(*args) == values


def test_every_choice_is_offered():
    for option in OPTIONS.values():
        if option.kind.metavar.startswith("["):
            words = option.kind.metavar.strip("[]").split("|")
            assert offered(option.flag, "") == [word for word in words if word != "MODULE:FACTORY"]


# What shells are told


def told(line: str, instruction: str = "bash_complete", breaks: str = BREAKS) -> list[str]:
    environment = {"_FLOWSERVE_COMPLETE": instruction, "COMP_LINE": line, "COMP_WORDBREAKS": breaks}
    run = CliRunner().invoke(main, [], env=environment)
    assert (run.exit_code, run.stderr) == (0, "")
    return run.stdout.splitlines()


def test_bash_gets_what_is_behind_its_breaks(folder):
    assert told("flowserve main:a") == ["plain\tapp\t"]
    assert told("flowserve main:a", breaks=" ") == ["plain\tmain:app\t"]
    assert told("flowserve 'main:a") == ["plain\tmain:app\t"]
    assert told("flowserve --log-level=de") == ["plain\tdebug\t"]
    assert told("/x/flowserve main:app --loop as") == ["plain\tasyncio\t"]
    (folder / "my dir").mkdir()
    assert told("flowserve ./my") == ["part\t./my\\ dir/\t"]
    assert told('flowserve "./my') == ["part\t./my dir/\t"]


def test_others_get_whole_words_and_explanations(folder):
    assert told("flowserve main:a", "zsh_complete") == ["plain\tmain:app\t"]
    assert told("flowserve --log-level=de", "fish_complete") == ["plain\t--log-level=debug\t"]
    assert told("flowserve --loo", "zsh_complete") == [f"plain\t--loop\t{OPTIONS['loop'].help}"]
    assert told("flowserve dev --config ", "fish_complete") == ["file\t\t"]


@pytest.mark.parametrize("instruction", ["bash", "tcsh_source", "zsh_nonsense"])
def test_nonsense_is_refused(instruction):
    assert respond(main, instruction) == 1


# Real shells

STARTUP = {
    "bash": (".bashrc", "PS1='ready> '\nbind 'set bell-style none'\n"),
    "zsh": (".zshrc", "PS1='ready> '\n"),
    "fish": (".config/fish/config.fish", "function fish_prompt; echo -n 'ready> '; end\nset -g fish_greeting\n"),
}


@pytest.fixture
def shell(request, folder):
    """A shell with a home of its own, in which flowserve is, and completes; and a function to type what is erased."""
    if shutil.which(request.param) is None:
        if os.environ.get("FLOWSERVE_CI"):
            pytest.fail(f"{request.param} is not installed here")
        pytest.skip(f"{request.param} is not installed")
    home = folder / "home"
    path, text = STARTUP[request.param]
    (home / path).parent.mkdir(parents=True)
    (home / path).write_text(text)
    command = home / "bin" / "flowserve"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flowserve "$@"\n')
    command.chmod(0o755)
    xdg = {name: "" for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ZDOTDIR") if name in os.environ}
    environment = {"HOME": str(home), "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}", **xdg}
    opened: list[Terminal] = []

    def start() -> Terminal:
        opened.append(Terminal("-i", shell=request.param, cwd=folder, **environment))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.mark.parametrize("shell", SHELLS, indirect=True)
async def test_tab(shell):
    first = shell()
    await first.shows("ready> ")
    first.type("flowserve --install-completion\r")
    await first.shows("To undo it: ")
    terminal = shell()
    await terminal.shows("ready> ")
    for typed, wanted in (
        ("flowserve main:o\t", "main:other"),
        ("flowserve --log-level=de\t", "--log-level=debug"),
        ("flowserve con\t", "connect"),
        ("flowserve connect --ca-file ma\t", "--ca-file main.py"),
        ("flowserve --config=ma\t", "--config=main.py"),
        ("home/bin/flowserve dev ./co\t", "./code/"),
        ("flowserve main:app --reload-\t\t", "--reload-exclude"),
    ):
        terminal.type(typed)
        await terminal.shows(wanted)
        terminal.type("\x15")  # Ctrl-U erases the line
