"""The two loggers, `flowserve` for messages of the server and `flowserve.access` for access lines.

Importing this module configures neither, so that a program that embeds the server keeps its own logging.
"""

from __future__ import annotations

import logging

from flowserve.logs.access import CloseLine, HTTPLine, OpenLine

TRACE = 5
"""The log level of the trace of ASGI messages, below DEBUG."""

logger = logging.getLogger("flowserve")
access = logging.getLogger("flowserve.access")


def access_http(peer: str, method: str, target: str, http_version: str, status: int, seconds: float) -> None:
    """Log a request that was answered or aborted after `seconds`."""
    if access.isEnabledFor(logging.INFO):
        access.info(HTTPLine(peer, method, target, http_version, status, seconds))


def access_websocket_open(peer: str, target: str, subprotocol: str | None) -> None:
    """Log that a WebSocket was accepted."""
    if access.isEnabledFor(logging.INFO):
        access.info(OpenLine(peer, target, subprotocol))


def access_websocket_close(
    peer: str,
    target: str,
    code: int,
    seconds: float,
    messages_in: int,
    bytes_in: int,
    messages_out: int,
    bytes_out: int,
    dropped: int = 0,
) -> None:
    """Log that a WebSocket was closed after `seconds`; `dropped` messages were not sent because its client read too
    slowly."""
    if access.isEnabledFor(logging.INFO):
        traffic = (messages_in, bytes_in, messages_out, bytes_out, dropped)
        access.info(CloseLine(peer, target, code, seconds, *traffic))


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: '1 request', '2 requests'."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
