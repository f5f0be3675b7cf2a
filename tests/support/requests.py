"""Requests in literal bytes, and an application that answers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from support.helpers import Client, Stage

GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n"


def responder(
    status: int = 200, headers: Iterable[tuple[bytes, bytes]] = (), bodies: Sequence[Any] = (b"",)
) -> Callable[..., Awaitable[None]]:
    """An application that sends what it is told, whatever it is asked."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for number, body in enumerate(bodies, 1):
            await send({"type": "http.response.body", "body": body, "more_body": number < len(bodies)})

    return app


async def scope_of(stage: Stage, client: Client, request: bytes) -> Any:
    """The scope that a request leads to."""
    await client.raw(request)
    act = await stage.next()
    await act.answer()
    assert (await client.response()).status == 200
    return act.scope
