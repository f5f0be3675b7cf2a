"""The lifespan of an application (ASGI specification, Lifespan Protocol)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from support.helpers import until, within

from flowserve import Config
from flowserve.asgi.context import Context
from flowserve.asgi.lifespan import Lifespan
from flowserve.errors import ASGIMisuse, StartupFailed

App = Callable[[dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

COMPLETE = {"type": "lifespan.startup.complete"}
STOPPED = {"type": "lifespan.shutdown.complete"}


def lifespan(app: App, mode: str = "auto") -> tuple[Lifespan, Context]:
    context = Context(app, Config(app, lifespan=mode), asyncio.get_running_loop(), None)  # type: ignore[arg-type]
    return Lifespan(context), context


class Recorder:
    """An application that completes both, and what it saw."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope)
        self.seen.append(await receive())
        await send(COMPLETE)
        self.seen.append(await receive())
        await send(STOPPED)
        self.seen.append("end")


@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_startup_and_shutdown(logs: Any, mode: str) -> None:
    app = Recorder()
    life, context = lifespan(app, mode)
    await within(life.startup())
    scope, *events = app.seen
    assert scope["type"] == "lifespan"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
    assert scope["state"] is context.state
    assert events == [{"type": "lifespan.startup"}]
    await within(life.shutdown())
    await until(lambda: app.seen[-1] == "end")
    assert app.seen[-2] == {"type": "lifespan.shutdown"}
    assert logs.errors == []


async def test_the_state_is_the_applications_to_fill() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        scope["state"]["pool"] = "a pool"
        await send(COMPLETE)
        await receive()
        await send(STOPPED)

    life, context = lifespan(app)
    await within(life.startup())
    assert context.state == {"pool": "a pool"}
    await within(life.shutdown())


async def test_off_calls_nothing() -> None:
    app = Recorder()
    life, _ = lifespan(app, "off")
    await within(life.startup())
    await within(life.shutdown())
    life.cancel()
    assert app.seen == []


async def test_startup_waits_for_the_application() -> None:
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await go_on.wait()
        await send(COMPLETE)
        await receive()

    life, _ = lifespan(app)
    starting = asyncio.ensure_future(life.startup())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not starting.done()
    go_on.set()
    await within(starting)
    await within(life.shutdown())


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"type": "lifespan.startup.failed", "message": "no database"}, "application startup failed: no database"),
        ({"type": "lifespan.startup.failed", "message": ""}, "application startup failed"),
        ({"type": "lifespan.startup.failed"}, "application startup failed"),
    ],
)
async def test_startup_failed(mode: str, message: Any, words: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(message)

    life, _ = lifespan(app, mode)
    with pytest.raises(StartupFailed) as caught:
        await within(life.startup())
    assert str(caught.value) == words
    await within(life.shutdown())


async def no_lifespan(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http", "only http here"


async def raises_in_startup(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise ZeroDivisionError


async def returns(scope: Any, receive: Any, send: Any) -> None:
    return


async def returns_in_startup(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def answers_a_request(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200})


silent = pytest.mark.parametrize(
    "app", [no_lifespan, raises_in_startup, answers_a_request, returns, returns_in_startup]
)


@silent
async def test_auto_goes_on_without(logs: Any, app: App) -> None:
    """'If an exception is raised when calling the application callable with a lifespan.startup message or a scope of
    type lifespan, the server must continue but not send any lifespan events.'"""
    life, _ = lifespan(app, "auto")
    await within(life.startup())
    await within(life.shutdown())
    said = [(record.levelname, record.getMessage(), record.exc_info is not None) for record in logs.records]
    assert said == SAID.get(app, [])


SAID = {
    no_lifespan: [
        ("INFO", "The application does not support lifespan events: AssertionError: only http here", False),
    ],
    raises_in_startup: [("ERROR", "The application's startup raised; it is served without lifespan events", True)],
    answers_a_request: [
        (
            "INFO",
            "The application does not support lifespan events:"
            " ASGIMisuse: unexpected 'http.response.start' in the lifespan",
            False,
        )
    ],
}


@silent
async def test_on_insists(logs: Any, app: App) -> None:
    life, _ = lifespan(app, "on")
    with pytest.raises(StartupFailed):
        await within(life.startup())
    raised = app in (no_lifespan, raises_in_startup, answers_a_request)
    assert logs.errors == (["flowserve: Exception in the application's lifespan"] if raised else [])
    if raised:
        (record,) = [record for record in logs.records if record.levelname == "ERROR"]
        assert record.exc_info is not None


async def test_an_application_may_end_once_it_has_started(logs: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)

    life, _ = lifespan(app, "on")
    await within(life.startup())
    for _ in range(5):
        await asyncio.sleep(0)
    await within(life.shutdown())
    assert logs.errors == []


async def test_an_error_while_it_runs_is_logged(logs: Any) -> None:
    """Nobody else would ever hear of it."""
    fail = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await fail.wait()
        raise ZeroDivisionError

    life, _ = lifespan(app)
    await within(life.startup())
    fail.set()
    for _ in range(5):
        await asyncio.sleep(0)
    await within(life.shutdown())
    assert logs.errors == ["flowserve: Exception in the application's lifespan"]


async def test_shutdown_waits_for_the_application() -> None:
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        await go_on.wait()
        await send(STOPPED)

    life, _ = lifespan(app)
    await within(life.startup())
    stopping = asyncio.ensure_future(life.shutdown())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not stopping.done()
    go_on.set()
    await within(stopping)


async def test_shutdown_is_not_answered_by_what_was_said_before() -> None:
    """An application that says 'startup complete' twice has not completed its shutdown."""
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        try:
            await send(COMPLETE)
        except ASGIMisuse:
            pass
        await receive()
        await go_on.wait()
        await send(STOPPED)

    life, _ = lifespan(app)
    await within(life.startup())
    stopping = asyncio.ensure_future(life.shutdown())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not stopping.done()
    go_on.set()
    await within(stopping)


async def test_shutdown_failed_is_logged(logs: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "it stuck"})

    life, _ = lifespan(app)
    await within(life.startup())
    await within(life.shutdown())
    assert logs.errors == ["flowserve: Application shutdown failed: it stuck"]


async def test_an_error_in_shutdown_is_logged(logs: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        raise ZeroDivisionError

    life, _ = lifespan(app)
    await within(life.startup())
    await within(life.shutdown())
    assert logs.errors == ["flowserve: Exception in the application's lifespan"]


@pytest.mark.parametrize("message", [{"type": "lifespan.startup"}, {"type": "http.response.start"}, {"type": "x"}])
async def test_unknown_messages_are_misuse(message: Any) -> None:
    caught: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            await send(message)
        except ASGIMisuse as error:
            caught.append(error)
        await send(COMPLETE)
        await receive()

    life, _ = lifespan(app)
    await within(life.startup())
    (error,) = caught
    assert message["type"] in str(error)
    await within(life.shutdown())


async def test_cancel_gives_up_on_an_application_that_does_not_end(logs: Any) -> None:
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    life, _ = lifespan(app)
    await within(life.startup())
    stopping = asyncio.ensure_future(life.shutdown())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not stopping.done()
    life.cancel()
    await within(stopping)
    assert ended == ["cancelled"]
    assert logs.errors == []


def starlette_with(enter: Callable[[], None], leave: Callable[[], Awaitable[None]]) -> App:
    @contextlib.asynccontextmanager
    async def whole_life(_app: Starlette) -> AsyncIterator[None]:
        enter()
        try:
            yield
        finally:
            await leave()

    return Starlette(lifespan=whole_life)


async def for_ever() -> None:
    await asyncio.Event().wait()


def no_database() -> None:
    raise ZeroDivisionError("no database")


async def raises() -> None:
    no_database()


async def test_starlette_tells_of_a_failed_startup() -> None:
    life, _ = lifespan(starlette_with(no_database, raises))
    with pytest.raises(StartupFailed, match="ZeroDivisionError: no database"):
        await within(life.startup())
    await within(life.close())


async def test_starlettes_shutdown_that_is_cancelled_is_no_misuse(logs: Any) -> None:
    """It answers lifespan.shutdown.failed whatever ends it."""
    life, _ = lifespan(starlette_with(lambda: None, for_ever))
    await within(life.startup())
    stopping = asyncio.ensure_future(life.shutdown())
    for _ in range(5):
        await asyncio.sleep(0)
    await within(life.close())
    await within(stopping)
    assert logs.errors == []
    assert len(asyncio.all_tasks()) == 1


async def test_starlettes_failed_shutdown_is_told_once(logs: Any) -> None:
    life, _ = lifespan(starlette_with(lambda: None, raises))
    await within(life.startup())
    await within(life.shutdown())
    await within(life.close())
    (error,) = logs.errors
    assert error.startswith("flowserve: Application shutdown failed: Traceback")
    assert error.count("ZeroDivisionError: no database") == 1


async def test_a_lifespan_that_fails_while_it_is_served_is_told_once(logs: Any) -> None:
    """Starlette answers lifespan.shutdown.failed, though nobody asked for a shutdown."""
    fail = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await fail.wait()
        await send({"type": "lifespan.shutdown.failed", "message": "Traceback: no database"})
        raise ZeroDivisionError("no database")

    life, _ = lifespan(app)
    await within(life.startup())
    fail.set()
    await until(lambda: logs.errors != [])
    await within(life.shutdown())
    assert logs.errors == ["flowserve: The application's lifespan failed while it is served: Traceback: no database"]


async def test_startup_can_be_cancelled() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    life, _ = lifespan(app)
    starting = asyncio.ensure_future(life.startup())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(starting)
    life.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
