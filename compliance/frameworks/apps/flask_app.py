"""Flask, under WSGI."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import ledger
from flask import Flask, Response, jsonify, request

app = Flask(__name__)


class Events:
    """An iterable whose close() WSGI promises to call."""

    def __init__(self) -> None:
        ledger.counts["open"] += 1

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(200):
            yield b"data: hello\n\n"
            time.sleep(0.05)

    def close(self) -> None:
        ledger.counts["open"] -= 1


def blocking() -> Iterator[bytes]:
    yield b"before\n"
    time.sleep(ledger.BLOCKS)
    yield b"after\n"


def late() -> Iterator[bytes]:
    time.sleep(1.5)
    yield b"late\n"


def text(body: Any, kind: str = "text/plain") -> Response:
    return Response(body, content_type=kind)


@app.get("/")
def hello() -> Response:
    return text("hello")


@app.post("/upload")
def upload() -> Response:
    ledger.log_in()
    return jsonify(ledger.digest(request.get_data()))


@app.post("/form")
def form() -> Response:
    return jsonify({"name": request.form["name"], **ledger.digest(request.files["file"].read())})


@app.get("/pieces")
def pieces() -> Response:
    return text(ledger.pieces_sync())


@app.get("/events")
def events() -> Response:
    return text(Events(), "text/event-stream")


@app.get("/blocking")
def blocking_response() -> Response:
    return text(blocking())


@app.get("/late")
def late_response() -> Response:
    return text(late())


@app.get("/context")
def context() -> Response:
    return text(ledger.log_in())


@app.get("/slow")
def slow() -> Response:
    time.sleep(0.5)
    return text("slow")


@app.get("/environ")
def environ() -> Response:
    return jsonify({name: value for name, value in request.environ.items() if isinstance(value, str)})


@app.get("/error")
def error() -> Response:
    raise RuntimeError("raised on purpose")


@app.get("/counts")
def counts() -> Response:
    return jsonify(ledger.counts)


def raw(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """What WSGI has and Flask hides: start_response() a second time, with exc_info."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        raise ValueError
    except ValueError:
        start_response("418 I'm a teapot", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"short and ", b"stout"]


class Mounted:
    """Flask, and `raw` at /raw."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        return (raw if environ["PATH_INFO"] == "/raw" else app)(environ, start_response)


application = Mounted()
