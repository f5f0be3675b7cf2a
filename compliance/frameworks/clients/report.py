"""What the clients in Python share: telling what came of each check."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def check(name: str, seconds: float = 10.0) -> AsyncIterator[None]:
    """A line of JSON says how the block went."""
    failed = ""
    try:
        task = asyncio.current_task()
        assert task is not None
        timer = asyncio.get_running_loop().call_later(seconds, task.cancel)
        try:
            yield
        finally:
            timer.cancel()
    except asyncio.CancelledError:
        failed = f"not done within {seconds:.0f} s"
    except Exception as problem:  # whatever it was is what the server did not do
        failed = reason(problem)
    print(json.dumps({"check": name, "failed": failed}), flush=True)


def reason(problem: BaseException) -> str:
    while found := getattr(problem, "exceptions", ()):  # of an ExceptionGroup
        problem = found[0]
    return f"{type(problem).__name__}: {problem}".splitlines()[0]
