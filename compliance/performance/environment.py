"""What the benchmark runs in: a virtual environment and a Bun of its own, made once and kept in the user's cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from compliance._servers import CHECKOUT, Progress, cache_dir

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
BUN = "bun@1.4.5"
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "flowserve")
PROBE = """
import importlib.metadata, importlib.util, json, sys
names, packages = {}, importlib.metadata.packages_distributions()
for name in sys.argv[1:]:
    if importlib.util.find_spec(name):
        names[name] = importlib.metadata.version(packages[name][0]) if name in packages else "?"
print(json.dumps(names))
"""


@dataclass
class Environment:
    """An interpreter with the peers in it, Bun's command ('' without one), a certificate, notes on what is missing."""

    python: str
    bun: str
    certificates: Path
    notes: list[str]

    @property
    def ca(self) -> str:
        return str(self.certificates / "client.pem")

    @property
    def certfile(self) -> str:
        return str(self.certificates / "server.pem")

    @property
    def keyfile(self) -> str:
        return str(self.certificates / "server.key")


def run(command: list[str], cwd: Path | None = None) -> str:
    """'' when the command succeeds, else the last line that it said."""
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return "" if done.returncode == 0 else (done.stdout.strip().splitlines() or ["failed without a word"])[-1]


def install_peers(python: str, notes: list[str], progress: Progress) -> None:
    """Install the pinned peers, one by one so that one that can't be installed leaves the others alone."""
    marker = Path(python).parent.parent / "installed.txt"
    wanted = REQUIREMENTS.read_text()
    if marker.exists() and marker.read_text() == wanted:
        return
    complete = True
    for line in wanted.splitlines():
        if line and not line.startswith("#"):
            progress.show(f"installing {line}")
            problem = run([python, "-m", "pip", "install", "--disable-pip-version-check", *line.split()])
            if problem:
                complete = False
                notes.append(f"{line} could not be installed: {problem}")
    if complete:
        marker.write_text(wanted)


def copy_sources(directory: Path) -> Path:
    """A copy of the checkout as it is now, without what is built, so that no build output lands in the checkout."""
    source = directory / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    built = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    for name in SOURCES:
        path = CHECKOUT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=built)
        elif path.exists():
            shutil.copy(path, source / name)
    return source


def install_flowserve(python: str, directory: Path, notes: list[str], progress: Progress) -> None:
    """Build and install the checkout as it is now."""
    progress.show("building and installing flowserve")
    source = copy_sources(directory)
    problem = run([python, "-m", "pip", "install", "--disable-pip-version-check", str(source)])
    if problem:
        notes.append(f"flowserve could not be installed: {problem}")


def install_bun(directory: Path, notes: list[str], progress: Progress) -> str:
    """Bun from npm. The package for the platform carries the command itself, so that no install script is needed."""
    command = directory / "node_modules" / "bun" / "bin" / "bun.exe"
    if not works(command):
        progress.show("installing Bun")
        npm = shutil.which("npm")
        problem = run([npm, "install", "--prefix", str(directory), BUN], directory) if npm else "npm is not there"
        if problem:
            notes.append(f"Bun could not be installed: {problem}")
            return ""
    for candidate in (command, *sorted(directory.glob("node_modules/@oven/bun-*/bin/bun"))):
        if works(candidate):
            return str(candidate)
    notes.append("Bun was installed but does not run")
    return ""


def works(command: Path) -> bool:
    return command.exists() and not run([str(command), "--version"])


def make_certificates(python: str, directory: Path, notes: list[str]) -> Path:
    """A self-signed certificate for localhost, by trustme."""
    path = directory / "certificates"
    path.mkdir(exist_ok=True)
    problem = run([python, "-m", "trustme", "--quiet", "--dir", str(path), "--identities", "localhost"])
    if problem:
        notes.append(f"no certificate for the TLS case: {problem}")
    return path


def prepare(python: str | None, servers: list[str], progress: Progress) -> Environment:
    """The environment for `servers`: the interpreter that is given, as it is, or one of our own with all it needs."""
    directory = cache_dir("performance")
    notes: list[str] = []
    if python is None:
        venv = directory / "venv"
        if not (venv / "bin" / "python").exists():
            progress.show("making a virtual environment")
            subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        python = str(venv / "bin" / "python")
        install_peers(python, notes, progress)
        if any(name.startswith("flowserve") for name in servers):
            install_flowserve(python, directory, notes, progress)
    bun = install_bun(directory, notes, progress) if "bun" in servers else ""
    certificates = make_certificates(python, directory, notes)
    progress.clear()
    return Environment(os.path.abspath(python), bun, certificates, notes)


def installed(environment: Environment, modules: list[str]) -> dict[str, str]:
    """The versions of those of the modules (and of 'bun', 'python') that are there."""
    # Not from the checkout, which would hide whether flowserve is installed.
    command = [environment.python, "-c", PROBE, *modules]
    versions: dict[str, str] = json.loads(subprocess.check_output(command, cwd=environment.certificates))
    versions.pop("bun", None)
    if environment.bun:
        versions["bun"] = subprocess.run([environment.bun, "--version"], capture_output=True, text=True).stdout.strip()
    return versions
