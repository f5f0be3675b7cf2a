"""What is written at the end of the event loop's turn."""

from __future__ import annotations

from typing import Any, cast

from flowserve.transport.flush_queue import Flushable, FlushQueue


class Loop:
    """An event loop of which only the end of a turn matters."""

    def __init__(self) -> None:
        self.called: list[Any] = []
        self.errors: list[dict[str, Any]] = []

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def call_soon(self, callback: Any, context: Any) -> None:
        self.called.append(callback)

    def end_turn(self) -> None:
        called, self.called = self.called, []
        for callback in called:
            callback()


class Written(Flushable):
    """Counts its flushes; `error` is raised in each, `again` is what it adds itself to in each."""

    def __init__(self, error: Exception | None = None, again: FlushQueue | None = None) -> None:
        self._flush_pending = False
        self.flushes = 0
        self.error = error
        self.again = again

    def flush(self) -> None:
        self.flushes += 1
        if self.again is not None:
            self.again.add(self)
        if self.error is not None:
            raise self.error


def test_all_are_flushed_once_at_the_end_of_the_turn() -> None:
    loop, each = Loop(), [Written(), Written()]
    flush_queue = FlushQueue(cast(Any, loop))
    for outgoing in each * 2:
        flush_queue.add(outgoing)
    assert len(loop.called) == 1
    assert [outgoing.flushes for outgoing in each] == [0, 0]
    loop.end_turn()
    loop.end_turn()
    assert [outgoing.flushes for outgoing in each] == [1, 1]
    flush_queue.add(each[0])
    loop.end_turn()
    assert [outgoing.flushes for outgoing in each] == [2, 1]


def test_one_that_is_added_while_it_is_flushed_has_the_next_turn() -> None:
    loop = Loop()
    flush_queue = FlushQueue(cast(Any, loop))
    outgoing = Written(again=flush_queue)
    flush_queue.add(outgoing)
    for turn in range(1, 4):
        loop.end_turn()
        assert outgoing.flushes == turn


def test_one_that_can_not_write_holds_up_nobody() -> None:
    loop, each = Loop(), [Written(), Written(RuntimeError("the handler is closed")), Written()]
    flush_queue = FlushQueue(cast(Any, loop))
    for outgoing in each:
        flush_queue.add(outgoing)
    loop.end_turn()
    assert [outgoing.flushes for outgoing in each] == [1, 1, 1]
    assert [str(context["exception"]) for context in loop.errors] == ["the handler is closed"]
