"""The clients: what each needs, and its command."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compliance._servers import Progress, cache_dir
from compliance.performance.environment import install_bun, run

CLIENTS = Path(__file__).resolve().parent / "clients"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
WS = "ws@8.23.0"
IN_FLIGHT = "8"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

Command = Callable[[int, Path, Path], list[str]]
"""Port, corpus and an empty directory -> the command that prints the report (or, as a browser, posts it)."""


@dataclass(frozen=True)
class Peer:
    """A client that is there. `posts` says that its report comes over HTTP, and that it doesn't end by itself."""

    name: str
    command: Command
    posts: bool = False


def available(progress: Progress) -> tuple[list[Peer], list[str]]:
    """Install what can be installed: the clients that are there, and notes on those that are not."""
    notes: list[str] = []
    found = [*browsers(notes), *javascript(notes, progress), *python(notes, progress), *java(notes)]
    progress.clear()
    return found, notes


def browsers(notes: list[str]) -> list[Peer]:
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        notes.append("Chromium is left out: not installed")
        return []

    def command(port: int, corpus: Path, directory: Path) -> list[str]:
        return [program, *CHROMIUM_FLAGS, f"--user-data-dir={directory}", f"http://127.0.0.1:{port}/"]

    return [Peer("Chromium", command, posts=True)]


def script(runner: list[str], name: str, *more: str) -> Command:
    def command(port: int, corpus: Path, directory: Path) -> list[str]:
        return [*runner, f"ws://127.0.0.1:{port}/", str(corpus), IN_FLIGHT, *more]

    runner = [*runner[:1], str(CLIENTS / name), *runner[1:]]
    return command


def install_ws(notes: list[str], progress: Progress) -> str:
    """Node's ws from npm: the directory that has it in its node_modules, '' with a note where it can't be had."""
    directory = cache_dir("interop")
    node, npm = shutil.which("node"), shutil.which("npm")
    progress.show(f"installing {WS}")
    if node and npm and not (problem := run([npm, "install", "--prefix", str(directory), WS], directory)):
        return str(directory)
    notes.append(f"Node's ws is left out: {problem if node and npm else 'node or npm is not there'}")
    return ""


def javascript(notes: list[str], progress: Progress) -> list[Peer]:
    found = []
    if directory := install_ws(notes, progress):
        found.append(Peer("Node's ws", script(["node"], "client.mjs", directory)))
    if bun := install_bun(cache_dir("performance"), notes, progress):
        found.append(Peer("Bun", script([bun], "client.mjs")))
    return found


def python(notes: list[str], progress: Progress) -> list[Peer]:
    found, venv = [], cache_dir("interop") / "venv"
    interpreter = str(venv / "bin" / "python")
    if not Path(interpreter).exists():
        progress.show("making a virtual environment")
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    for line in REQUIREMENTS.read_text().splitlines():
        if line and not line.startswith("#"):
            progress.show(f"installing {line}")
            name = line.partition("=")[0]
            problem = run([interpreter, "-m", "pip", "install", "--disable-pip-version-check", *line.split()])
            if problem:
                notes.append(f"{name} is left out: {problem}")
            else:
                found.append(Peer(name, script([interpreter, name], "client.py")))
    return found


def java(notes: list[str]) -> list[Peer]:
    program = shutil.which("java")
    if program is None:
        notes.append("Java's HttpClient is left out: there is no java")
        return []
    return [Peer("Java's HttpClient", script([program], "Client.java"))]
