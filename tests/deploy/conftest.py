"""Real programs around flowserve: gunicorn, nginx, and what systemd does."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from support.programs import HERE, Program, clean_environment


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[Program]]]:
    """`program = await start("nginx", "-c", ...)`, in a group of its own; killed at the end of the test."""
    started: list[Program] = []

    async def launch(*command: str, fds: tuple[int, ...] = (), cwd: Path | None = None, **environment: str) -> Program:
        process = await asyncio.create_subprocess_exec(
            *command,
            pass_fds=fds,
            cwd=cwd or HERE,
            env=clean_environment() | environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        started.append(Program(process))
        return started[-1]

    yield launch
    for program in started:
        await program.kill()


@pytest.fixture
def need() -> Callable[[str], str]:
    """`path = need("nginx")`: skip where the program is not installed, except where everything must be there."""

    def find(name: str) -> str:
        path = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
        if path is None:
            if os.environ.get("FLOWSERVE_CI"):
                pytest.fail(f"{name} is not installed here")
            pytest.skip(f"{name} is not installed")
        return path

    return find
