# cython: language_level=3, annotation_typing=False, binding=False
"""Those who wait for something to change, as lists of futures that don't grow with those who give up. A leaf."""

from __future__ import annotations

from asyncio import Future


def joined(waiters: list[Future[None]] | None, waiter: Future[None]) -> list[Future[None]]:
    """Return `waiters` with `waiter`, and without those whose wait was cancelled."""
    if waiters is None:
        return [waiter]
    waiters = [each for each in waiters if not each.done()]
    waiters.append(waiter)
    return waiters


def wake(waiters: list[Future[None]] | None) -> None:
    """Have them look again at what they wait for; they are forgotten by then, whoever has to wait on joins anew."""
    if waiters is not None:
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
