"""The trace of ASGI messages (--log-level trace)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, cast

from asgiref.typing import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
)

from flowserve.logs.loggers import TRACE, logger
from flowserve.logs.redaction import LogQuery, redact_target


def trace(app: ASGI3Application, log_query: LogQuery = "redact") -> ASGI3Application:
    """Return `app` wrapped to log each ASGI message at level TRACE: bodies and texts by their size, headers by their
    number, the query as the option `log_query` says."""
    numbers = itertools.count(1)

    async def traced(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        name = f"{scope['type']} #{next(numbers)}"

        async def traced_receive() -> ASGIReceiveEvent:
            message = await receive()
            logger.log(TRACE, "%s receive %s", name, _summary(message))
            return message

        async def traced_send(message: ASGISendEvent) -> None:
            logger.log(TRACE, "%s send %s", name, _summary(message))
            await send(message)

        logger.log(TRACE, "%s begins %s", name, _summary(scope, log_query))
        try:
            await app(scope, traced_receive, traced_send)
        except BaseException as error:
            logger.log(TRACE, "%s raised %s", name, type(error).__name__)
            raise
        logger.log(TRACE, "%s returned", name)

    return cast(ASGI3Application, traced)


def _summary(message: Mapping[str, Any], log_query: LogQuery = "redact") -> dict[str, Any]:
    """Return a message or scope with sizes in place of contents."""
    summary = {key: _summary_of_value(key, value) for key, value in message.items()}
    query = summary.get("query_string")
    if isinstance(query, bytes):
        summary["query_string"] = redact_target("?" + query.decode("latin-1"), log_query)[1:].encode("latin-1")
    return summary


def _summary_of_value(key: str, value: Any) -> Any:
    if key == "headers":
        return f"<{len(value)} headers>" if isinstance(value, (list, tuple)) else "<headers>"
    if key == "text" and isinstance(value, str):
        return f"<{len(value)} characters>"
    if key in ("body", "bytes") and isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{memoryview(value).nbytes} bytes>"
    if key == "state" and isinstance(value, Mapping):
        return f"<{', '.join(map(str, value)) or 'empty'}>"
    return value
