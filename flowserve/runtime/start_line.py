"""What the log line about listening says besides where: what runs, and how to stop it."""

from __future__ import annotations

import os
import sys

from flowserve.compiled import is_compiled
from flowserve.runtime.event_loop import loop_name
from flowserve.version import __version__


def about(loop: str) -> str:
    """Return the end of the line: version, speed and event loop, whose option has the value `loop`; and Ctrl-C, where
    it works for whoever reads the line."""
    speed = "compiled" if is_compiled() else "pure Python"
    stop = "; Ctrl-C to stop" if _is_in_foreground() else ""
    return f" (flowserve {__version__}, {speed}, {loop_name(loop)}{stop})"


def _is_in_foreground() -> bool:
    """Whether stderr, where the line is read, is a terminal, and this process in its foreground."""
    try:
        descriptor = sys.stderr.fileno()
        return os.isatty(descriptor) and os.tcgetpgrp(descriptor) == os.getpgrp()
    except (AttributeError, OSError, ValueError):  # Windows; the terminal of another session; no stderr
        return False
