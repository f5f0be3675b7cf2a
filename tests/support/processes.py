"""Whether processes live."""

from __future__ import annotations

from support.helpers import until

LONG = 20.0
"""Seconds; what takes a second on a machine that has nothing else to do comes within."""


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            # proc(5): Z and X are dead, though nobody asked for it yet
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until_dead(pid: int) -> None:
    await until(lambda: not is_alive(pid), LONG)
