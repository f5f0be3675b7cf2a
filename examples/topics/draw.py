"""A board to draw on together: pages subscribe and publish by themselves, and the application only says what they may.

Start it with: flowserve examples.topics.draw:app --workers 2
and open http://127.0.0.1:8000 in two windows.

A board is a topic, "board:NAME". Each stroke is a message: {"color": "#4254e8", "points": [x, y, x, y, ...]}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from flowserve import topics

HERE = Path(__file__).parent
MOST_TOPICS = 10


def allow(topic: str, action: str) -> bool:
    """Anybody may look at all boards, and draw on all but the one that is for show."""
    return topic.startswith("board:") and (action == "subscribe" or topic != "board:show")


async def board(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol=topics.SUBPROTOCOL)
    await topics.serve(websocket, allow=allow, publish_rate=30, publish_burst=60)


async def events(request: Request) -> Response:
    """The same topics, for those to whom WebSockets do not get through: ?topics={"board:a": "POSITION" or null}"""
    try:
        wanted = json.loads(request.query_params.get("topics", ""))
        allowed = 0 < len(wanted) <= MOST_TOPICS and all(allow(topic, "subscribe") for topic in wanted)
        since = {topic: str(position) for topic, position in wanted.items() if position is not None}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise HTTPException(400, 'ask for ?topics={"board:a": null}') from None
    if not allowed:
        raise HTTPException(403)
    response: Response = topics.event_source(request, *wanted, since=since, envelope="json")
    return response


async def page(request: Request) -> FileResponse:
    return FileResponse(HERE / "draw.html")


async def client(request: Request) -> FileResponse:
    return FileResponse(HERE / "client.js")


app = Starlette(
    routes=[Route("/", page), Route("/client.js", client), WebSocketRoute("/topics", board), Route("/events", events)]
)


if __name__ == "__main__":
    sys.exit("Start it with: flowserve examples.topics.draw:app --workers 2")
