"""What the rows run in: virtual environments that share one wheel of the checkout, npm packages, Debian's programs."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from compliance._servers import Progress, ServerFailed
from compliance.interop.peers import CHROMIUM
from compliance.performance.environment import copy_sources, run

REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
PACKAGES = (
    *("socket.io-client@4.8.4", "graphql-ws@6.4.2", "graphql@16.15.0", "ws@8.23.0"),
    *("yjs@13.6.33", "y-websocket@3.1.0", "playwright-core@1.65.1"),
)
PIP = ("-m", "pip", "--disable-pip-version-check")
VERSIONS = """
import importlib.metadata, json
print(json.dumps({each.name.lower().replace("_", "-"): each.version for each in importlib.metadata.distributions()}))
"""


class Environments:
    """Makes what is asked for, once, in a directory that is kept."""

    def __init__(self, directory: Path, progress: Progress) -> None:
        self.directory = directory
        self.progress = progress
        self.made: dict[str, str] = {}
        self.wheel: Path | None = None

    def python(self, name: str) -> str:
        """The interpreter of the environment `name`, which has requirements/NAME.txt and flowserve."""
        if name not in self.made:
            self.made[name] = self.make(name)
        return self.made[name]

    def make(self, name: str) -> str:
        venv, wanted = self.directory / name, REQUIREMENTS / f"{name}.txt"
        python, marker = str(venv / "bin" / "python"), venv / "installed.txt"
        if not marker.exists() or marker.read_text() != wanted.read_text():
            self.progress.show(f"installing {wanted.name} of the requirements")
            self.must([sys.executable, "-m", "venv", "--clear", str(venv)])
            self.must([python, *PIP, "install", "-r", str(wanted)])
            marker.write_text(wanted.read_text())
        self.install_flowserve(python, venv / "flowserve.txt")
        return python

    def install_flowserve(self, python: str, marker: Path) -> None:
        wheel = str(self.built())
        if not marker.exists() or marker.read_text() != wheel:
            self.must([python, *PIP, "install", "--force-reinstall", "--no-deps", wheel])
            self.must([python, *PIP, "install", wheel])  # what it depends on
            marker.write_text(wheel)

    def built(self) -> Path:
        """A wheel of the checkout as it is now, in a directory named after its content."""
        if self.wheel is None:
            self.progress.show("building flowserve")
            source = copy_sources(self.directory)
            place = self.directory / "wheels" / digest(source)
            if not list(place.glob("*.whl")):
                self.must([sys.executable, *PIP, "wheel", "--no-deps", "--wheel-dir", str(place), str(source)])
            self.wheel = next(place.glob("*.whl"))
        return self.wheel

    def npm(self) -> str:
        """A directory that has the JavaScript clients in its node_modules."""
        place = self.directory / "npm"
        marker = place / "installed.txt"
        if not marker.exists() or marker.read_text() != " ".join(PACKAGES):
            program("npm", "npm"), program("node", "nodejs")
            self.progress.show("installing the JavaScript clients")
            place.mkdir(exist_ok=True)
            self.must(["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(place), *PACKAGES])
            marker.write_text(" ".join(PACKAGES))
        return str(place)

    def must(self, command: list[str]) -> None:
        if problem := run(command, self.directory):
            raise ServerFailed(f"{' '.join(command)}: {problem}")

    def versions(self, python: str) -> dict[str, str]:
        found: dict[str, str] = json.loads(subprocess.check_output([python, "-c", VERSIONS], cwd=self.directory))
        return found


def digest(source: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(source.rglob("*")):
        if path.is_file():
            found.update(f"{path.relative_to(source)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def program(name: str, package: str) -> str:
    """Where a program of the system is. Raises ServerFailed, which says how to install it."""
    found = shutil.which(name)
    if found is None:
        raise ServerFailed(f"{name} is not there; install it: apt-get install {package}")
    return found


def chromium() -> str:
    return next(filter(None, map(shutil.which, CHROMIUM)), None) or program("chromium", "chromium")
