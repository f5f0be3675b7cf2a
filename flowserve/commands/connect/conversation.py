"""Opening a WebSocket, running a frontend on it (a prompt, or lines in pipes), and closing it."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from typing import Protocol

from flowserve.commands.endpoint import INTERRUPTED, Endpoint, one_line
from flowserve.errors import ConnectionClosed, ConnectionClosedOK, FlowserveError, PayloadTooBig
from flowserve.library.websocket import WebSocket
from flowserve.runtime.signals import handling


class AbnormalClose(FlowserveError):
    """The WebSocket was not closed normally; the message says how it ended."""


@dataclass(frozen=True)
class CloseRequest:
    """How the user wants to close the WebSocket."""

    code: int = 1000
    reason: str = ""
    interrupted: bool = False  # the user pressed Ctrl-C


class Frontend(Protocol):
    """Sends the user's messages and shows the received ones."""

    async def talk(self, ws: WebSocket) -> CloseRequest | ConnectionClosed:
        """Send and receive until the user or the server ends it. Raises FlowserveError for wrong input of the user."""

    def closed(self, text: str) -> None:
        """Tell the user that the WebSocket was closed normally; `text` says how."""


async def run_frontend(endpoint: Endpoint, frontend: Frontend) -> int:
    """Open a WebSocket, run the frontend, and close it; return the exit status. Raises FlowserveError.

    The first Ctrl-C closes the WebSocket with 1000, the second one aborts it.
    """
    task = asyncio.current_task()
    assert task is not None

    def interrupt(_number: signal.Signals) -> None:
        task.cancel()

    with handling({signal.SIGINT: interrupt}):
        try:
            ws = await endpoint.open()
        except asyncio.CancelledError:
            return INTERRUPTED
        try:
            return await _talk_and_close(ws, frontend)
        except asyncio.CancelledError:
            return INTERRUPTED
        finally:
            if not ws.closed:
                ws.abort()


async def _talk_and_close(ws: WebSocket, frontend: Frontend) -> int:
    try:
        end = await frontend.talk(ws)
    except asyncio.CancelledError:
        end = CloseRequest(interrupted=True)
    except FlowserveError:
        await ws.close()
        raise
    if isinstance(end, ConnectionClosed):
        await ws.wait_closed()
        if not isinstance(end, ConnectionClosedOK):
            raise AbnormalClose(_describe_end(end))
    else:
        await ws.close(end.code, end.reason)
        if end.interrupted:
            return INTERRUPTED
        if ws.close_code == 1006:
            raise AbnormalClose("the server did not answer the close")
    frontend.closed(f"closed: {_describe_code(ws.close_code, ws.close_reason)}")
    return 0


def _describe_end(end: ConnectionClosed) -> str:
    cause = end.__cause__
    if isinstance(cause, PayloadTooBig):
        return f"closed, for what the server sent: {one_line(str(cause))} (--max-size)"
    if cause is not None:
        return f"closed, for what the server sent: {one_line(str(cause))}"
    if end.rcvd is None and end.sent is not None:
        return f"closed, for {one_line(str(end.sent))}"
    if end.rcvd is None:
        return "the connection was lost without a close frame (1006)"
    return f"the server closed the WebSocket: {_describe_code(end.code, end.reason)}"


def _describe_code(code: int | None, reason: str | None) -> str:
    shown = "no code" if code == 1005 else str(code)
    return f"{shown} ({one_line(reason)})" if reason else shown
