"""Flask and Django as WSGI applications, under many clients at once."""

from __future__ import annotations

import asyncio
import io
import threading
from typing import Any

import pytest
from support.django_handler import django_handler
from support.helpers import PATIENCE, until

CLIENTS, ROUNDS = 40, 5
UPLOAD = b"0123456789abcdef" * 20_000
GET = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

closed: list[str] = []
"""What was closed, by name."""
go = threading.Event()


def rows(name: str) -> Any:
    """A response in parts, which goes on when it is told to."""
    try:
        yield b"first"
        assert go.wait(PATIENCE)
        while True:
            yield b"x" * 65536
    finally:
        closed.append(name)


def flask_app() -> Any:
    import flask

    app = flask.Flask("served")

    @app.get("/hello/<name>")
    def hello(name: str) -> Any:
        response = flask.make_response(f"{name} {flask.request.cookies['a']} {flask.request.cookies['b']}")
        response.set_cookie("c", "3")
        response.set_cookie("d", "4")
        return response

    @app.post("/upload")
    def upload() -> Any:
        return str(len(flask.request.get_data()))

    @app.post("/form")
    def form() -> Any:
        file = flask.request.files["file"]
        return f"{flask.request.form['a']} {file.filename} {len(file.read())}"

    @app.get("/rows")
    def stream() -> Any:
        return app.response_class(rows("flask"), mimetype="text/plain")

    @app.get("/file")
    def file() -> Any:
        return flask.send_file(io.BytesIO(UPLOAD), mimetype="text/plain")

    @app.get("/fails")
    def fails() -> Any:
        raise ValueError("mine")

    return app


def django_app() -> Any:
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import FileResponse, HttpResponse, StreamingHttpResponse
    from django.urls import path

    def hello(request: Any, name: str) -> Any:
        response = HttpResponse(f"{name} {request.COOKIES['a']} {request.COOKIES['b']}")
        response.set_cookie("c", "3")
        response.set_cookie("d", "4")
        return response

    def upload(request: Any) -> Any:
        return HttpResponse(str(len(request.body)))

    def form(request: Any) -> Any:
        file = request.FILES["file"]
        return HttpResponse(f"{request.POST['a']} {file.name} {len(file.read())}")

    def stream(request: Any) -> Any:
        return StreamingHttpResponse(rows("django"), content_type="text/plain")

    def file(request: Any) -> Any:
        return FileResponse(io.BytesIO(UPLOAD), content_type="text/plain")

    def fails(request: Any) -> Any:
        raise ValueError("mine")

    urls = [
        path("hello/<str:name>", hello),
        path("upload", upload),
        path("form", form),
        path("rows", stream),
        path("file", file),
        path("fails", fails),
    ]
    return django_handler(WSGIHandler, urls)


@pytest.fixture(scope="module", params=[flask_app, django_app], ids=["flask", "django"])
def app(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.fixture
async def server(serve: Any, app: Any) -> Any:
    closed.clear()
    go.clear()
    return await serve(app, interface="wsgi", wsgi_threads=CLIENTS)


@pytest.mark.both_loops
async def test_many_clients_at_once(server: Any, connect: Any) -> None:
    """Each keeps its connection; gets its own answers, with its cookies; and uploads, in pieces."""

    async def visit(number: int) -> None:
        client = await connect(server)
        for _ in range(ROUNDS):
            response = await client.get(f"/hello/{number}", "Cookie: a=1", "Cookie: b=2")
            assert (response.status, response.body) == (200, b"%d 1 2" % number)
            assert len(response.all("set-cookie")) == 2
            await client.raw(b"POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(UPLOAD))
            for begin in range(0, len(UPLOAD), 100_000):
                await client.raw(UPLOAD[begin : begin + 100_000])
            assert (await client.response()).body == b"%d" % len(UPLOAD)

    await asyncio.gather(*(visit(number) for number in range(CLIENTS)))


async def test_forms(server: Any, connect: Any) -> None:
    part = b'--B\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
    body = part % (b"a", b"", b"text") + part % (b"file", b'; filename="f.txt"', UPLOAD) + b"--B--\r\n"
    client = await connect(server)
    await client.raw(
        b"POST /form HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=B\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    await client.raw(body)
    assert (await client.response()).body == b"text f.txt %d" % len(UPLOAD)


async def test_files(server: Any, connect: Any) -> None:
    assert (await (await connect(server)).get("/file")).body == UPLOAD


@pytest.mark.both_loops
async def test_a_stream_whose_client_leaves(server: Any, connect: Any) -> None:
    """The first part comes before the next is made; when its client has left the generator is closed."""
    client = await connect(server)
    await client.raw(GET % b"/rows")
    assert (await client.head()).status == 200
    async for chunk in client.chunks():
        assert chunk == b"first"
        break
    client.leave()
    go.set()
    await until(lambda: len(closed) == 1 and not server.server._context.tasks)


async def test_head(server: Any, connect: Any) -> None:
    client = await connect(server)
    for target in (b"/rows", b"/file"):
        await client.raw(b"HEAD %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % target)
        assert (await client.response("HEAD")).status == 200


async def test_an_error_is_the_frameworks_to_answer(server: Any, connect: Any) -> None:
    client = await connect(server)
    for _ in range(2):
        await client.raw(GET % b"/fails")
        assert (await client.response()).status == 500
