"""The two loggers, `flowserve` for messages of the server and `flowserve.access` for access lines.

Importing this module configures neither, so that a program that embeds the server keeps its own logging.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from flowserve.logs.access import AccessLine, CloseLine, HTTPLine, OpenLine
from flowserve.logs.redaction import LogQuery

TRACE = 5
"""The log level of the trace of ASGI messages, below DEBUG."""

logger = logging.getLogger("flowserve")
access = logging.getLogger("flowserve.access")


def writes_access() -> bool:
    """Whether access lines are written: ask before putting together what one of them says."""
    return access.isEnabledFor(logging.INFO)


def access_http(
    peer: str,
    method: str,
    target: str,
    http_version: str,
    status: int,
    seconds: float,
    bytes_out: int = 0,
    headers: Sequence[tuple[bytes, bytes]] = (),
    log_query: LogQuery = "redact",
) -> None:
    """Log a request with the `headers` that was answered by a body of `bytes_out`, or aborted, after `seconds`.
    `log_query` is the option, which `target` follows already."""
    if writes_access():
        _log(HTTPLine(peer, method, target, http_version, status, seconds, bytes_out, headers, log_query))


def access_websocket_open(peer: str, target: str, subprotocol: str | None, user_agent: bytes | None = None) -> None:
    """Log that a WebSocket was accepted."""
    if writes_access():
        _log(OpenLine(peer, target, subprotocol, user_agent=user_agent))


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
    user_agent: bytes | None = None,
) -> None:
    """Log that a WebSocket was closed after `seconds`; `dropped` messages were not sent because its client read too
    slowly."""
    if writes_access():
        traffic = (messages_in, bytes_in, messages_out, bytes_out, dropped)
        _log(CloseLine(peer, target, code, seconds, *traffic, user_agent=user_agent))


def _log(line: AccessLine) -> None:
    """Log an access line as `Logger.info()` does, without the search for the caller, which takes a tenth of the
    time."""
    access.handle(access.makeRecord(access.name, logging.INFO, __file__, 0, line, line.uvicorn_args(), None))
