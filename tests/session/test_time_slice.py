"""The time of a turn of the event loop: who has used it up waits for another one, behind those that wait already."""

from __future__ import annotations

import asyncio

import pytest

from flowserve.session import time_slice
from flowserve.session.time_slice import TimeSlice


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is moved."""

    class Clock:
        now = 1000.0

        def __call__(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(time_slice, "perf_counter", clock)
    return clock


class Item:
    """Takes `cost` seconds a turn, `turns` times; writes its name into `log`."""

    def __init__(self, name, log, clock, shared, cost=0.0, turns=1):
        self.name, self.log, self.clock, self.shared, self.cost, self.turns = name, log, clock, shared, cost, turns

    def on_time_slice(self):
        self.log.append(self.name)
        self.clock.now += self.cost
        self.turns -= 1
        if self.turns:
            assert self.shared.used_up()
            self.shared.defer(self)


async def turn():
    """Let the event loop come to its end of a turn."""
    await asyncio.sleep(0)


async def use_up(clock, shared):
    assert not shared.used_up()
    clock.now += 1
    assert shared.used_up()


@pytest.mark.both_loops
async def test_a_turn_has_its_time_anew(clock):
    shared = TimeSlice(asyncio.get_running_loop())
    await use_up(clock, shared)
    assert shared.used_up()
    await turn()
    await use_up(clock, shared)


@pytest.mark.both_loops
async def test_who_waits_goes_on_in_the_next_turn(clock):
    log = []
    shared = TimeSlice(asyncio.get_running_loop())
    await use_up(clock, shared)
    for name in "abc":
        shared.defer(Item(name, log, clock, shared))
    assert log == []
    await turn()
    assert log == ["a", "b", "c"]


@pytest.mark.both_loops
async def test_a_turn_ends_when_its_time_is_used_up(clock):
    """They take turns, one each: the first asks when it has begun."""
    log = []
    shared = TimeSlice(asyncio.get_running_loop())
    await use_up(clock, shared)
    for name in "abc":
        shared.defer(Item(name, log, clock, shared, cost=1.0, turns=1))
    seen = []
    for _ in range(3):
        await turn()
        seen.append("".join(log))
    assert seen == ["ab", "abc", "abc"]


@pytest.mark.both_loops
async def test_one_that_waits_again_is_behind_the_others(clock):
    log = []
    shared = TimeSlice(asyncio.get_running_loop())
    await use_up(clock, shared)

    class Asking(Item):
        def on_time_slice(self):
            self.shared.used_up()  # its first step begins the time
            super().on_time_slice()

    for name in "abc":
        shared.defer(Asking(name, log, clock, shared, cost=1.0, turns=2))
    seen = []
    for _ in range(6):
        await turn()
        seen.append("".join(log))
    assert seen == ["a", "ab", "abc", "abca", "abcab", "abcabc"]


@pytest.mark.both_loops
async def test_an_error_is_nobody_elses(clock):
    loop = asyncio.get_running_loop()
    told, log = [], []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    shared = TimeSlice(loop)
    await use_up(clock, shared)

    class Wrong:
        def on_time_slice(self):
            raise ValueError("mine")

    shared.defer(Wrong())
    shared.defer(Item("a", log, clock, shared))
    await turn()
    assert log == ["a"]
    assert [str(error) for error in told] == ["mine"]


@pytest.mark.both_loops
async def test_the_budget_of_decoders_is_had_back_in_the_next_turn(clock):
    shared = TimeSlice(asyncio.get_running_loop())
    whole = shared.remaining
    for share in (whole // 4, whole // 2, whole):
        shared.begin()
        shared.allowance -= share
        shared.end()
    assert shared.remaining < 0
    assert shared.used_up()
    await turn()
    assert shared.remaining == whole
    assert not shared.used_up()
