"""Which files --reload watches, and what it says has changed."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from support.helpers import until, within

from flowserve import Config
from flowserve.errors import ConfigError
from flowserve.supervisor import changes as module
from flowserve.supervisor.changes import Changes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no --reload there")


@pytest.mark.parametrize(
    ("path", "watched"),
    [
        ("a.py", True),
        ("package/deep/a.py", True),
        ("a.html", False),
        (".hidden.py", False),
        (".venv/lib/a.py", False),
        ("__pycache__/a.py", False),
        ("data/a.py", False),
        ("package/data/a.py", False),
        ("package/generated/a.py", False),
        ("templates/a.jinja", True),
        ("other/a.jinja", False),
    ],
)
def test_patterns(tmp_path, path, watched):
    changes = Changes(
        Config(
            "a:app",
            reload_dirs=[tmp_path],
            reload_includes=["*.py", "templates/*.jinja"],
            reload_excludes=[".*", "__pycache__", "data/*", "package/generated"],
        )
    )
    assert changes.is_watched(None, str(tmp_path / path)) is watched


def test_patterns_add_to_the_defaults(tmp_path, monkeypatch):
    """Unless the opposite option has them, as in uvicorn."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drafts").mkdir()

    def watched(*names: str, **options: Any) -> list[str]:
        changes = Changes(Config("a:app", **options))
        return [name for name in names if changes.is_watched(None, os.path.realpath(name))]

    assert watched("a.py", "a.html", ".a.html", reload_includes="*.html") == ["a.py", "a.html"]
    assert watched("a.py", "a.html", reload_includes="*.html", reload_excludes="*.py") == ["a.html"]
    assert watched("a.py", ".a.py", "t.py", reload_includes=".*", reload_excludes="t.py") == ["a.py", ".a.py"]
    assert watched("a.py", "b/drafts/a.py", "b/a.css", reload_excludes="b/drafts/*", reload_includes="b/*.css") == [
        "a.py",
        "b/a.css",
    ]
    monkeypatch.chdir(tmp_path / "drafts")
    assert watched("a.py", "b.py", reload_excludes="drafts/a*") == ["b.py"]
    monkeypatch.chdir(tmp_path)
    for excluded in ("./drafts", str(tmp_path / "drafts"), "drafts"):
        assert watched("a.py", "drafts/a.py", reload_excludes=excluded) == ["a.py"]


def test_folders(tmp_path, monkeypatch):
    """By default the current folder, and that of the application; none twice."""
    monkeypatch.chdir(tmp_path)
    for name in ("src", "here", "here/within"):
        (tmp_path / name).mkdir()
    real = os.path.realpath(tmp_path)
    assert Changes(Config("a:app")).folders == [real]
    assert Changes(Config("a:app", app_dir="src")).folders == [real]
    monkeypatch.chdir(tmp_path / "here")
    assert Changes(Config("a:app", app_dir="../src")).folders == [f"{real}/here", f"{real}/src"]
    assert Changes(Config("a:app", reload_dirs=[".", "within", "../src"])).folders == [f"{real}/here", f"{real}/src"]
    assert Changes(Config("a:app", reload_includes=["../src", "*.html"])).folders == [f"{real}/src"]
    with pytest.raises(ConfigError, match="--reload-dir: 'nowhere' is not there"):
        Changes(Config("a:app", reload_dirs=["nowhere"]))


def test_folders_that_may_not_be_read(tmp_path, monkeypatch, logs):
    monkeypatch.setattr(module.os, "access", lambda path, _mode: Path(path).name != "private")  # root may read all
    (tmp_path / "private").mkdir()
    config = Config("a:app", reload_dirs=[tmp_path / "private", tmp_path])
    assert Changes(config).folders == [os.path.realpath(tmp_path)]
    assert logs.lines() == [f"--reload-dir: '{tmp_path}/private' may not be read, so its changes are not noticed"]
    with pytest.raises(ConfigError, match="--reload-dir: no folder that may be read is left"):
        Changes(Config("a:app", reload_dirs=[tmp_path / "private"]))


async def test_polling(tmp_path, monkeypatch, logs):
    """New files, changed ones and those that have gone, each once; circles end."""
    monkeypatch.setattr(module, "watchfiles", None)
    (tmp_path / "circle").symlink_to(".")
    (tmp_path / "old.py").touch()
    changes = Changes(Config("a:app", reload_dirs=[tmp_path], reload_delay=0.01))
    iterator = aiter(changes)
    first = asyncio.ensure_future(anext(iterator))
    await until(lambda: logs.lines())
    assert logs.lines() == [
        "watchfiles is missing; pip install watchfiles, which notices changes sooner and for less CPU time than looking"
        " for them does"
    ]
    (tmp_path / "new.py").touch()
    assert await within(first) == [os.path.join(changes.folders[0], "new.py")]
    (tmp_path / "old.py").write_text("longer")
    assert list(map(changes.name, await within(anext(iterator)))) == ["old.py"]
    (tmp_path / "new.py").unlink()
    assert list(map(changes.name, await within(anext(iterator)))) == ["new.py"]
    await iterator.aclose()
