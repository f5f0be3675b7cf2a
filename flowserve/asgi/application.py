# cython: language_level=3, annotation_typing=False, binding=False
"""One call of the application, in a task and a copy of the server's context variables of its own. A leaf."""

from __future__ import annotations

import asyncio
import sys
from asyncio import Task
from collections.abc import Awaitable, Callable, Iterator
from contextvars import Context as Variables
from functools import partial
from typing import Any, Protocol, cast

from flowserve.asgi.application_errors import report
from flowserve.errors import SyncApplication
from flowserve.runtime.signals import ends_program

App = Callable[..., Awaitable[None]]

_NAME = "flowserve-app"
"""The name of each task in which the application is called."""
_TAKES_CONTEXT = sys.version_info >= (3, 11)
"""Whether a Task can be given its context."""
_END: Any = object()


class Call(Protocol):
    """What the application is called for: a request, or a WebSocket."""

    async def receive(self) -> Any:
        """The application's receive()."""

    def send(self, message: Any) -> Awaitable[None]:
        """The application's send()."""

    def has_ended(self) -> bool:
        """Whether receive() gives the disconnect: its client has left, or has been given all that there is."""

    def app_done(self, failed: bool) -> None:
        """The application has returned, or raised (`failed`)."""


class Caller(Protocol):
    """Who calls the application: a `context.Context`."""

    app: App
    cutting: bool
    """Whether calls are being cancelled because the server ends."""

    def ended(self, call: Call, failed: bool) -> None:
        """A call has come to its end, and was told of where that is due."""


class Invocation:
    """The coroutine of the task in which the application is called.

    An object of its own rather than a coroutine function around the call: it takes less than half the memory, which
    every open WebSocket pays, and knows of its end even when it is cancelled before it has begun. Nothing that the
    application raises gets out of it, but for a cancellation and what `ends_program()`: asyncio would pass SystemExit
    and KeyboardInterrupt on to whoever runs the event loop.
    """

    __slots__ = ("_call", "_caller", "_coroutine", "_scope", "_steps", "_waits")

    def __init__(self, caller: Caller, call: Call, scope: Any) -> None:
        self._caller = caller
        self._call = call
        self._scope = scope
        self._coroutine: Any = None  # what the application has returned
        self._steps: Any = None  # its iterator
        self._waits = False  # for the next iteration of the event loop

    def start(self, loop: asyncio.AbstractEventLoop, variables: Variables) -> Task[None]:
        """Return the task, which begins in the next iteration of the event loop, whatever a task factory may do.

        `variables` is its context, or a copy of them where it can't be given: in Python 3.10, and to a task factory
        that takes none.
        """
        make: Callable[..., Task[None]] = Task
        if loop.get_task_factory() is None:
            # As loop.create_task() does, but for its numbering of names, which costs a fifth of a task.
            if _TAKES_CONTEXT:
                return make(self, loop=loop, name=_NAME, context=variables)
            return variables.run(partial(make, self, loop=loop, name=_NAME))
        self._waits = True  # asyncio.eager_task_factory would begin at once, inside the parser of the request
        create_task: Any = loop.create_task
        inside = variables.copy().run  # for factories that take a context and forget it
        try:
            return cast("Task[None]", inside(partial(create_task, self, context=variables)))
        except TypeError:
            return cast("Task[None]", inside(create_task, self))

    # As a coroutine

    def __await__(self) -> Iterator[Any]:
        return self

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._waits:
            self._waits = False
            return None
        step = self._step()
        if step is _END:
            raise StopIteration
        return step

    def send(self, value: None) -> Any:
        """Go on, as with `next()`."""
        return self.__next__()

    def throw(self, *error: Any) -> Any:
        """Go on with an exception, given as to a coroutine."""
        self._waits = False
        step = self._throw(error)
        if step is _END:
            raise StopIteration
        return step

    def close(self) -> None:
        """Give it up."""
        if self._steps is not None:
            self._steps.close()

    def __getattr__(self, name: str) -> Any:
        """What else a coroutine tells of itself (cr_frame, cr_running, __qualname__) is the application's."""
        return getattr(self._coroutine, name)

    # What it does

    def _step(self) -> Any:
        try:
            if self._steps is None:
                self._begin()
            step = next(self._steps, _END)
        except BaseException as error:
            if self._failed(error):
                raise
            return _END
        if step is _END:
            self._ended(False)
        return step

    def _throw(self, error: Any) -> Any:
        try:
            if self._steps is None:
                raise error[0]
            return self._steps.throw(*error)
        except StopIteration:  # it has caught the error, and returned
            self._ended(False)
        except BaseException as raised:
            if self._failed(raised):
                raise
        return _END

    def _begin(self) -> None:
        call, scope = self._call, self._scope
        self._scope = None
        self._coroutine = self._caller.app(scope, call.receive, call.send)
        try:
            self._steps = self._coroutine.__await__()
        except AttributeError:
            awaited(self._coroutine)
            raise

    def _failed(self, error: BaseException) -> bool:
        """Deal with what the application has raised. Returns whether the task is to raise it too."""
        outside = self._is_cancellation(error) or ends_program(error)
        if not outside:
            report(error, self._call.has_ended())
        self._ended(True)
        return outside

    def _is_cancellation(self, error: BaseException) -> bool:
        """Whether the task was cancelled, rather than that the application has raised CancelledError by itself."""
        if not isinstance(error, asyncio.CancelledError):
            return False
        task: Any = asyncio.current_task()
        return self._caller.cutting or (_TAKES_CONTEXT and task is not None and task.cancelling() > 0)

    def _ended(self, failed: bool) -> None:
        caller, call = self._caller, self._call
        self._caller = self._call = self._coroutine = self._steps = None  # type: ignore[assignment]
        caller.ended(call, failed)


def awaited(result: Any) -> Any:
    """Return what a call of the application has returned, if it can be awaited. Raises SyncApplication."""
    if not hasattr(result, "__await__"):
        raise SyncApplication(
            f"The application returned {_described(result)}, which can't be awaited; an ASGI application is"
            " asynchronous: async def app(scope, receive, send)"
        )
    return result


def _described(result: Any) -> str:
    return "None" if result is None else f"an object of type {type(result).__name__}"
