"""Echo, as a bare ASGI application without any framework: every WebSocket message goes back as it came.

Start it with: flowserve examples.echo:app
"""

from __future__ import annotations

import sys

from asgiref.typing import ASGIReceiveCallable, ASGISendCallable, Scope

HINT = b"This is a WebSocket echo: connect to this address with ws:// in the place of http://.\n"


async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """What a server calls: once for its own life, once for every request and once for every WebSocket."""
    if scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["type"] == "http":
        await hint(send)
    else:
        await lifespan(receive, send)


async def echo(receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """One WebSocket, from its handshake to its end."""
    while True:
        message = await receive()
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        elif message["type"] == "websocket.receive":
            # One of the two is there: text for a text message, bytes for a binary one.
            await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
        else:  # websocket.disconnect
            return


async def hint(send: ASGISendCallable) -> None:
    """A plain HTTP request: tell what this is."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(HINT))]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
    await send({"type": "http.response.body", "body": HINT, "more_body": False})


async def lifespan(receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """The server's start and end: here an application opens and closes what its connections share."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:  # lifespan.shutdown
            await send({"type": "lifespan.shutdown.complete"})
            return


if __name__ == "__main__":
    sys.exit("Start it with: flowserve examples.echo:app")
