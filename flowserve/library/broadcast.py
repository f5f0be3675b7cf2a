"""broadcast(): send one message to many WebSockets."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import sys
from collections.abc import Iterable
from typing import Any

from flowserve.errors import ClientDisconnected, ConnectionClosed
from flowserve.library.data import Data, message_payload
from flowserve.library.properties import session_of
from flowserve.library.websocket import WebSocket
from flowserve.logs.loggers import logger
from flowserve.session.shared_message import SharedMessage

_send_tasks: set[asyncio.Task[None]] = set()
"""The running tasks of `_send_in_task()`; the event loop holds only weak references to tasks."""


def broadcast(
    websockets: Iterable[WebSocket],
    message: Data,
    *,
    text: bool | None = None,
    compress: bool | None = None,
    raise_exceptions: bool = False,
) -> None:
    """Send a message to many WebSockets without waiting for any of them. `message`, `text` and `compress` are as for
    `WebSocket.send()`, except that `message` is not an iterable of fragments.

    The message is encoded once, and compressed once for all WebSockets that negotiated the same permessage-deflate
    parameters; but client WebSockets mask each frame with a key of its own (RFC 6455 section 5.3), and those with
    context takeover compress it separately. The option slow_consumer says what happens to a peer that reads too slowly;
    with "wait" its messages are buffered without limit, until send_timeout or the keepalive ends the WebSocket.

    WebSockets that are closed are skipped. So are those on which a message is being sent in fragments, and those on
    which sending fails; each of these is logged as a warning. With `raise_exceptions` these errors are raised together
    instead, as an ExceptionGroup, after the message was sent to all others; this needs Python 3.11. Raises TypeError
    for a message that is neither str nor bytes-like, UnicodeDecodeError for bytes sent with `text=True` that are not
    UTF-8.
    """
    if raise_exceptions and sys.version_info < (3, 11):
        raise TypeError("raise_exceptions needs Python 3.11, which has ExceptionGroup")
    payload = message_payload(message, text)
    is_text = isinstance(payload, str)
    shared = SharedMessage(payload.encode() if isinstance(payload, str) else payload, is_text, compress)
    errors: list[Exception] = []
    for ws in websockets:
        if ws.closed:
            continue
        session = session_of(ws)
        try:
            if session.connection.fragmenting:
                raise RuntimeError("a message is being sent in fragments")
            if session.busy:
                _send_in_task(ws, payload, compress)
            else:
                shared.send_to(session)
        except ClientDisconnected:
            pass
        except Exception as error:
            errors.append(error)
    if errors and raise_exceptions:
        raise _exception_group("skipped broadcast", errors)
    for each in errors:
        logger.warning("Skipped a WebSocket in a broadcast: %s", each)


def _send_in_task(ws: WebSocket, message: str | bytes, compress: bool | None) -> None:
    """Send in a task of its own, which waits until the messages before have been compressed."""
    task = asyncio.get_running_loop().create_task(_send(ws, message, compress))
    _send_tasks.add(task)
    task.add_done_callback(_send_tasks.discard)


async def _send(ws: WebSocket, message: str | bytes, compress: bool | None) -> None:
    with contextlib.suppress(ConnectionClosed):
        await ws.send(message, compress=compress)


def _exception_group(text: str, errors: list[Exception]) -> Exception:
    group: Any = vars(builtins)["ExceptionGroup"]
    error: Exception = group(text, errors)
    return error
