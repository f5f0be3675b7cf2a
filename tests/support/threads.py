"""Servers of another library in threads of their own, and signals for a thread that waits."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from websockets.sync.server import ServerConnection, serve

from support.helpers import PATIENCE


class Interrupted(BaseException):
    """What a signal raises, as Ctrl-C raises KeyboardInterrupt."""


@contextlib.contextmanager
def served(handler: Callable[[ServerConnection], Any], **options: Any) -> Iterator[str]:
    """A server of the websockets library that runs `handler` for each WebSocket, in a thread: its URI."""
    with serve(handler, "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws{'s' if 'ssl' in options else ''}://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join(PATIENCE)


@contextlib.contextmanager
def interrupted_by(ready: threading.Event) -> Iterator[None]:
    """Raise Interrupted in this thread, the main one, once `ready` is set."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    def watch() -> None:
        if ready.wait(PATIENCE):
            signal.pthread_kill(main, signal.SIGUSR1)

    main = threading.get_ident()
    before = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE)
        signal.signal(signal.SIGUSR1, before)


def echo(ws: ServerConnection) -> None:
    for message in ws:
        ws.send(message)
