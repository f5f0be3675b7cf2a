"""What is built from a checkout: the wheel, with and without a C compiler, and the source archive."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.builds
ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "flowserve", "tests", "examples", "compliance")
MADE = ("*.so", "*.c", "*.html", "__pycache__", ".*")
EXTENSION = re.compile(r'\[\[tool\.setuptools\.ext-modules\]\]\nname = "([a-z0-9_.]+)"')

MOST = 2_900_000
"""Bytes of a wheel whose modules are not optimised; those that are take 16 % less, to be below 2.5 MB."""

# A compiler that does not optimise: how it is built is of interest here, and that in seconds.
COMPILER = """#!/bin/sh
for each do
    shift
    case $each in -O?) ;; *) set -- "$@" "$each" ;; esac
done
exec %s -O0 "$@"
"""


def run(*command: str, cwd: Path, **environment: str) -> str:
    """What a command that must succeed prints, run without the settings of this process."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWSERVE_", "PYTHON"))}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=clean | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def need(condition: object, what: str) -> None:
    """Skip without `what`, except where everything must be there."""
    if not condition:
        if os.environ.get("FLOWSERVE_CI"):
            pytest.fail(f"{what} is not installed here")
        pytest.skip(f"{what} is not installed")


class Checkout:
    """A clean copy of the checkout to build in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*MADE))
            else:
                shutil.copy2(ROOT / name, folder)
        self.before = self.files()

    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}

    def build(self, kind: str, **environment: str) -> Path:
        """Build a 'wheel' or 'sdist' in an environment that has what it takes."""
        target = self.folder.parent / f"{self.folder.name}-{kind}-{len(list(self.folder.parent.iterdir()))}"
        options = ("--no-isolation", f"--{kind}", "--outdir", str(target), str(self.folder))
        run(sys.executable, "-m", "build", *options, cwd=self.folder.parent, **environment)
        (made,) = target.iterdir()
        return made


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    pytest.importorskip("build")
    pytest.importorskip("Cython")
    return Checkout(tmp_path_factory.mktemp("packaging") / "checkout")


def names_in(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def works(wheel: Path, folder: Path, speed: str) -> None:
    """Put on the path of an interpreter, in front of what is installed, it runs, at that speed."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--no-index")
    run(*pip, "--target", str(folder), str(wheel), cwd=folder.parent)
    where = run(sys.executable, "-c", "import flowserve; print(flowserve.__file__)", cwd=folder, PYTHONPATH=str(folder))
    assert where.strip() == str(folder / "flowserve" / "__init__.py")
    script = (ROOT / "tests" / "support" / "installed.py").read_text()
    assert "HELLO" in run(sys.executable, "-c", script, speed, cwd=folder, PYTHONPATH=str(folder))


def start_in_vain(folder: Path, **environment: str) -> str:
    """What two workers and their supervisor log, with an application that is not there."""
    command = (sys.executable, "-m", "flowserve", "nowhere:app", "--workers", "2", "--port", "0")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLOWSERVE_")}
    settings = {**inherited, "PYTHONPATH": str(folder), **environment}
    done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    return done.stderr


@pytest.fixture
def compiler(tmp_path):
    real = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    need(real, "a C compiler")
    script = tmp_path / "cc"
    script.write_text(COMPILER % real)
    script.chmod(0o755)
    return str(script)


def test_wheel(checkout, compiler, tmp_path):
    wheel = checkout.build("wheel", CC=compiler)
    names = names_in(wheel)
    modules = [name.replace(".", "/") for name in EXTENSION.findall((ROOT / "pyproject.toml").read_text())]
    assert "flowserve/session/session" in modules
    for module in modules:
        if module != "flowserve/_cyutility":  # which Cython makes
            assert f"{module}.py" in names
            assert f"{module}.pxd" in names
        assert [name for name in names if re.fullmatch(rf"{module}\.[^/]*\.(so|pyd)", name)]
    assert "flowserve/py.typed" in names
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    assert not [name for name in names if name.endswith(".c")]
    assert {name.split("/")[0].split("-")[0] for name in names} == {"flowserve"}
    assert wheel.stat().st_size < MOST
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in names if name.endswith(".so") and b".debug_info" in archive.read(name)]
    works(wheel, tmp_path / "there", "compiled")


def test_wheel_without_a_compiler(tmp_path):
    """Where the compiler fails the installation does not, and all runs as plain Python; the server says so once."""
    pytest.importorskip("build")
    pytest.importorskip("Cython")
    wheel = Checkout(tmp_path / "checkout").build("wheel", CC="/bin/false")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in names_in(wheel) if name.endswith((".so", ".pyd", ".c"))]
    works(wheel, tmp_path / "there", "pure")
    for options, notices in (({}, 1), ({"FLOWSERVE_PURE": "1"}, 0)):
        assert start_in_vain(tmp_path / "there", **options).count("runs as plain Python") == notices


def test_wheel_without_extensions(checkout, tmp_path):
    wheel = checkout.build("wheel", FLOWSERVE_NO_EXTENSIONS="1")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = names_in(wheel)
    assert not [name for name in names if name.endswith((".so", ".pyd", ".c"))]
    pages = {name for name in checkout.before if name.startswith("flowserve/") and name.endswith(".md")}
    assert "flowserve/config/README.md" in pages
    assert pages <= set(names)
    assert [name for name in names if name.endswith(".1")] == [
        f"{'-'.join(wheel.name.split('-')[:2])}.data/data/share/man/man1/flowserve.1"
    ]
    works(wheel, tmp_path / "there", "pure")


def test_sdist(checkout, tmp_path):
    """It has all that the package is made of, so that the same wheel comes from it."""
    with tarfile.open(checkout.build("sdist")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    package = {name for name in checkout.before if name.startswith("flowserve/")}
    assert {"pyproject.toml", "README.md", "LICENSE", *package} <= names
    assert not [name for name in names if name.endswith((".so", ".c", ".pyc"))]


def test_building_leaves_nothing_unexpected(checkout):
    """What the builds of the tests before have made is what .gitignore names."""
    made = checkout.files() - checkout.before
    assert not [name for name in made if not re.match(r"build/|flowserve\.egg-info/|.*\.c$|.*/__pycache__/", name)]


@pytest.mark.parametrize("given", [[], ["-O0", "-g"]])
def test_flags_of_the_environment_win(monkeypatch, given):
    """As packagers and the sanitizers need it: CFLAGS come last, and with them the names of functions stay."""
    setuptools = pytest.importorskip("setuptools")
    from flowserve import _build

    monkeypatch.setenv("CFLAGS", " ".join(given))
    monkeypatch.setattr(_build._build_ext, "build_extension", lambda command, extension: None)
    command = _build.build_ext(setuptools.Distribution())
    command.compiler = SimpleNamespace(compiler_type="unix")
    extension = setuptools.Extension("flowserve.websocket.payload", ["flowserve/websocket/payload.py"])
    command.build_extension(extension)
    own = ["-O1", "-g0", "-w", "-DNDEBUG"]
    assert extension.extra_compile_args == [*own, *given]
    assert extension.extra_link_args == ([] if given else ["-Wl,-s" if sys.platform == "linux" else "-Wl,-x"])
