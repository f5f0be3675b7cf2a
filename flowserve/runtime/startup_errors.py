"""What to log when the server can't start or stops because of an error: a line, an exit status, details where they
help."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple

from flowserve.errors import FlowserveError, StartupFailed

CANNOT_START = 1
WRONG_USAGE = 2
STARTUP_FAILED = 3
INTERRUPTED = 130
"""Exit statuses of the command and of `run()`."""

_LOADER = "flowserve.asgi.loader"


class Failure(NamedTuple):
    """`line` says what is wrong, `status` is the exit status, `details` are lines to show before it, or empty."""

    line: str
    status: int = CANNOT_START
    details: str = ""


def explain(error: BaseException, app: str) -> Failure:
    """Describe the exception that serving `app` raised. A traceback is included if the application's code raised it,
    starting at the application's first frame, and if it is unexpected."""
    if isinstance(error, StartupFailed):
        return _explain_startup(str(error))
    if isinstance(error, FlowserveError):
        return Failure(str(error))
    app_frames = _frames_below_loader(error.__traceback__)
    if app_frames is None:
        return Failure(f"stopped by an unexpected {type(error).__name__}", details=_format(error, error.__traceback__))
    line = f"{app!r} could not be loaded: its code raised {type(error).__name__}"
    return Failure(line, details=_format(error, app_frames[0] if app_frames else None))


def _explain_startup(message: str) -> Failure:
    lines = message.strip().splitlines()
    if len(lines) < 2:
        return Failure(message, STARTUP_FAILED)
    # Starlette sends a traceback; Litestar that of an exception group, which is framed
    last = next((text for line in reversed(lines) if (text := line.strip(" |+-"))), "")
    return Failure(f"application startup failed: {last}", STARTUP_FAILED, "\n".join(lines))


def _format(error: BaseException, trace: TracebackType | None) -> str:
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip("\n")


def _frames_below_loader(trace: TracebackType | None) -> list[TracebackType] | None:
    """Return the traceback entries below the loader, none for a syntax error; None if the loader did not raise it."""
    entries = list(_entries(trace))
    modules = [str(entry.tb_frame.f_globals.get("__name__")) for entry in entries]
    if _LOADER not in modules or modules[-1] == _LOADER:
        return None
    start = modules.index(_LOADER)
    while start < len(entries) and (modules[start] == _LOADER or modules[start].split(".")[0] == "importlib"):
        start += 1
    return entries[start:]


def _entries(trace: TracebackType | None) -> Iterable[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next
