"""The two servers' command lines, and starting what a row needs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from compliance._servers import HOST, Server, flowserve_command, flowserve_env, free_port, serving
from compliance.frameworks.checks.ending import GRACE
from compliance.frameworks.environment import program
from compliance.frameworks.rows import Row

APPS = Path(__file__).resolve().parent / "apps"
SERVERS = ("flowserve", "uvicorn")
WORKERS = {"flowserve": "flowserve.gunicorn.Worker", "uvicorn": "uvicorn_worker.UvicornWorker"}


def command(name: str, row: Row, python: str, port: int, loop: str) -> list[str]:
    """The command that serves the row's application with the server `name`."""
    if row.under == "gunicorn":
        bind = ["--bind", f"{HOST}:{port}", "--chdir", str(APPS), "--graceful-timeout", str(GRACE)]
        return [python, "-m", "gunicorn", "-k", WORKERS[name], *bind, *row.options, row.app]
    options = ["--timeout-graceful-shutdown", str(GRACE), "--loop", loop, *row.options]
    if name == "flowserve":
        found = flowserve_command(python, row.app, APPS, port, *options)
    else:
        listen = ["--host", HOST, "--port", str(port)]
        found = [python, "-m", name, *listen, "--app-dir", str(APPS), "--no-access-log", *options, row.app]
    if row.under == "debugpy":
        return [python, "-X", "frozen_modules=off", "-m", "debugpy", "--listen", f"{HOST}:{free_port()}", *found[1:]]
    return found


@contextlib.contextmanager
def started(name: str, row: Row, python: str, loop: str, pure: bool) -> Iterator[Server]:
    """The row's application on the server `name`, and a Redis beside it where the row wants one."""
    with contextlib.ExitStack() as stack:
        port = free_port()
        env = {**flowserve_env(pure), "PYTHONUNBUFFERED": "1", "PORT": str(port)}
        if row.redis:
            env["REDIS_PORT"] = str(stack.enter_context(redis()).port)
        directory = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        env["SCRATCH"] = directory
        yield stack.enter_context(
            serving(command(name, row, python, port, loop), port=port, env=env, cwd=APPS, timeout=60)
        )


@contextlib.contextmanager
def redis() -> Iterator[Server]:
    port = free_port()
    options = ["--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no"]
    with serving([program("redis-server", "redis-server"), *options], port=port) as server:
        yield server
