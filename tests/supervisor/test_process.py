"""A supervisor without descriptors can't start a worker: an error of flowserve's, after which it tries again."""

from __future__ import annotations

import contextlib
import os
import resource
from unittest.mock import Mock

import pytest

from flowserve import Config
from flowserve.errors import FlowserveError
from flowserve.supervisor.process import WorkerProcess


@pytest.mark.parametrize("left", [0, 1, 2, 3])
async def test_that_is_no_bare_oserror(left: int) -> None:
    """It ends the supervisor, as everything does that it does not expect."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    held: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(left):
            os.close(held.pop())
        with pytest.raises(FlowserveError, match="can't start a worker process: Too many open files"):
            await WorkerProcess.start(Config("support.helpers:hello"), [], Mock())
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
