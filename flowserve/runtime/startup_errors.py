"""What to say when the server can't start, or stops by an error: a line, an exit status, details where they help."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple

from flowserve.errors import FlowserveError, StartupFailed

CANNOT_START = 1
STARTUP_FAILED = 3

_LOADER = "flowserve.asgi.loader"


class Failure(NamedTuple):
    """`line` says what is wrong, `status` is the exit status, `details` are lines to show before, or empty."""

    line: str
    status: int = CANNOT_START
    details: str = ""


def explain(error: BaseException, app: str) -> Failure:
    """Explain what serving `app` raised. Tracebacks are for what the application's code raised, from its first line on,
    and for what should not have happened."""
    if isinstance(error, StartupFailed):
        return _explain_startup(str(error))
    if isinstance(error, FlowserveError):
        return Failure(str(error))
    inside = _after_loader(error.__traceback__)
    if inside is None:
        return Failure(f"stopped by an unexpected {type(error).__name__}", details=_show(error, error.__traceback__))
    line = f"{app!r} could not be loaded: its code raised {type(error).__name__}"
    return Failure(line, details=_show(error, inside[0] if inside else None))


def _explain_startup(message: str) -> Failure:
    lines = message.strip().splitlines()
    if len(lines) < 2:
        return Failure(message, STARTUP_FAILED)
    # a traceback, as Starlette sends it; that of a group, as Litestar does, is framed
    last = next((text for line in reversed(lines) if (text := line.strip(" |+-"))), "")
    return Failure(f"application startup failed: {last}", STARTUP_FAILED, "\n".join(lines))


def _show(error: BaseException, trace: TracebackType | None) -> str:
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip("\n")


def _after_loader(trace: TracebackType | None) -> list[TracebackType] | None:
    """The part of a traceback behind the loader: nothing for a syntax error. None if it isn't the loader's."""
    steps = list(_walk(trace))
    modules = [str(step.tb_frame.f_globals.get("__name__")) for step in steps]
    if _LOADER not in modules or modules[-1] == _LOADER:
        return None
    start = modules.index(_LOADER)
    while start < len(steps) and (modules[start] == _LOADER or modules[start].split(".")[0] == "importlib"):
        start += 1
    return steps[start:]


def _walk(trace: TracebackType | None) -> Iterable[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next
