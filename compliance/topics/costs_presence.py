"""What presence costs: the memory of a member, and the messages of processes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from compliance._servers import memory_kib, process_cpu_seconds
from compliance.topics.costs_rig import Rig, Talk

MEMBERS = 10_000
MOST_MEMORY = 1024
"""Bytes of a member, in its own process and in each that follows."""
MOST_MESSAGES = 1.0
"""A second and worker, while nothing changes."""
_AT_ONCE = 100
_TOPIC = "crowd"
_QUIET = 20.0
"""Seconds for which messages are counted while nothing changes."""
_PATIENCE = 60.0


@dataclass
class Presence:
    """What members of one topic have cost, one half of them in each of two workers that both follow it."""

    backplane: str
    members: int
    memory: float
    """Bytes of a member in all workers, beside its connection and subscription: it is known in both."""
    joining: float
    """Messages a second and worker while all come."""
    quiet: float
    """And while nothing changes."""
    quiet_cpu: float
    """Share of a core of a worker then, all connections being idle."""

    @property
    def holds(self) -> bool:
        """Whether it is as promised."""
        return self.memory < 2 * MOST_MEMORY and self.quiet <= MOST_MESSAGES

    @property
    def line(self) -> str:
        return (
            f"presence on {self.backplane}: {self.members:,} members of a topic, {self.memory / 2:,.0f} bytes each in "
            f"each worker; {self.joining:.2f} messages a second and worker while they come, {self.quiet:.2f} while "
            f"nothing changes, {self.quiet_cpu:.2%} of a core"
        )


async def presence(backplane: str, rig: Rig, members: int) -> Presence:
    """Measure it."""
    lookers = await rig.both()
    loop = asyncio.get_running_loop()
    crowd: list[Talk] = []
    while len(crowd) < members:
        some = min(_AT_ONCE, members - len(crowd))
        crowd += await asyncio.gather(*(rig.open() for _ in range(some)))
    await _each(crowd, "enter", _TOPIC, None)
    await _all_look(lookers, 0)
    before, sent, began = _memory(lookers), await _sent(lookers), loop.time()
    for first in range(0, members, _AT_ONCE):
        coming = enumerate(crowd[first : first + _AT_ONCE], first)
        await asyncio.gather(*(each.ask("enter", _TOPIC, f"member {number}") for number, each in coming))
    await _all_look(lookers, members)
    joining = (await _sent(lookers) - sent) / (loop.time() - began) / 2
    memory = (_memory(lookers) - before) * 1024 / members
    await asyncio.sleep(2)  # what has changed is told
    sent, cpu, began = await _sent(lookers), _cpu(lookers), loop.time()
    await asyncio.sleep(_QUIET)
    seconds = 2 * (loop.time() - began)
    quiet, quiet_cpu = (await _sent(lookers) - sent) / seconds, (_cpu(lookers) - cpu) / seconds
    for each in (*crowd, *lookers):
        each.websocket.transport.abort()
    return Presence(backplane, members, memory, joining, quiet, quiet_cpu)


async def _each(talks: list[Talk], *action: object) -> None:
    for first in range(0, len(talks), _AT_ONCE):
        await asyncio.gather(*(each.ask(*action) for each in talks[first : first + _AT_ONCE]))


async def _all_look(lookers: tuple[Talk, Talk], members: int) -> None:
    """Wait until both workers list all members. Raises TimeoutError."""
    for each in lookers:
        await asyncio.wait_for(_looks(each, members), _PATIENCE)


async def _looks(looker: Talk, members: int) -> None:
    while await looker.ask("look", _TOPIC) != [members, True]:  # noqa: ASYNC110  (it is in another process)
        await asyncio.sleep(0.1)


async def _sent(lookers: tuple[Talk, Talk]) -> int:
    """The messages about presence that the workers have published."""
    return sum([await each.ask("sent") for each in lookers])


def _memory(lookers: tuple[Talk, Talk]) -> int:
    return sum(memory_kib(each.worker) for each in lookers)


def _cpu(lookers: tuple[Talk, Talk]) -> float:
    return sum(process_cpu_seconds(each.worker) for each in lookers)
