"""The bounds of presence, and its times."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Sizes are in bytes, times in seconds."""

    info: int = 1024
    """Of a member's info, as JSON."""
    listed: int = 10_000
    """Members of one topic that are listed, or held of other processes; all are counted."""
    held: int = 200_000
    """Members of all topics that are held of other processes."""
    watches: int = 10_000
    """Topics whose presence one process follows."""
    message: int = 128 << 10
    """Of one message between processes, roughly."""
    interval: float = 1.0
    """Between two messages about changes, to other processes and to clients: what comes meanwhile goes into one."""
    prompt: float = 0.05
    """Between two messages where one asks or answers."""
    heartbeat: float = 5.0
    """Between two messages of a process of which nothing changes."""
    expiry: float = 29.0
    """After which a process that is not heard of counts as dead, with its members; that shows in an interval."""
    discovery: float = 0.25
    """For which a process that knows no other waits for those that answer."""
    answer: float = 1.0
    """For which the answers of those that are known are waited for."""
    lease: float = 60.0
    """For which a topic is followed after it was asked for."""


limits = Limits()
"""Those of the trackers that are made from now on."""
