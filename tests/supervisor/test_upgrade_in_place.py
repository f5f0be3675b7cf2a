"""A new version is installed over the one that runs, then SIGHUP: the old supervisor starts workers of the new version,
though its modules lie elsewhere there."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from support.helpers import CLOSE

import flowserve
from flowserve.topics.local.wire import VERSION
from flowserve.version import __version__

from .conftest import APP, Start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process only")

NEW = "987.6"
TELLS_VERSION = APP.replace('VERSION = "old"', "from flowserve.version import __version__ as VERSION")


def install(folder: Path) -> Path:
    """Put a copy of the package, as plain Python, where `python -m flowserve` in `folder` finds it first."""
    place = folder / "flowserve"
    ignored = shutil.ignore_patterns("*.so", "*.pyd", "*.c", "__pycache__")
    shutil.copytree(Path(flowserve.__file__).parent, place, ignore=ignored)
    return place


def upgrade(folder: Path) -> None:
    """What pip does, with a version in which modules of the supervisor have moved."""
    shutil.rmtree(folder / "flowserve")
    place = install(folder)
    (place / "version.py").write_text(f'__version__ = "{NEW}"\n')
    for old, new in (("manager", "chief"), ("pidfile", "main_file"), ("counts", "sums")):
        (place / "supervisor" / f"{old}.py").rename(place / "supervisor" / f"{new}.py")
        for path in place.rglob("*.py"):
            text = path.read_text("utf-8")
            path.write_text(text.replace(f"flowserve.supervisor.{old} ", f"flowserve.supervisor.{new} "), "utf-8")


PUBLISHES = APP.replace(
    '        body = f"{os.getpid()} {VERSION}".encode()',
    """        from flowserve import topics
        try:
            said = "at" if await topics.publish("t", "hello") else "nowhere"
        except topics.TopicsError as error:
            said = error
        body = f"{os.getpid()} {said}".encode()""",
)
"""Publishes with each request, and says what became of it."""


async def test_workers_that_speak_another_version_of_topics(start: Start, tmp_path: Path) -> None:
    install(tmp_path)
    program = await start("--workers", "2", files={"application.py": PUBLISHES})
    old = await program.workers(2)
    wire = tmp_path / "flowserve" / "topics" / "local" / "wire.py"
    text = wire.read_text("utf-8")
    wire.write_text(text.replace(f'VERSION = b"{VERSION.decode()}"', 'VERSION = b"next"'), "utf-8")
    assert wire.read_text("utf-8") != text
    program.signal(signal.SIGHUP)
    await program.logged("All workers are new")
    answer = (await program.get()).body.decode()
    while int(answer.split()[0]) in old:  # one that is ending has accepted the connection
        answer = (await program.get()).body.decode()
    assert f"version next of the protocol of topics, the supervisor version {VERSION.decode()}, " in answer
    await program.logged("ERROR.*Topics can't be used: .*: restart the supervisor")
    await program.stop()


async def test_an_upgrade_in_place(start: Start, tmp_path: Path) -> None:
    install(tmp_path)
    program = await start("--workers", "2", files={"application.py": TELLS_VERSION})
    old = await program.workers(2)
    assert (await program.identity())[1] == __version__
    client, holder = await program.open_ws()
    assert holder in old

    upgrade(tmp_path)
    assert (await program.identity())[1] == __version__
    program.signal(signal.SIGHUP)
    await program.logged("All workers are new")
    end = await client.frame()
    assert (end.opcode, end.payload[:2]) == (CLOSE, (1012).to_bytes(2, "big"))
    new = await program.workers(2, without=old)
    assert (await program.identity())[1] == NEW

    os.kill(new.pop(), signal.SIGKILL)
    await program.logged("killed by SIGKILL")
    await program.workers(2, without=old)
    assert (await program.identity())[1] == NEW
    await program.stop()
