"""connect() for programs without asyncio: that of the client, in the thread of `loop_thread()`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, ParamSpec, TypeVar, cast

from flowserve.client import connect as client
from flowserve.library import websocket
from flowserve.sync.loop_thread import loop_thread
from flowserve.sync.websocket import WebSocket

P = ParamSpec("P")
T = TypeVar("T")


def _with_parameters_of(model: Callable[P, object]) -> Callable[[Callable[..., T]], Callable[P, T]]:
    """Declare that a function takes the parameters of `model`, which it passes on."""

    def declare(function: Callable[..., T]) -> Callable[P, T]:
        function.__wrapped__ = model  # type: ignore[attr-defined]  # for inspect.signature()
        return cast("Callable[P, T]", function)

    return declare


@_with_parameters_of(client.connect)
def connect(*arguments: Any, **options: Any) -> WebSocket:
    """Connect to the WebSocket server at `uri`, ws:// or wss://, do the opening handshake, and return the WebSocket:
    `with connect(uri) as ws`, or `ws = connect(uri)`, which leaves closing to the caller.

    The parameters, and the exceptions, are those of `flowserve.connect()`. WebSockets of all threads live in one event
    loop, which runs in a thread of its own from the first call to the end of the program; a child of os.fork() can't
    use those of its parent, but open others. Raises RuntimeError in a callback that this thread calls.
    """
    return _open(client.connect(*arguments, **options))


@_with_parameters_of(client.unix_connect)
def unix_connect(*arguments: Any, **options: Any) -> WebSocket:
    """Like `connect()`, to a server that listens on the UNIX domain socket `path`. The parameters are those of
    `flowserve.unix_connect()`."""
    return _open(client.unix_connect(*arguments, **options))


@_with_parameters_of(client.connect)
def reconnect(*arguments: Any, **options: Any) -> Iterator[WebSocket]:
    """Connect as `connect()` does, and again whenever the loop's body ends or continues: `for ws in reconnect(uri)`.

    It does what `async for ws in flowserve.connect(uri)` does: it closes the WebSocket before it opens the next one,
    and while opening fails for a reason that may pass, it retries with growing delays. `process_exception` and
    `reconnect_delays` are called in the thread of the event loop. Leaving the loop closes the WebSocket.
    """
    return _reopen(client.connect(*arguments, **options))


def _open(connecting: client.connect) -> WebSocket:
    async def open_websocket() -> websocket.WebSocket:
        return await connecting

    thread = loop_thread()
    return WebSocket(thread.run(open_websocket, websocket.WebSocket.abort), thread)


def _reopen(connecting: client.connect) -> Iterator[WebSocket]:
    thread = loop_thread()
    opened = cast("AsyncGenerator[websocket.WebSocket, None]", connecting.__aiter__())

    async def open_next() -> websocket.WebSocket | None:
        return await anext(opened, None)

    async def close() -> None:
        await opened.aclose()

    try:
        while (ws := thread.run(open_next)) is not None:
            yield WebSocket(ws, thread)
    finally:
        thread.run(close)
