"""The extension modules, built with AddressSanitizer, UndefinedBehaviorSanitizer and Cython's own checks, in a copy of
the checkout that is kept: what has not changed is not built again."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from compliance._servers import CHECKOUT, ServerFailed, flowserve_version

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "flowserve", "tests", "examples", "compliance")
MADE = (".so", ".c", ".pyc")
CFLAGS = (
    "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined "
    "-fno-sanitize=alignment"  # CPython's own headers cast pointers as they like
)
EVERYWHERE = ("pyproject.toml", "_build.py", "CFLAGS")
"""What all modules depend on, as they may on any .pxd file."""
UNCHECKED = re.compile(rb"\b(boundscheck|initializedcheck)=False")
"""At the head of the hottest modules: Cython heeds that more than what it is told from outside."""
FOREIGN = ("curl",)
"""Programs that the tests start and that must do without AddressSanitizer: curl stands still in it, in setlocale()."""
OVERRUN = "import ctypes; ctypes.memmove(ctypes.create_string_buffer(8), bytes(4096), 4096)"
TOO_MUCH = re.compile(r"(==\d+==WARNING: AddressSanitizer failed to allocate 0x[0-9a-f]+ bytes\n?)*")
"""No finding: what was asked for is too much memory, on purpose."""
SETUP = """
from setuptools import setup
checks = {"boundscheck": True, "initializedcheck": True, "overflowcheck": True, "cdivision": False, "nonecheck": True}
setup(options={"build_ext": {"cython_directives": checks}})
"""


class Sanitized:
    """The copy in `directory`, and what its interpreter needs."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "checkout"
        self.reports = directory / "reports"
        self.python = directory / "python"
        self.programs = directory / "programs"

    def make(self) -> str:
        """Copy and build. Returns what `flowserve --version` says there. Raises ServerFailed."""
        self.copy()
        self.build()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.reports)
        self.reports.mkdir(parents=True)
        settings = " ".join(f"{name}='{value}'" for name, value in self.environment().items())
        script(self.python, f"env {settings} {sys.executable}")
        self.programs.mkdir(exist_ok=True)
        for path in filter(None, map(shutil.which, FOREIGN)):
            script(self.programs / Path(path).name, f"env -u LD_PRELOAD {path}")
        version = flowserve_version(str(self.python), False, self.root)
        if "(compiled)" not in version:
            raise ServerFailed(f"not all modules could be built with the sanitizers: {version}")
        self.check()
        return version

    def check(self) -> None:
        """That there is something to be seen, and that it would be. Raises ServerFailed."""
        for path in self.root.glob("flowserve/**/*.so"):
            code = path.read_bytes()
            if b"__asan_report" not in code or b"__ubsan_handle" not in code:
                raise ServerFailed(f"{path} has been built without the sanitizers")
        subprocess.run([self.python, "-c", OVERRUN], capture_output=True, check=False)
        if not any("heap-buffer-overflow" in each for each in self.findings()):
            raise ServerFailed("the sanitizers don't report what is written behind the end of a block")

    def copy(self) -> None:
        """Bring the copy up to date, and remove what the checkout does not have any more."""
        wanted = {path.relative_to(CHECKOUT) for name in SOURCES for path in files(CHECKOUT / name)}
        changed = {path for path in wanted if update(self.root / path, sanitized(CHECKOUT / path))}
        if update(self.root / "CFLAGS", CFLAGS.encode()):
            changed.add(Path("CFLAGS"))
        if any(path.suffix == ".pxd" or path.name in EVERYWHERE for path in changed):
            for path in wanted:
                if path.with_suffix(".pxd") in wanted:
                    (self.root / path).touch()
        for path in list(files(self.root, built=True)):
            source = path.with_name(path.name.partition(".")[0] + ".py") if path.suffix in MADE else path
            if "build" not in path.parts and source.relative_to(self.root) not in wanted:
                path.unlink()

    def build(self) -> None:
        command = [sys.executable, "-c", SETUP, "-q", "build_ext", "--inplace"]
        environment = {**os.environ, "CFLAGS": CFLAGS, "LDFLAGS": CFLAGS, "CC": "gcc"}
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerFailed(f"the modules can't be built with the sanitizers:\n{done.stderr[-3000:]}")

    def environment(self) -> dict[str, str]:
        """What lets an interpreter that knows nothing of sanitizers run such modules, and has findings written down.

        Leaks are not looked for at the end, where CPython leaves much behind: `leaks.py` does that.
        """
        here = f"log_path={self.reports}/finding"
        memory = "allocator_may_return_null=1:max_allocation_size_mb=3072"
        return {
            "LD_PRELOAD": f"{library('libasan.so')} {library('libubsan.so')}",
            "ASAN_OPTIONS": f"detect_leaks=0:abort_on_error=1:{memory}:{here}",
            "UBSAN_OPTIONS": f"print_stacktrace=1:{here}",
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": str(self.root),
            "PATH": f"{self.programs}:{os.environ.get('PATH', os.defpath)}",
        }

    def findings(self) -> list[str]:
        """What the sanitizers have said since this was last asked, a text for each process; one for each place."""
        found: dict[str, str] = {}
        for path in sorted(self.reports.glob("finding*")):
            text = path.read_text(errors="replace")
            path.unlink()
            faults = [line for line in text.splitlines() if "SUMMARY" in line or "runtime error:" in line]
            if faults or not TOO_MUCH.fullmatch(text):
                found.setdefault("\n".join(faults) or text, text)
        return list(found.values())


def script(path: Path, command: str) -> None:
    """Write a program that is `command` with the arguments it gets."""
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)


def sanitized(path: Path) -> bytes:
    """A file of the checkout, as the copy has it: with Cython's checks."""
    content = path.read_bytes()
    return UNCHECKED.sub(rb"\1=True", content) if path.with_suffix(".pxd").exists() else content


def update(target: Path, content: bytes) -> bool:
    """Write a file unless it is as it should be. Returns whether it was not."""
    if target.exists() and target.read_bytes() == content:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return True


def files(place: Path, built: bool = False) -> list[Path]:
    """The files at `place`, without what is `built` unless that is asked for."""
    if place.is_file():
        return [place]
    found = [path for path in place.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return found if built else [path for path in found if path.suffix not in MADE]


def library(name: str) -> str:
    """Where gcc has a library. Raises ServerFailed."""
    try:
        path = subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip()
    except OSError:
        raise ServerFailed("gcc is not there; install it: apt-get install gcc libc6-dev") from None
    if path == name:
        raise ServerFailed(f"gcc has no {name}; install it with gcc's own packages")
    return path
