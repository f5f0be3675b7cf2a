"""One timer for many connections, under a clock that the test moves."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowserve.transport.timers import Timed, Timers

START = 1000.0
TICK = 0.05
"""Seconds; deadlines are looked at no more often."""


class ClockLoop(asyncio.SelectorEventLoop):
    """Its time stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = START
        self.timers_made = 0
        super().__init__()

    def time(self) -> float:
        return self.now

    def call_at(self, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        self.timers_made += 1
        return super().call_at(*args, **kwargs)

    def turn(self) -> None:
        """Run what is due now."""
        self.run_until_complete(asyncio.sleep(0))

    def jump(self, now: float) -> None:
        """Go to a time at once, as after a callback that held the loop up."""
        self.now = now
        self.turn()

    def walk(self, until: float, step: float = TICK / 5) -> None:
        """Go to a time in small steps."""
        while self.now < until - step / 2:
            self.jump(self.now + step)


class Item(Timed):
    """Remembers when it was called, and what time it was told."""

    def __init__(self, then: Callable[[Item], None] | None = None) -> None:
        self.deadline = 0.0
        self.tick = 0
        self.calls: list[float] = []
        self.told: list[float] = []
        self.then = then

    def on_deadline(self, now: float) -> None:
        assert self.tick == 0
        self.calls.append(asyncio.get_running_loop().time())
        self.told.append(now)
        if self.then is not None:
            self.then(self)


@pytest.fixture
def loop() -> Iterator[ClockLoop]:
    loop = ClockLoop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: errors.append(context))
    yield loop
    loop.close()
    assert errors == []


@pytest.fixture
def timers(loop: ClockLoop) -> Iterator[Timers]:
    timers = Timers(loop)
    yield timers
    timers.close()


def check_called(item: Item, deadline: float) -> None:
    """Once, not before its deadline, and no more than a tick (and a step of the clock) after it."""
    assert len(item.calls) == 1
    assert deadline - 1e-6 <= item.calls[0] <= deadline + TICK + TICK / 5 + 1e-6


@pytest.mark.parametrize("after", [0.001, 0.049, 0.05, 0.051, 0.5, 1.0, 7.77])
def test_called_at_its_deadline(loop: ClockLoop, timers: Timers, after: float) -> None:
    item = Item()
    timers.set(item, START + after)
    assert item.deadline == START + after
    loop.walk(START + after + 1)
    check_called(item, START + after)
    assert item.tick == 0


def test_a_deadline_in_the_past_is_due_at_once(loop: ClockLoop, timers: Timers) -> None:
    item = Item()
    timers.set(item, START - 10)
    loop.turn()
    assert item.calls == [START]


def test_now_is_never_before_the_deadline(loop: ClockLoop, timers: Timers) -> None:
    """Though event loops may be early by their clock's resolution; else it is the event loop's time."""
    items = [Item() for _ in range(200)]
    for i, item in enumerate(items):
        timers.set(item, START + 1 + i * 0.013)
    loop.walk(START + 2)
    loop.jump(START + 10)
    for item in items:
        assert len(item.told) == 1
        assert item.told[0] >= item.deadline
        assert item.calls[0] <= item.told[0] <= item.calls[0] + TICK / 2 + 1e-6


def test_in_order_of_their_deadlines(loop: ClockLoop, timers: Timers) -> None:
    order: list[int] = []
    items = [Item(lambda item, i=i: order.append(i)) for i in range(50)]
    places = list(range(50))
    random.Random(7).shuffle(places)
    for i in places:
        timers.set(items[i], START + 1 + i * 0.1)
    loop.jump(START + 100)  # all are late
    assert order == list(range(50))


def test_moved_later(loop: ClockLoop, timers: Timers) -> None:
    item = Item()
    timers.set(item, START + 1)
    timers.set(item, START + 3)
    loop.walk(START + 2.9)
    assert item.calls == []
    loop.walk(START + 4)
    check_called(item, START + 3)


def test_moved_later_by_hand(loop: ClockLoop, timers: Timers) -> None:
    """`deadline` may be written without asking; that is looked at when the old place comes up."""
    item = Item()
    timers.set(item, START + 1)
    for second in range(1, 10):
        item.deadline = START + 1 + second
        loop.walk(START + second)
    assert item.calls == []
    loop.walk(START + 11)
    check_called(item, START + 10)


def test_moved_sooner(loop: ClockLoop, timers: Timers) -> None:
    item = Item()
    timers.set(item, START + 100)
    timers.set(item, START + 1)
    loop.walk(START + 2)
    check_called(item, START + 1)
    loop.jump(START + 200)
    assert len(item.calls) == 1


def test_moved_later_and_sooner_again(loop: ClockLoop, timers: Timers) -> None:
    item = Item()
    for deadline in (5, 50, 2, 20, 10, 30, 3):
        timers.set(item, START + deadline)
    loop.walk(START + 6)
    check_called(item, START + 3)


def test_cancelled(loop: ClockLoop, timers: Timers) -> None:
    gone, stays = Item(), Item()
    timers.set(gone, START + 1)
    timers.set(stays, START + 1)
    timers.cancel(gone)
    assert gone.tick == 0
    loop.walk(START + 2)
    assert gone.calls == []
    check_called(stays, START + 1)


def test_cancelled_twice_or_never_set(loop: ClockLoop, timers: Timers) -> None:
    item = Item()
    timers.cancel(item)
    timers.set(item, START + 1)
    timers.cancel(item)
    timers.cancel(item)
    loop.jump(START + 2)
    assert item.calls == []


def test_set_again_after_it_was_cancelled(loop: ClockLoop, timers: Timers) -> None:
    item = Item()
    timers.set(item, START + 1)
    timers.cancel(item)
    timers.set(item, START + 1)
    loop.walk(START + 2)
    check_called(item, START + 1)


def test_may_set_itself_anew_when_called(loop: ClockLoop, timers: Timers) -> None:
    item = Item(lambda item: timers.set(item, item.calls[-1] + 2) if len(item.calls) < 4 else None)
    timers.set(item, START + 1)
    loop.walk(START + 20)
    assert [round(at - START) for at in item.calls] == [1, 3, 5, 7]


def test_may_set_itself_to_now(loop: ClockLoop, timers: Timers) -> None:
    """It has its turn, but so have the others."""
    item = Item(lambda item: timers.set(item, item.calls[-1]) if len(item.calls) < 3 else None)
    other = Item()
    timers.set(item, START + 1)
    timers.set(other, START + 1.5)
    loop.walk(START + 2)
    assert len(item.calls) == 3
    check_called(other, START + 1.5)


@pytest.mark.parametrize("deadline", [1.0, 1.5])
def test_may_cancel_another_when_called(loop: ClockLoop, timers: Timers, deadline: float) -> None:
    """Of the same tick too: whoever comes first takes the other away."""
    items: list[Item] = []

    def cancel_the_others(item: Item) -> None:
        for other in items:
            if other is not item:
                timers.cancel(other)

    items += [Item(cancel_the_others) for _ in range(3)]
    timers.set(items[0], START + 1)
    for item in items[1:]:
        timers.set(item, START + deadline)
    loop.walk(START + 2)
    assert sum(len(item.calls) for item in items) == 1
    assert all(item.tick == 0 for item in items)


def test_may_move_another_of_the_same_tick_when_called(loop: ClockLoop, timers: Timers) -> None:
    items: list[Item] = []
    moved: list[Item] = []

    def move_the_other(item: Item) -> None:
        if not moved:
            moved.extend(other for other in items if other is not item)
            timers.cancel(moved[0])
            timers.set(moved[0], START + 3)

    items += [Item(move_the_other), Item(move_the_other)]
    for item in items:
        timers.set(item, START + 1)
    loop.walk(START + 5)
    check_called(moved[0], START + 3)


def test_one_that_raises_harms_no_other(loop: ClockLoop, timers: Timers) -> None:
    """An error in one connection must not stop the clock of all others."""
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: told.append(context))

    def fail(item: Item) -> None:
        raise ZeroDivisionError

    bad = Item(fail)
    same_tick = [Item() for _ in range(5)]
    later = Item()
    timers.set(later, START + 2)
    for item in (*same_tick[:3], bad, *same_tick[3:]):
        timers.set(item, START + 1)
    loop.walk(START + 3)
    assert len(bad.calls) == 1
    for item in same_tick:
        check_called(item, START + 1)
        timers.cancel(item)
    check_called(later, START + 2)


def test_all_that_is_late_is_called_after_a_hold_up(loop: ClockLoop, timers: Timers) -> None:
    items = [Item() for _ in range(100)]
    for i, item in enumerate(items):
        timers.set(item, START + 1 + i)
    loop.jump(START + 50.5)
    assert [item.calls for item in items] == [[START + 50.5]] * 50 + [[]] * 50
    loop.walk(START + 51.1)
    assert len(items[50].calls) == 1


def test_a_sooner_deadline_comes_before_what_was_waited_for(loop: ClockLoop, timers: Timers) -> None:
    late, soon = Item(), Item()
    timers.set(late, START + 100)
    loop.turn()
    timers.set(soon, START + 0.5)
    loop.walk(START + 1)
    check_called(soon, START + 0.5)
    assert late.calls == []
    loop.walk(START + 101, step=TICK)
    assert len(late.calls) == 1


def test_close_forgets_everything(loop: ClockLoop, timers: Timers) -> None:
    items = [Item() for _ in range(10)]
    for i, item in enumerate(items):
        timers.set(item, START + i)
    timers.close()
    loop.jump(START + 100)
    assert all(item.calls == [] and item.tick == 0 for item in items)
    timers.cancel(items[0])
    timers.set(items[0], START + 101)
    loop.jump(START + 102)
    assert len(items[0].calls) == 1


def test_thousands_over_one_timer(loop: ClockLoop, timers: Timers) -> None:
    """All within a tick of their deadlines, and with few timers of the event loop's own."""
    choice = random.Random(3)
    items = [Item() for _ in range(5000)]
    for item in items:
        timers.set(item, START + choice.uniform(20, 22))
    assert loop.timers_made <= 50
    loop.walk(START + 23, step=TICK)
    for item in items:
        assert len(item.calls) == 1
        assert item.deadline - 1e-6 <= item.calls[0] <= item.deadline + 2 * TICK + 1e-6
    assert loop.timers_made <= 150


def test_moving_later_makes_no_timers(loop: ClockLoop, timers: Timers) -> None:
    """What connections do all the time."""
    items = [Item() for _ in range(100)]
    for item in items:
        timers.set(item, START + 20)
    made = loop.timers_made
    for i in range(1000):
        for item in items:
            timers.set(item, START + 20 + i * 0.01)
    assert loop.timers_made == made
    loop.walk(START + 29.8, step=TICK)
    assert all(item.calls == [] for item in items)
    loop.walk(START + 31, step=TICK)
    assert all(len(item.calls) == 1 for item in items)


@pytest.mark.parametrize("living", [0, 1, 50])
@pytest.mark.parametrize("moved_sooner", [False, True])
def test_what_was_cancelled_takes_no_memory(loop: ClockLoop, timers: Timers, living: int, moved_sooner: bool) -> None:
    """Visitors who come and go, each with a deadline in twelve hours."""
    stays = [Item() for _ in range(living)]
    for i, item in enumerate(stays):
        timers.set(item, START + 50_000 + i)
    item = Item()

    def visit(count: int) -> None:
        for _ in range(count):
            loop.now += TICK
            timers.set(item, loop.now + 43_200)
            if moved_sooner:
                timers.set(item, START + 60_000)
            timers.cancel(item)

    visit(1000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        visit(20_000)
        assert tracemalloc.get_traced_memory()[1] - before < 50_000 + 200 * living
    finally:
        tracemalloc.stop()
    made = loop.timers_made
    loop.walk(START + 50_000 + living + 1, step=100)
    assert all(len(each.calls) == 1 for each in stays)
    assert item.calls == []
    assert loop.timers_made - made <= 3 * living + 200


def test_setting_and_cancelling_in_turn_makes_no_timers(loop: ClockLoop, timers: Timers) -> None:
    """What one client does that asks again and again."""
    item = Item()
    for _ in range(1000):
        timers.set(item, START + 5)
        timers.cancel(item)
    assert loop.timers_made == 1
    for i in range(1000):
        timers.set(item, START + 5 + (i & 1))
        timers.cancel(item)
    assert loop.timers_made == 1


def test_any_mixture_of_calls(loop: ClockLoop, timers: Timers) -> None:
    """Against a plain table of deadlines."""
    choice = random.Random(11)
    items = [Item() for _ in range(30)]
    wanted: dict[int, float] = {}
    for _ in range(600):
        i = choice.randrange(len(items))
        action = choice.random()
        if action < 0.6:
            wanted[i] = loop.now + choice.uniform(0, 4)
            timers.set(items[i], wanted[i])
        elif action < 0.8:
            wanted.pop(i, None)
            timers.cancel(items[i])
        else:
            loop.walk(loop.now + choice.uniform(0, 0.5))
        for j, deadline in list(wanted.items()):
            calls = items[j].calls
            if calls:
                # the loop may be early by its clock's resolution, so what moved later by less than half a tick is due
                assert deadline - TICK / 2 - 1e-6 <= calls.pop() <= deadline + TICK + TICK / 5 + 1e-6
                del wanted[j]
            else:
                assert loop.now <= deadline + TICK + TICK / 5 + 1e-6
        assert not any(item.calls for item in items)
