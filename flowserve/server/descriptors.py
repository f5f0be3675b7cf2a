"""Descriptors that are left to this process: enough for those who come, and a reserve for the application's files.

Event loops do badly without any: uvloop resets newcomers without a word, asyncio's logs each attempt, thousands in a
second. So whoever accepts stops while few are left; newcomers wait in the kernel's backlog.
"""

from __future__ import annotations

import os
from contextlib import suppress

try:
    import fcntl
    import resource
except ImportError:  # Windows, which knows no such limit
    fcntl = resource = None  # type: ignore[assignment]

_LARGEST_RESERVE = 64
_SHARE = 8
"""The reserve is this part of all descriptors at most; nginx stops accepting at the same part of its connections."""
_COUNTED = 256
"""Descriptors beyond the reserve that are counted; to know of more is of no use."""


def spare() -> int:
    """Return how many descriptors there are beyond the reserve, some hundreds at most; negative within it."""
    limit = None if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit is None or limit == resource.RLIM_INFINITY:
        return _COUNTED
    reserve = min(_LARGEST_RESERVE, limit // _SHARE)
    used = told_in_use()
    return min(_COUNTED, (limit - used if used else count_free(reserve + _COUNTED)) - reserve)


def told_in_use() -> int:
    """Return how many descriptors Linux says are in use, 0 where it says nothing (before 6.2, and elsewhere)."""
    try:
        return os.stat("/proc/self/fd").st_size
    except OSError:
        return 0


def count_free(most: int) -> int:
    """Count the descriptors that are not in use, up to `most`, without ever holding more than one of them."""
    found, lowest = 0, 0
    with suppress(OSError), open(os.devnull, "rb") as model:
        while found < most:
            lowest = fcntl.fcntl(model, fcntl.F_DUPFD_CLOEXEC, lowest) + 1  # the lowest that is free, from there on
            os.close(lowest - 1)
            found += 1
    return found
