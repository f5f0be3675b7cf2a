"""Event loops for commands."""

from __future__ import annotations

import errno
from typing import Any

from flowserve.runtime.event_loop import event_loop


def test_used_up_descriptors_are_told_of_once_a_second(logs: Any) -> None:
    """asyncio tells of each connection that waits, thousands in a second."""
    with event_loop("asyncio") as loop:
        error = OSError(errno.EMFILE, "Too many open files")
        for _ in range(1000):
            loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": error})
        assert logs.errors == ["flowserve: No connection can be accepted (ulimit -n): [Errno 24] Too many open files"]
        loop.call_exception_handler({"message": "something else"})
        assert logs.errors[1:] == ["asyncio: something else"]
