# cython: language_level=3, annotation_typing=False, binding=False
"""Lists of futures that wait for a condition. Cancelled ones do not accumulate. No imports from flowserve."""

from __future__ import annotations

from asyncio import Future


def add_waiter(waiters: list[Future[None]] | None, waiter: Future[None]) -> list[Future[None]]:
    """Return `waiters`, without those that are cancelled, plus `waiter`."""
    if waiters is None:
        return [waiter]
    waiters = [each for each in waiters if not each.done()]
    waiters.append(waiter)
    return waiters


def wake(waiters: list[Future[None]] | None) -> None:
    """Wake all waiters, so that they check their condition again. The caller has dropped the list by then; a waiter
    that has to wait longer adds a new future."""
    if waiters is not None:
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
