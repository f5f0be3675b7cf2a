"""A conversation from its opening to its end, whoever holds it: a person at a prompt, or lines in a pipe."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from typing import Protocol

from flowserve.commands.endpoint import INTERRUPTED, Endpoint, one_line
from flowserve.errors import ConnectionClosed, ConnectionClosedOK, FlowserveError, PayloadTooBig
from flowserve.library.websocket import WebSocket
from flowserve.runtime.signals import handling


class Ended(FlowserveError):
    """The WebSocket was not closed in order; the message says how it ended."""


@dataclass(frozen=True)
class Leave:
    """The user's wish to end it, with a close code and a reason."""

    code: int = 1000
    reason: str = ""
    interrupted: bool = False  # by Ctrl-C


class Face(Protocol):
    """Whoever holds the conversation."""

    async def talk(self, ws: WebSocket) -> Leave | ConnectionClosed:
        """Talk, until the user or the server ends it. Raises FlowserveError for what the user did wrong."""

    def closed(self, text: str) -> None:
        """It has come to an orderly end."""


async def converse(target: Endpoint, face: Face) -> int:
    """Open the WebSocket, talk, and close it. Return the exit status; raises FlowserveError.

    Ctrl-C closes it in order (1000), another one at once.
    """
    me = asyncio.current_task()
    assert me is not None

    def interrupt(_number: signal.Signals) -> None:
        me.cancel()

    with handling({signal.SIGINT: interrupt}):
        try:
            ws = await target.open()
        except asyncio.CancelledError:
            return INTERRUPTED
        try:
            return await _hold(ws, face)
        except asyncio.CancelledError:
            return INTERRUPTED
        finally:
            if not ws.closed:
                ws.abort()


async def _hold(ws: WebSocket, face: Face) -> int:
    try:
        end = await face.talk(ws)
    except asyncio.CancelledError:
        end = Leave(interrupted=True)
    except FlowserveError:
        await ws.close()
        raise
    if isinstance(end, ConnectionClosed):
        await ws.wait_closed()
        if not isinstance(end, ConnectionClosedOK):
            raise Ended(_told(end))
    else:
        await ws.close(end.code, end.reason)
        if end.interrupted:
            return INTERRUPTED
        if ws.close_code == 1006:
            raise Ended("the server did not answer the close")
    face.closed(f"closed: {_code(ws.close_code, ws.close_reason)}")
    return 0


def _told(end: ConnectionClosed) -> str:
    cause = end.__cause__
    if isinstance(cause, PayloadTooBig):
        return f"closed, for what the server sent: {one_line(str(cause))} (--max-size)"
    if cause is not None:
        return f"closed, for what the server sent: {one_line(str(cause))}"
    if end.rcvd is None and end.sent is not None:
        return f"closed, for {one_line(str(end.sent))}"
    if end.rcvd is None:
        return "the connection was lost without a close frame (1006)"
    return f"the server closed the WebSocket: {_code(end.code, end.reason)}"


def _code(code: int | None, reason: str | None) -> str:
    shown = "no code" if code == 1005 else str(code)
    return f"{shown} ({one_line(reason)})" if reason else shown
