"""The line about listening: what runs, and Ctrl-C where it works for whoever reads the line."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest
from support.terminal import Terminal, flowserve

from flowserve.runtime.start_line import about
from flowserve.version import __version__

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="terminals")
TESTS = str(Path(__file__).parents[1])
COMMAND = ("support.helpers:hello", "--port", "0", "--app-dir", TESTS, "--loop", "asyncio")


def test_without_a_terminal() -> None:
    assert re.fullmatch(rf" \(flowserve {re.escape(__version__)}, (compiled|pure Python), asyncio\)", about("asyncio"))


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one", "workers"])
async def test_in_a_terminal(options: tuple[str, ...]) -> None:
    terminal = Terminal(*COMMAND, *options)
    try:
        await terminal.shows(", asyncio; Ctrl-C to stop)")
        assert "http://127.0.0.1:" in terminal.text
        terminal.type("\x03")
        await terminal.shows("SIGINT: shutting down")
        assert await terminal.end() == 0
        assert terminal.text.rstrip().endswith("Stopped")
    finally:
        terminal.close()


async def test_what_cannot_start_says_one_line() -> None:
    status, out, err = await flowserve("support.helpers:missing", "--app-dir", TESTS, "--port", "0")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert signal.SIGINT.name not in err
