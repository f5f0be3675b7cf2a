"""--reload: new code at once, whatever is connected, and patience with code that does not work."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from support.helpers import until, within

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process only")

LONG = 20.0


def rewrite(program, old: str, new: str) -> None:
    application = program.folder / "application.py"
    text = application.read_text()
    assert old in text
    application.write_text(text.replace(old, new))


async def version(program, wanted: str) -> None:
    """Ask until the application has the version."""
    deadline = time.monotonic() + LONG
    while (await program.identity())[1] != wanted:
        assert time.monotonic() < deadline, program.log
        await asyncio.sleep(0.02)


async def test_open_websockets_do_not_hold_it_up(start):
    """100 of them that never answer a close. The text that changes has the same length, within the same second."""
    program = await start("--reload", bytecode=True)
    await program.logged("Watching")
    clients = [await program.open_ws() for _ in range(100)]
    begin = time.monotonic()
    rewrite(program, '"old"', '"new"')
    await version(program, "new")
    taken = time.monotonic() - begin
    for client, _ in clients:
        code, reason = await client.close_frame()
        assert (code, reason) == (1012, "the server is shutting down")
        await client.rest()
    assert taken < 10  # on an idle machine a second
    await program.logged(r"Changed: application\.py; starting anew")
    rewrite(program, '"new"', '"3rd"')
    await version(program, "3rd")
    await program.stop()


async def test_a_worker_that_blocks_is_killed(start):
    program = await start("--reload")
    client = await program.connect()
    await client.raw(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
    await until((program.folder / "blocked").exists, LONG)
    rewrite(program, '"old"', '"new"')
    await version(program, "new")
    assert await client.rest() == b""
    await program.stop()


async def test_code_that_fails(start):
    """Its traceback and a line are shown; then the next change is waited for."""
    program = await start("--reload")
    pid, _ = await program.identity()
    rewrite(program, "import os, time", "import os, time; 1 / 0")
    found = await program.logged("waiting for a change")
    assert found.string.endswith(
        "'application:app' could not be loaded: its code raised ZeroDivisionError; waiting for a change"
    )
    assert sum(line.startswith("Traceback") for line in program.lines) == 1
    assert sum("ZeroDivisionError: division by zero" in line for line in program.lines) == 1
    asking = program.background(program.identity())  # waits, too
    rewrite(program, "; 1 / 0", "")
    assert (await within(asking, LONG))[0] != pid
    await program.stop(tracebacks=1)
    assert program.log.count("waiting for a change") == 1


async def test_code_that_fails_from_the_start(start):
    program = await start("--reload", files={"application.py": "import missing_module\n"}, serving=False)
    await program.logged("waiting for a change")
    assert program.process.returncode is None
    (program.folder / "application.py").write_text("async def app(scope, receive, send): pass\n")
    await program.logged(r"Worker \d+ serves on")
    await program.stop(tracebacks=1)


async def test_a_worker_that_dies(start):
    program = await start("--reload")
    pid, _ = await program.identity()
    os.kill(pid, signal.SIGKILL)
    await program.logged(rf"Worker {pid} was killed by SIGKILL; waiting for a change")
    rewrite(program, '"old"', '"new"')
    await version(program, "new")
    os.kill(program.process.pid, signal.SIGHUP)
    again, _ = await program.identity()
    await program.stop()
    assert again != pid


async def test_ctrl_c(start):
    program = await start("--reload")
    await program.open_ws()
    os.killpg(program.process.pid, signal.SIGINT)
    assert await program.wait() == 0
    assert "Traceback" not in program.log


async def test_what_is_watched(start):
    program = await start(
        *("--reload", "--reload-dir", "code", "--reload-dir", "pages", "--reload-include", "*.html"),
        *("--reload-exclude", "code/old", "--reload-exclude", "drafts"),
        files={},
        folders=("code/old", "pages/drafts"),
    )
    folder: Path = program.folder
    for name in ("elsewhere.html", "code/notes.txt", "pages/drafts/a.html"):
        (folder / name).write_text("changed")
    (folder / "pages/index.html").write_text("changed")
    found = await program.logged("Changed: ")
    assert found.string.endswith("Changed: index.html; starting anew")
    await program.stop()


RESTRICTED = """
import os, sys
command = [sys.executable, "-m", "flowserve", "application:app", "--reload", "--port", "0", "--no-access-log"]
if not os.geteuid():  # else root reads everything
    command = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *command]
os.execvp(command[0], command)
"""


def not_ours(folder: Path) -> None:
    """Have it belong to somebody else, or at least closed."""
    folder.mkdir(mode=0o700)
    if os.geteuid():
        folder.chmod(0)
    else:
        os.chown(folder, 65534, 65534)


NO_WATCHFILES = "raise ImportError('not here')\n"
"""A module in the way stands for one that is not installed: importing it fails in the same way."""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
@pytest.mark.parametrize("more", [{}, {"watchfiles.py": NO_WATCHFILES}], ids=["watchfiles", "polling"])
async def test_folders_that_may_not_be_read_dangle_and_vanish(start, tmp_path, more):
    """They are not watched; the rest is, folders behind them too."""
    not_ours(tmp_path / "private")
    (tmp_path / "dangling.py").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to(".")
    files = {"restricted.py": RESTRICTED, **more}
    program = await start(script="restricted.py", files=files, folders=("vanishing", "zoo"))
    await program.logged("Watching")
    if more:
        await program.logged("watchfiles is missing; pip install watchfiles")
    (tmp_path / "zoo/module.py").write_text("")
    await program.logged(r"Changed: zoo/module\.py;")
    (tmp_path / "vanishing").rmdir()
    rewrite(program, '"old"', '"new"')
    await version(program, "new")
    (tmp_path / "private").chmod(0o700)
    await program.stop()


async def test_without_watchfiles(start):
    """The files are looked at again and again, and the log says once what would be better."""
    program = await start("--reload", files={"watchfiles.py": NO_WATCHFILES})
    for old, new in (("old", "new"), ("new", "3rd")):
        rewrite(program, f'"{old}"', f'"{new}"')
        await version(program, new)
    await program.stop()
    assert program.log.count("watchfiles is missing; pip install watchfiles") == 1
    assert program.log.count("Changed: application.py;") == 2
