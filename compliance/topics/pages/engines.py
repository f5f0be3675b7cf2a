"""Starts what runs pages: Chromium, Firefox and Node, where they are installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from compliance.interop.peers import CHROMIUM, CHROMIUM_FLAGS
from compliance.topics.pages.application import CLIENT, HERE

ENGINES = {"chromium": CHROMIUM, "firefox": ("firefox", "firefox-esr"), "node": ("node",)}
_FIREFOX_PREFERENCES = 'user_pref("network.proxy.type", 0);\nuser_pref("app.update.enabled", false);\n'


def installed() -> dict[str, str]:
    """The programs that are there, by engine."""
    found = {engine: next(filter(None, map(shutil.which, names)), None) for engine, names in ENGINES.items()}
    return {engine: program for engine, program in found.items() if program is not None}


def _command(engine: str, program: str, base: str, folder: Path, count: int) -> list[str]:
    url = f"{base}/pages?name={engine}&count={count}"
    if engine == "chromium":
        return [program, *CHROMIUM_FLAGS, "--disable-dev-shm-usage", f"--user-data-dir={folder}", url]
    if engine == "firefox":
        (folder / "user.js").write_text(_FIREFOX_PREFERENCES, "utf-8")
        return [program, "--headless", "--no-remote", "--profile", str(folder), url]
    shutil.copy(CLIENT, folder / "client.mjs")
    shutil.copy(HERE / "page.mjs", folder)
    return [program, "--experimental-websocket", "--no-warnings", str(folder / "page.mjs"), base, str(count)]


@contextmanager
def started(engine: str, program: str, base: str, folder: Path, count: int) -> Iterator[None]:
    """Have `count` pages open."""
    folder.mkdir()
    process = subprocess.Popen(
        _command(engine, program, base, folder, count),
        env={**os.environ, "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
