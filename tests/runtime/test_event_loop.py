"""Event loops for commands."""

from __future__ import annotations

import asyncio
import errno
import sys
import types
from typing import Any

import pytest

from flowserve.errors import ConfigError
from flowserve.runtime.event_loop import event_loop, loop_factory


class OwnLoop(asyncio.SelectorEventLoop):
    pass


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module `loops` with functions that make event loops, as uvloop has."""
    module = types.ModuleType("loops")
    module.new_event_loop = OwnLoop  # type: ignore[attr-defined]
    module.inner = types.SimpleNamespace(make=OwnLoop)  # type: ignore[attr-defined]
    module.wrong = lambda: 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "loops", module)
    monkeypatch.setitem(sys.modules, "zuvloop", module)
    return module


@pytest.mark.parametrize("name", ["loops:new_event_loop", "loops:inner.make", "zuvloop"])
def test_event_loops_of_others(package: types.ModuleType, name: str) -> None:
    with event_loop(name) as loop:
        assert type(loop) is OwnLoop


def test_event_loops_that_are_not_there(package: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, says in (
        ("loops:other", "--loop: loops:other: module 'loops' has no attribute 'other'"),
        ("no_such:make", "--loop: no_such:make: No module named 'no_such'"),
        ("loops:wrong", "--loop: loops:wrong makes 7, not an event loop"),
    ):
        with pytest.raises(ConfigError) as caught:
            loop_factory(name)()
        assert str(caught.value) == says
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory("auto") is asyncio.new_event_loop
    with pytest.raises(ConfigError, match=r"^--loop: uvloop is missing; pip install uvloop, or use --loop asyncio$"):
        loop_factory("uvloop")


def test_used_up_descriptors_are_told_of_once_a_second(logs: Any) -> None:
    """asyncio tells of each connection that waits, thousands in a second."""
    with event_loop("asyncio") as loop:
        error = OSError(errno.EMFILE, "Too many open files")
        for _ in range(1000):
            loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": error})
        assert logs.errors == ["flowserve: No connection can be accepted (ulimit -n): [Errno 24] Too many open files"]
        loop.call_exception_handler({"message": "something else"})
        assert logs.errors[1:] == ["asyncio: something else"]


def test_what_lasts_ends_after_the_tasks() -> None:
    told: list[str] = []

    async def wait(name: str, event: asyncio.Event) -> None:
        try:
            await event.wait()
            told.append(f"{name} ends")
        except asyncio.CancelledError:
            told.append(f"{name} is cancelled")

    class Kept:
        task: asyncio.Task[None]
        event = asyncio.Event()

        def tasks(self) -> list[asyncio.Task[None]]:
            return [self.task]

        async def close(self) -> None:
            self.event.set()
            await self.task

    with event_loop("asyncio", kept := Kept()) as loop:
        kept.task = loop.create_task(wait("what lasts", kept.event))
        task = loop.create_task(wait("a task", asyncio.Event()))
        loop.run_until_complete(asyncio.sleep(0))
    assert task.done()
    assert told == ["a task is cancelled", "what lasts ends"]
