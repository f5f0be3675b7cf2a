"""An answer that is typed out token by token, as a language model's is, and survives a reload of its page.

Start it with: flowserve examples.topics.tokens:app --workers 2
and open http://127.0.0.1:8000; reload the page in the middle, or open its address in a second window.

An answer is a topic that ends. A task of its own writes it, whether anybody reads or not. Each reader gets all tokens
as server-sent events, from the beginning, or after a loss from where it was, from whichever worker it comes to.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from flowserve import topics

PAGE = Path(__file__).with_name("tokens.html")
MOST_TOKENS = 5000
FASTEST = 1000  # tokens a second
LONGEST = 120  # seconds; the server waits for answers when it stops
KEPT = 600.0  # seconds that an answer can be read again
SENTENCES = (
    "The words that you read are written once, into a topic, by a task that knows no reader.",
    "A page that is reloaded begins again at the first word, which is still kept.",
    "A connection that is lost comes back with the position of the last word that it had.",
    "Nothing is lost then, and nothing comes twice.",
    "A second window reads the same words, from the beginning, as fast as they can be sent.",
    "It does not matter which worker it comes to: all of them know the topic.",
    "When the worker that served this page dies, the browser asks again, and another one goes on.",
    "The last word is followed by an end, so that the page knows that this is all.",
)

writing: set[asyncio.Task[None]] = set()


async def page(request: Request) -> FileResponse:
    return FileResponse(PAGE)


async def ask(request: Request) -> JSONResponse:
    """POST {"question": "...", "tokens": 400, "rate": 25}, the last in tokens a second: begin an answer."""
    try:
        asked = await request.json()
        question, count, rate = str(asked["question"]), int(asked["tokens"]), float(asked["rate"])
    except (ValueError, TypeError, KeyError):
        raise HTTPException(400, 'send {"question": "...", "tokens": 400, "rate": 25}') from None
    if not (0 < count <= MOST_TOKENS and count / LONGEST <= rate <= FASTEST):
        raise HTTPException(400, f"at most {MOST_TOKENS} tokens, {FASTEST} a second, and {LONGEST} seconds in all")
    name = secrets.token_urlsafe(12)  # who knows it can read the answer
    task = asyncio.create_task(write(name, question, count, rate))
    writing.add(task)
    task.add_done_callback(writing.discard)
    return JSONResponse({"answer": name, "worker": os.getpid()})


async def write(name: str, question: str, count: int, rate: float) -> None:
    """Write an answer. A real one comes from a model: `async for token in model(question)`."""
    async with topics.stream(f"answer:{name}", ttl=KEPT) as stream:
        for token in islice(tokens(question), count):
            await stream.write(token)
            await asyncio.sleep(1 / rate)


def tokens(question: str) -> Iterator[str]:
    """Pieces of words without end, the same ones for the same question."""
    choice = random.Random(question)
    while True:
        paragraph = " ".join(choice.sample(SENTENCES, choice.randint(2, 5))) + "\n\n"
        yield from re.findall(r"\s?\w{1,6}|\W", paragraph)


async def answer(request: Request) -> Response:
    """An answer as server-sent events."""
    since = request.query_params.get("since") or topics.START
    response: Response = topics.event_source(request, f"answer:{request.path_params['name']}", since=since, retry=0.5)
    response.set_cookie("worker", str(os.getpid()))  # for the page to show; no part of the mechanism
    return response


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Finish the answers that have begun before the worker stops."""
    yield
    await asyncio.gather(*writing, return_exceptions=True)


routes = [Route("/", page), Route("/answers", ask, methods=["POST"]), Route("/answers/{name}", answer)]
app = Starlette(routes=routes, lifespan=lifespan)


if __name__ == "__main__":
    sys.exit("Start it with: flowserve examples.topics.tokens:app --workers 2")
