# cython: language_level=3, annotation_typing=False, binding=False
"""One call of the application, in a task of its own with a copy of the server's context variables."""

from __future__ import annotations

import asyncio
import sys
from asyncio import Task
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextvars import Context as Variables
from functools import partial
from typing import Any, Protocol, cast

from flowserve.asgi.application_errors import report
from flowserve.errors import SyncApplication
from flowserve.runtime.signals import ends_program

App = Callable[..., Awaitable[None]]

_NAME = "flowserve-app"
"""The name of each task in which the application is called."""
_TASK_TAKES_CONTEXT = sys.version_info >= (3, 11)
"""Whether Task() has the parameter `context` (from Python 3.11 on)."""
_END: Any = object()
"""What `_resume()` and `_throw()` return when the application has ended."""


class Call(Protocol):
    """An HTTP request or a WebSocket for which the application is called."""

    async def receive(self) -> dict[str, Any]:
        """The application's receive()."""

    def send(self, message: dict[str, Any]) -> Awaitable[None]:
        """The application's send()."""

    def has_ended(self) -> bool:
        """Whether the call's connection has ended: the client has left or, of a WebSocket, the closing handshake has
        begun."""

    def app_done(self, failed: bool) -> None:
        """Called when the application has returned, or raised (`failed`)."""


class Caller(Protocol):
    """The owner of the call, a `context.Context`."""

    app: App
    """The ASGI 3 application."""
    cutting: bool
    """Whether the server's end cancels the calls that still run."""

    def call_ended(self, call: Call, failed: bool) -> None:
        """Called when a call has ended, after its error was logged if there is one."""


class Invocation:
    """The coroutine of the task in which the application is called.

    It is a class instead of a coroutine function around the call for two reasons: it takes less than half the memory,
    which every open WebSocket pays, and it notices its end even if the task is cancelled before its first step. Nothing
    that the application raises propagates except a cancellation and an exception for which `ends_program()` is true:
    asyncio would pass SystemExit and KeyboardInterrupt on to the caller of the event loop.
    """

    __slots__ = ("_call", "_caller", "_coroutine", "_delayed", "_iterator", "_scope")

    def __init__(self, caller: Caller, call: Call, scope: dict[str, Any]) -> None:
        self._caller = caller
        self._call = call
        self._scope: dict[str, Any] | None = scope  # until the application is called
        self._coroutine: Awaitable[None] | None = None  # the coroutine that the application returned
        self._iterator: Generator[Any, Any, None] | None = None  # the iterator of that coroutine's __await__()
        self._delayed = False  # whether the first step is still to be put off by one iteration of the event loop

    def start(self, loop: asyncio.AbstractEventLoop, variables: Variables) -> Task[None]:
        """Return the task, whose first step runs in the next iteration of the event loop even with an eager task
        factory.

        `variables` becomes the task's context. Where a task can't be given one, in Python 3.10 and with a task factory
        that takes none, it gets a copy.
        """
        make: Callable[..., Task[None]] = Task
        if loop.get_task_factory() is None:
            # As loop.create_task() does, except for the numbered name, which costs a fifth of a task.
            if _TASK_TAKES_CONTEXT:
                return make(self, loop=loop, name=_NAME, context=variables)
            return variables.run(partial(make, self, loop=loop, name=_NAME))
        self._delayed = True  # asyncio.eager_task_factory would call the application at once, inside the request parser
        create_task: Any = loop.create_task
        inside = variables.copy().run  # for factories that take a context and ignore it
        try:
            return cast("Task[None]", inside(partial(create_task, self, context=variables)))
        except TypeError:
            return cast("Task[None]", inside(create_task, self))

    # Coroutine methods

    def __await__(self) -> Iterator[Any]:
        return self

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._delayed:
            self._delayed = False
            return None
        yielded = self._resume()
        if yielded is _END:
            raise StopIteration
        return yielded

    def send(self, value: None) -> Any:
        """Resume, as `next()` does."""
        return self.__next__()

    def throw(self, *error: Any) -> Any:
        """Resume with an exception, with the arguments of coroutine.throw()."""
        self._delayed = False
        yielded = self._throw(error)
        if yielded is _END:
            raise StopIteration
        return yielded

    def close(self) -> None:
        """Close the application's coroutine."""
        if self._iterator is not None:
            self._iterator.close()

    def __getattr__(self, name: str) -> Any:
        """Return other attributes of a coroutine (cr_frame, cr_running, __qualname__) from the application's."""
        return getattr(self._coroutine, name)

    # Implementation

    def _resume(self) -> Any:
        try:
            if self._iterator is None:
                self._call_app()
            yielded = next(self._iterator, _END)  # type: ignore[arg-type]
        except BaseException as error:
            if self._handle_error(error):
                raise
            return _END
        if yielded is _END:
            self._finish(False)
        return yielded

    def _throw(self, error: tuple[Any, ...]) -> Any:
        try:
            if self._iterator is None:
                raise error[0]
            return self._iterator.throw(*error)
        except StopIteration:  # the application has caught the exception and returned
            self._finish(False)
        except BaseException as raised:
            if self._handle_error(raised):
                raise
        return _END

    def _call_app(self) -> None:
        call, scope = self._call, self._scope
        self._scope = None
        self._coroutine = self._caller.app(scope, call.receive, call.send)
        try:
            self._iterator = self._coroutine.__await__()
        except AttributeError:
            check_awaitable(self._coroutine)
            raise

    def _handle_error(self, error: BaseException) -> bool:
        """Log what the application raised, unless it is a cancellation of the task or ends the program. Returns whether
        the task must raise it."""
        propagates = self._is_cancellation(error) or ends_program(error)
        if not propagates:
            report(error, self._call.has_ended())
        self._finish(True)
        return propagates

    def _is_cancellation(self, error: BaseException) -> bool:
        """Whether the task was cancelled; otherwise the application has raised CancelledError itself."""
        if not isinstance(error, asyncio.CancelledError):
            return False
        task: Any = asyncio.current_task()
        return self._caller.cutting or (_TASK_TAKES_CONTEXT and task is not None and task.cancelling() > 0)

    def _finish(self, failed: bool) -> None:
        caller, call = self._caller, self._call
        self._caller = self._call = self._coroutine = self._iterator = None  # type: ignore[assignment]
        caller.call_ended(call, failed)


def check_awaitable(result: Any) -> Any:
    """Return `result`, what the application returned. Raises SyncApplication if it can't be awaited."""
    if not hasattr(result, "__await__"):
        raise SyncApplication(
            f"The application returned {_describe(result)}, which can't be awaited; an ASGI application is"
            " asynchronous: async def app(scope, receive, send)"
        )
    return result


def _describe(result: Any) -> str:
    return "None" if result is None else f"an object of type {type(result).__name__}"
