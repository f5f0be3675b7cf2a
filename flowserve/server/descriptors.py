"""The number of file descriptors that are left for connections, beyond a reserve for the application's files.

Event loops handle exhaustion badly: uvloop resets new connections silently, asyncio's loop logs each attempt, thousands
of times a second. So an acceptor pauses while few are left, and new connections wait in the kernel's backlog.
"""

from __future__ import annotations

import os
from contextlib import suppress

try:
    import fcntl
    import resource
except ImportError:  # Windows, which has no such limit
    fcntl = resource = None  # type: ignore[assignment]

_LARGEST_RESERVE = 64
_RESERVE_DIVISOR = 8
"""The reserve is at most the limit divided by this; nginx stops accepting at the same part of its connections."""
_MAX_COUNTED = 256
"""Most descriptors beyond the reserve that are counted; a higher number would not be used."""


def spare_descriptors() -> int:
    """Return how many descriptors are free beyond the reserve, at most _MAX_COUNTED; negative if the reserve is in
    use."""
    limit = None if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit is None or limit == resource.RLIM_INFINITY:
        return _MAX_COUNTED
    reserve = min(_LARGEST_RESERVE, limit // _RESERVE_DIVISOR)
    used = descriptors_in_use()
    return min(_MAX_COUNTED, (limit - used if used else count_free_descriptors(reserve + _MAX_COUNTED)) - reserve)


def descriptors_in_use() -> int:
    """Return the number of descriptors in use as Linux reports it; 0 where it does not (before 6.2, and on other
    systems)."""
    try:
        return os.stat("/proc/self/fd").st_size
    except OSError:
        return 0


def count_free_descriptors(maximum: int) -> int:
    """Count free descriptors, up to `maximum`, without holding more than one of them at a time."""
    count, lowest = 0, 0
    with suppress(OSError), open(os.devnull, "rb") as model:
        while count < maximum:
            lowest = fcntl.fcntl(model, fcntl.F_DUPFD_CLOEXEC, lowest) + 1  # the lowest free one from `lowest` on
            os.close(lowest - 1)
            count += 1
    return count
