"""WSGI applications (PEP 3333) behind a real server, whose event loop is the test's; they run in threads beside it."""

from __future__ import annotations

import asyncio
import contextvars
import io
import signal
import sys
import threading
import time
from wsgiref.validate import validator

import pytest
from support.helpers import PATIENCE, UPGRADE, Pump, until, within

from flowserve.wsgi.threads import ThreadPool

GET = b"GET %b HTTP/1.1\r\nHost: example.com\r\n%b\r\n"
CHUNK = b"x" * 65536
CHUNKS = 1024
LIMIT = CHUNKS // 2
"""Far over what the kernel and the server buffer, far under all."""
TEXT = [("Content-Type", "text/plain")]


class Body:
    """A response whose parts come from `parts`, and that knows how often, and where, it was closed."""

    def __init__(self, parts):
        self.parts = iter(parts)
        self.closed = []

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.parts)

    def close(self):
        self.closed.append(threading.get_ident())


class Signal(threading.Event):
    """Set on one side and waited for on the other; a thread does so in vain only for so long."""

    def wait(self, timeout=PATIENCE):
        assert super().wait(timeout)
        return True


def answer(body=b"", status="200 OK", *headers):
    """An application with one response."""

    def app(environ, start_response):
        start_response(status, [*TEXT, *headers])
        return body() if callable(body) else [body]

    return app


@pytest.fixture
def host(serve):
    """`server = await host(app)`: an application of WSGI, served."""

    def start(app, **options):
        return serve(app, interface="wsgi", **options)

    return start


@pytest.fixture
def ask(host, connect):
    """`response = await ask(app, target, header, ...)`: of one GET."""

    async def one(app, target="/", *headers, **options):
        return await (await connect(await host(app, **options))).get(target, *headers)

    return one


# At the same time


@pytest.mark.both_loops
async def test_clients_that_keep_their_connections(host, connect):
    server = await host(answer(b"hello"))

    async def visit():
        client = await connect(server)
        return [(await client.get()).body for _ in range(10)]

    assert await asyncio.gather(*(visit() for _ in range(40))) == [[b"hello"] * 10] * 40


async def test_requests_run_at_the_same_time(host, connect):
    """All must be there before one goes on."""
    together = threading.Barrier(40, timeout=PATIENCE)

    def app(environ, start_response):
        together.wait()
        return answer(b"hello")(environ, start_response)

    server = await host(app)
    clients = [await connect(server) for _ in range(40)]
    assert [each.status for each in await asyncio.gather(*(client.get() for client in clients))] == [200] * 40


async def test_no_more_than_the_threads(host, connect):
    running, most, go = [], [], Signal()

    def app(environ, start_response):
        running.append(threading.get_ident())
        most.append(len(running))
        go.wait()
        running.pop()
        return answer(b"%d" % environ["wsgi.multithread"])(environ, start_response)

    server = await host(app, wsgi_threads=2)
    clients = [await connect(server) for _ in range(5)]
    asked = asyncio.gather(*(client.get() for client in clients))
    await until(lambda: len(running) == 2 and len(server.server._context.tasks) == 5)
    go.set()
    assert [each.body for each in await asked] == [b"1"] * 5
    assert max(most) == 2


async def test_one_thread(ask):
    def app(environ, start_response):
        return answer(repr((environ["wsgi.multithread"], environ["wsgi.run_once"])).encode())(environ, start_response)

    assert (await ask(app, wsgi_threads=1)).body == b"(False, False)"


async def test_threads_are_used_again():
    pool, threads = ThreadPool(3), []
    for number in range(1, 20):
        pool.submit(lambda: threads.append(threading.current_thread()))
        await until(lambda number=number: len(threads) == number and pool._finished._value)
    assert len(set(threads)) == 1
    pool.close()
    await until(lambda: not threads[0].is_alive())


async def test_threads_end_with_their_pool():
    pool, threads = ThreadPool(2), []
    pool.submit(lambda: threads.append(threading.current_thread()))
    await until(lambda: threads)
    del pool
    await until(lambda: not threads[0].is_alive())


async def test_threads_end_with_the_server(host, connect):
    threads = []

    def app(environ, start_response):
        threads.append(threading.current_thread())
        return answer(b"hello")(environ, start_response)

    server = await host(app, lifespan="on")
    await (await connect(server)).get()
    await within(server.server.shutdown())
    await until(lambda: not threads[0].is_alive())


async def test_each_request_has_context_variables_of_its_own(host, connect):
    variable = contextvars.ContextVar("variable", default="none")

    def app(environ, start_response):
        before = variable.get()
        variable.set(environ["PATH_INFO"])
        start_response("200 OK", TEXT)
        yield f"{before} {variable.get()}".encode()

    client = await connect(await host(app, wsgi_threads=1))
    assert [(await client.get(f"/{n}")).body for n in range(3)] == [b"none /0", b"none /1", b"none /2"]


# Streaming


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["yield", "write"])
async def test_each_part_arrives_before_the_next_is_made(host, connect, how):
    seen = [Signal() for _ in range(3)]

    def parts():
        for number, signal_ in enumerate(seen):
            yield b"part %d" % number
            signal_.wait()

    def app(environ, start_response):
        write = start_response("200 OK", TEXT)
        if how == "yield":
            return parts()
        for part in parts():
            write(part)
        return []

    client = await connect(await host(app))
    await client.raw(GET % (b"/", b""))
    assert (await client.head()).status == 200
    chunks = client.chunks()
    for number, signal_ in enumerate(seen):
        assert await within(anext_(chunks)) == b"part %d" % number
        signal_.set()
    assert [chunk async for chunk in chunks] == []


async def anext_(iterator):
    """anext(), which Python 3.10 has for coroutines only."""
    return await iterator.__anext__()


@pytest.mark.both_loops
@pytest.mark.parametrize("framing", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
async def test_the_body_is_read_as_it_comes(host, connect, framing):
    half = Signal()

    def app(environ, start_response):
        first = environ["wsgi.input"].read(5)
        half.set()
        return answer(first + b"|" + environ["wsgi.input"].read())(environ, start_response)

    chunked = framing.startswith(b"Transfer")
    client = await connect(await host(app))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing)
    await client.raw(b"5\r\nhello\r\n" if chunked else b"hello")
    await until(half.is_set)
    await client.raw(b"5\r\nworld\r\n0\r\n\r\n" if chunked else b"world")
    assert (await client.response()).body == b"hello|world"


@pytest.mark.both_loops
async def test_an_application_that_does_not_read_stops_the_client(host, connect):
    go = Signal()

    def app(environ, start_response):
        go.wait()
        count = 0
        while data := environ["wsgi.input"].read(100_000):
            count += len(data)
        return answer(b"%d" % count)(environ, start_response)

    client = await connect(await host(app))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (CHUNKS * len(CHUNK)))
    pump = Pump(client.pump(CHUNK, CHUNKS))
    assert await pump.stall() < LIMIT
    go.set()
    await pump.finish()
    assert (await client.response()).body == b"%d" % (CHUNKS * len(CHUNK))


@pytest.mark.both_loops
async def test_a_client_that_does_not_read_stops_the_application(host, connect):
    made = []

    def parts():
        for number in range(CHUNKS):
            made.append(number)
            yield CHUNK

    client = await connect(await host(answer(parts)), receive_buffer=65536)
    await client.raw(GET % (b"/", b""))

    async def steps():
        while len(made) < CHUNKS:
            count = len(made)
            await until(lambda count=count: len(made) > count)
            yield

    pump = Pump(steps())
    await pump.stall()
    assert len(made) < LIMIT
    await pump.cancel()
    assert len((await client.response()).body) == CHUNKS * len(CHUNK)


async def test_many_small_parts_leave_together(ask):
    """Where nobody waits for them, they don't cost a turn of the event loop each."""
    rows = [b"row %d\n" % number for number in range(20_000)]
    assert (await ask(answer(lambda: iter(rows)))).body == b"".join(rows)


async def test_files(ask):
    file = io.BytesIO(CHUNK * 3 + b"end")

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        return environ["wsgi.file_wrapper"](file, 512)

    assert (await ask(app)).body == CHUNK * 3 + b"end"
    await until(lambda: file.closed)


async def test_lines(host, connect):
    def app(environ, start_response):
        body = environ["wsgi.input"]
        read = (body.readline(2), body.readline(), body.readlines(3), list(body), body.read(), body.readline())
        return answer(repr(read).encode())(environ, start_response)

    client = await connect(await host(app))
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 17\r\n\r\nabc\nde\nfg\nhi\njkl\n")
    expected = (b"ab", b"c\n", [b"de\n", b"fg\n"], [b"hi\n", b"jkl\n"], b"", b"")
    assert (await client.response()).body == repr(expected).encode()


async def test_a_body_that_is_not_read(host, connect):
    client = await connect(await host(answer(b"hello")))
    for _ in range(2):
        await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        assert (await client.response()).body == b"hello"
        await client.raw(b"12345")


async def test_100_continue_when_the_body_is_read(host, connect):
    def app(environ, start_response):
        body = environ["wsgi.input"].read() if environ["PATH_INFO"] == "/read" else b"unread"
        return answer(body)(environ, start_response)

    server = await host(app)
    client = await connect(server)
    await client.raw(b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert (await client.head()).status == 100
    await client.raw(b"hello")
    assert (await client.response()).body == b"hello"
    client = await connect(server)
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert (await client.response()).body == b"unread"


# Clients that leave: no error, and nothing stays behind


@pytest.mark.both_loops
@pytest.mark.parametrize("how", ["leave", "reset"])
async def test_a_client_leaves_in_the_middle_of_a_response(host, connect, how):
    """More often than there are threads: each of them is free again."""
    bodies = []

    def endless():
        while True:
            yield CHUNK
            time.sleep(0.001)

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        bodies.append(Body(endless()))
        return bodies[-1]

    server = await host(app, wsgi_threads=2)
    for number in range(1, 6):
        client = await connect(server)
        await client.raw(GET % (b"/", b""))
        assert (await client.head()).status == 200
        getattr(client, how)()
        await until(lambda number=number: len(bodies) == number and len(bodies[-1].closed) == 1)
    await until(lambda: not server.server._context.tasks)


@pytest.mark.both_loops
async def test_a_client_leaves_in_the_middle_of_its_request(host, connect):
    raised = []

    def app(environ, start_response):
        try:
            environ["wsgi.input"].read(10)
        except OSError as error:
            raised.append(error)
            raise

    server = await host(app)
    client = await connect(server)
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
    await until(lambda: server.server._context.tasks)
    client.leave()
    await until(lambda: len(raised) == 1 and not server.server._context.tasks)


async def test_a_client_leaves_while_the_application_runs(host, connect):
    go, bodies = Signal(), []

    def app(environ, start_response):
        go.wait()
        start_response("200 OK", TEXT)
        bodies.append(Body([b"hello"]))
        return bodies[-1]

    server = await host(app)
    client = await connect(server)
    await client.raw(GET % (b"/", b""))
    await until(lambda: server.server._context.tasks)
    client.reset()
    await until(lambda: not server.server._context.live)
    go.set()
    await until(lambda: not server.server._context.tasks)
    assert len(bodies[0].closed) == 1


async def test_a_client_that_only_stops_writing(host, connect):
    """It still gets the response (printf ... | nc -N)."""
    go = Signal()

    def app(environ, start_response):
        go.wait()
        return answer(b"hello world")(environ, start_response)

    server = await host(app)
    client = await connect(server)
    await client.raw(GET % (b"/", b"Connection: close\r\n"))
    client.half_close()
    await until(lambda: server.server._context.tasks)
    go.set()
    assert (await client.response()).body == b"hello world"


# Errors: told once


@pytest.mark.app_fails
@pytest.mark.both_loops
async def test_an_error_before_the_head(host, connect, logs):
    def app(environ, start_response):
        raise ValueError("mine")

    client = await connect(await host(app))
    assert (await client.get()).status == 500
    assert logs.errors == ["flowserve: Exception in the application"]
    (record,) = (each for each in logs.records if each.exc_info)
    assert repr(record.exc_info[1]) == "ValueError('mine')"


@pytest.mark.app_fails
async def test_an_error_behind_a_head_that_was_not_sent(ask, logs):
    """PEP 3333: it is sent with the first part of the body."""

    def parts():
        yield b""
        raise ValueError("mine")

    body = Body(parts())
    assert (await ask(answer(lambda: body))).status == 500
    assert len(body.closed) == 1
    assert len(logs.errors) == 1


@pytest.mark.app_fails
@pytest.mark.both_loops
async def test_an_error_in_the_middle(host, connect, logs):
    def parts():
        yield b"begun"
        raise ValueError("mine")

    body = Body(parts())
    client = await connect(await host(answer(lambda: body)))
    await client.raw(GET % (b"/", b""))
    assert (await client.head()).status == 200
    assert await client.rest() == b"5\r\nbegun\r\n"
    assert len(body.closed) == 1
    assert len(logs.errors) == 1


@pytest.mark.app_fails
async def test_an_error_in_close(ask, logs):
    class Fails(Body):
        def close(self):
            raise ValueError("mine")

    assert (await ask(answer(lambda: Fails([b"hello"])))).body == b"hello"
    await until(lambda: len(logs.errors) == 1)


@pytest.mark.app_fails
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
async def test_what_would_end_more_than_the_request(host, connect, error):
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/raise":
            raise error
        return answer(b"hello")(environ, start_response)

    server = await host(app, wsgi_threads=1)
    assert (await (await connect(server)).get("/raise")).status == 500
    assert (await (await connect(server)).get()).body == b"hello"


@pytest.mark.app_fails
@pytest.mark.parametrize(
    ("app", "says"),
    [
        (lambda environ, start_response: [b"x"], "start_response() was not called"),
        (lambda environ, start_response: None, "'NoneType' object is not iterable"),
        (answer("text"), "must be bytes, not str"),
        (lambda environ, start_response: start_response(200, []) and [], "expected string"),
        (answer(b"", "OK"), "the status must be like '200 OK', not 'OK'"),
        (answer(b"", "100 Continue"), "the status must be like '200 OK', not '100 Continue'"),
        (answer(b"", "200 OK", ("X-A", 1)), "a header must be two str: (name, value), not ('X-A', 1)"),
        (answer(b"", "200 OK", ("X-A", "a\nb")), "which HTTP does not allow"),
        (answer(b"", "200 OK", ("X A", "a")), "can't be the name of a header"),
        (answer(b"", "200 OK", ("X-A", "\u20ac")), "latin-1"),
    ],
)
async def test_mistakes(ask, logs, app, says):
    assert (await ask(app)).status == 500
    (record,) = (each for each in logs.records if each.exc_info)
    assert says in str(record.exc_info[1])


# start_response


@pytest.mark.app_fails
async def test_a_second_head_without_exc_info(ask):
    def app(environ, start_response):
        start_response("200 OK", TEXT)
        start_response("200 OK", TEXT)
        return []

    assert (await ask(app)).status == 500


async def test_an_error_page_in_place_of_a_head_that_was_not_sent(ask):
    def app(environ, start_response):
        try:
            start_response("204 No Content", [("X-A", "1"), ("Content-Length", "3")])
            raise ValueError
        except ValueError:
            start_response("503 Sorry", [("X-B", "2")], sys.exc_info())
        return [b"sorry, ", b"later"]

    response = await ask(app)
    assert (response.status, response.body) == (503, b"sorry, later")
    assert response.header("x-b") == "2"
    assert response.header("x-a") is None


@pytest.mark.app_fails
async def test_an_error_page_that_comes_too_late(host, connect, logs):
    """The error is raised on: what was sent can't be taken back."""

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        yield b"begun"
        try:
            raise ValueError("mine")
        except ValueError:
            start_response("503 Sorry", TEXT, sys.exc_info())
        yield b"sorry"

    client = await connect(await host(app))
    await client.raw(GET % (b"/", b""))
    assert (await client.head()).status == 200
    assert await client.rest() == b"5\r\nbegun\r\n"
    (record,) = (each for each in logs.records if each.exc_info)
    assert repr(record.exc_info[1]) == "ValueError('mine')"


async def test_the_head_may_come_with_the_first_part(ask):
    def app(environ, start_response):
        yield b""
        start_response("201 Created", TEXT)
        yield b"made"

    response = await ask(app)
    assert (response.status, response.body) == (201, b"made")


async def test_write_comes_before_the_rest(ask):
    def app(environ, start_response):
        write = start_response("200 OK", [*TEXT, ("Content-Length", "6")])
        write(b"abc")
        return [b"def"]

    assert (await ask(app)).body == b"abcdef"


async def test_an_empty_write_sends_the_head(host, connect):
    go = Signal()

    def app(environ, start_response):
        start_response("200 OK", TEXT)(b"")
        go.wait()
        return []

    client = await connect(await host(app))
    await client.raw(GET % (b"/", b""))
    assert (await client.head()).status == 200
    go.set()
    assert [chunk async for chunk in client.chunks()] == []


# Lengths, and responses without a body


@pytest.mark.parametrize("whole", [[b"hello"], (b"hello",)])
async def test_a_body_of_one_part_has_a_length(ask, whole):
    response = await ask(answer(lambda: whole))
    assert (response.header("content-length"), response.body) == ("5", b"hello")


async def test_nothing(ask):
    assert (await ask(answer(list))).body == b""
    assert (await ask(answer(lambda: [b""]))).body == b""


async def test_the_response_is_complete_when_its_length_is_reached(host, connect):
    """Whatever the application still does."""
    go = Signal()

    def parts():
        yield b"hel"
        yield b"lo"
        go.wait()

    body = Body(parts())
    client = await connect(await host(answer(lambda: body, "200 OK", ("Content-Length", "5"))))
    assert (await client.get()).body == b"hello"
    assert not body.closed
    go.set()
    await until(lambda: body.closed)


@pytest.mark.app_fails
@pytest.mark.parametrize("parts", [[b"hello world"], [b"hello", b" world"], [b"hel", b"lo world"]])
async def test_more_than_the_length(ask, logs, parts):
    """The client gets what it was promised."""
    response = await ask(answer(lambda: iter(parts), "200 OK", ("Content-Length", "5")))
    assert response.body == b"hello"
    await until(lambda: logs.errors)
    (record,) = (each for each in logs.records if each.exc_info)
    assert str(record.exc_info[1]) == "the response body is longer than its Content-Length"


@pytest.mark.app_fails
async def test_less_than_the_length(host, connect, logs):
    sent = Signal()

    def parts():
        yield b"hel"
        sent.wait()

    client = await connect(await host(answer(parts, "200 OK", ("Content-Length", "5"))))
    await client.raw(GET % (b"/", b""))
    assert (await client.head()).header("content-length") == "5"
    sent.set()
    assert await client.rest() == b"hel"
    assert len(logs.errors) == 1


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_a_status_without_a_body(host, connect, status):
    client = await connect(await host(answer(lambda: Body([b"none", b"of this"]), status)))
    assert [(await client.get()).status for _ in range(2)] == [int(status[:3])] * 2


@pytest.mark.both_loops
async def test_head(host, connect):
    """An endless body ends."""

    def endless():
        while True:
            yield b"x"

    bodies = {"/short": Body([b"hello"]), "/endless": Body(endless())}

    def app(environ, start_response):
        assert environ["REQUEST_METHOD"] == "HEAD"
        start_response("200 OK", [("Content-Length", "5")] if environ["PATH_INFO"] == "/short" else [])
        return bodies[environ["PATH_INFO"]]

    client = await connect(await host(app))
    for target in bodies:
        await client.raw(b"HEAD %b HTTP/1.1\r\nHost: a\r\n\r\n" % target.encode())
        head = await client.response("HEAD")
        assert head.status == 200
        assert head.header("content-length") == ("5" if target == "/short" else None)
    await until(lambda: all(len(body.closed) == 1 for body in bodies.values()))


async def test_fields_of_one_name(ask):
    response = await ask(answer(b"", "200 OK", ("Set-Cookie", "a=1"), ("Set-Cookie", "b=\xe9")))
    assert response.all("set-cookie") == ["a=1", "b=\xe9"]


# The environ


@pytest.fixture
def environ(ask):
    """`environ = await environ(target, header, ...)`: what the application gets."""

    async def of(target="/", *headers, **options):
        seen = []

        def app(environ, start_response):
            seen.append(environ)
            return answer()(environ, start_response)

        assert (await ask(app, target, *headers, **options)).status == 200
        return seen[0]

    return of


async def test_the_request_line(environ):
    env = await environ("/a%2Fb/%C3%A9%E4?q=%20&r=s")
    assert env["REQUEST_METHOD"] == "GET"
    assert (env["SCRIPT_NAME"], env["PATH_INFO"]) == ("", "/a/b/\xc3\xa9\xe4")
    assert env["QUERY_STRING"] == "q=%20&r=s"
    assert env["REQUEST_URI"] == "/a%2Fb/%C3%A9%E4?q=%20&r=s"
    assert env["SERVER_PROTOCOL"] == "HTTP/1.1"


async def test_the_root_path(environ):
    env = await environ("/root/a", root_path="/r\xe9")
    assert (env["SCRIPT_NAME"], env["PATH_INFO"]) == ("/r\xc3\xa9", "/root/a")


async def test_who_speaks_with_whom(host, connect):
    seen = []

    def app(environ, start_response):
        seen.append(environ)
        return answer()(environ, start_response)

    server = await host(app)
    client = await connect(server)
    await client.get()
    (env,) = seen
    assert (env["SERVER_NAME"], env["SERVER_PORT"]) == ("127.0.0.1", str(server.port))
    assert (env["REMOTE_ADDR"], env["REMOTE_PORT"]) == ("127.0.0.1", str(client.address[1]))
    assert env["wsgi.url_scheme"] == "http"
    await client.get("/", "X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.7")
    assert (seen[1]["wsgi.url_scheme"], seen[1]["REMOTE_ADDR"]) == ("https", "192.0.2.7")


@pytest.mark.skipif(sys.platform == "win32", reason="UNIX sockets")
async def test_at_a_unix_socket(environ, tmp_path):
    env = await environ(uds=str(tmp_path / "sock"))
    assert (env["SERVER_NAME"], env["SERVER_PORT"], env["REMOTE_ADDR"]) == ("localhost", "80", "")


async def test_fields(environ):
    env = await environ("/", "Content-Type: a/b", "X-Real-IP: 192.0.2.1", "X_Real_IP: 6.6.6.6", "X-A: \xe9")
    assert (env["CONTENT_TYPE"], env["HTTP_X_REAL_IP"], env["HTTP_X_A"]) == ("a/b", "192.0.2.1", "\xc3\xa9")
    assert env["HTTP_HOST"] == "example.com"
    assert "HTTP_CONTENT_TYPE" not in env
    env = await environ("/", "Cookie: a=1", "Accept: a", "Cookie: b=2", "Accept: b", "Content_Length: 7")
    assert (env["HTTP_COOKIE"], env["HTTP_ACCEPT"]) == ("a=1; b=2", "a,b")
    assert "CONTENT_LENGTH" not in env


async def test_what_frameworks_are_told_of_the_body(environ):
    """Where wsgi.input_terminated stands, werkzeug does not notice by the length that a body has broken off."""
    assert "wsgi.input_terminated" not in await environ("/", "Content-Length: 0")
    assert (await environ("/"))["wsgi.input_terminated"] is True


async def test_a_request_without_a_body_has_an_empty_one(environ, ask):
    def app(environ, start_response):
        return answer(b"[%b]" % environ["wsgi.input"].read())(environ, start_response)

    assert (await ask(app)).body == b"[]"


async def test_errors_go_to_stderr(ask, capsys, monkeypatch):
    def app(environ, start_response):
        environ["wsgi.errors"].write("trouble\n")
        environ["wsgi.errors"].flush()
        return answer()(environ, start_response)

    await ask(app)
    assert capsys.readouterr().err == "trouble\n"
    monkeypatch.setattr(sys, "stderr", None)  # as in a process that was started without one
    assert (await ask(app)).status == 200


async def test_other_processes(environ, ask):
    assert (await environ())["wsgi.multiprocess"] is True  # an object: who knows what of
    assert (await environ())["wsgi.multithread"] is True


@pytest.mark.both_loops
@pytest.mark.filterwarnings("ignore::wsgiref.validate.WSGIWarning")
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_the_validator_is_content(host, connect, method):
    def app(environ, start_response):
        body = environ["wsgi.input"].read(3) + environ["wsgi.input"].readline(100)
        environ["wsgi.errors"].write("")
        write = start_response("200 OK", TEXT)
        write(b"abc")
        return iter([body, b"end"])

    client = await connect(await host(validator(app), root_path="/root"))
    for _ in range(2):
        await client.raw(b"%b /a?b=c HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nfoobar" % method.encode())
        response = await client.response(method)
        assert (response.status, response.body) == (200, b"" if method == "HEAD" else b"abcfoobarend")


# WebSockets


@pytest.mark.both_loops
async def test_a_request_for_a_websocket_is_a_get(host, connect):
    def app(environ, start_response):
        assert environ["wsgi.input"].read() == b""
        start_response("404 Not Found", TEXT)
        return iter([environ["REQUEST_METHOD"].encode(), b" ", environ["wsgi.url_scheme"].encode()])

    client = await connect(await host(app))
    await client.raw(UPGRADE)
    response = await client.response()
    assert (response.status, response.body) == (404, b"GET http")


@pytest.mark.both_loops
async def test_a_client_leaves_in_place_of_a_websocket(host, connect):
    def endless():
        while True:
            yield CHUNK
            time.sleep(0.001)

    body = Body(endless())
    client = await connect(await host(answer(lambda: body)))
    await client.raw(UPGRADE)
    assert (await client.head()).status == 200
    client.leave()
    await until(lambda: len(body.closed) == 1)


@pytest.mark.both_loops
async def test_reading_on_while_the_response_is_sent(host, connect):
    """The body and the disconnect come by one way; neither takes what is the other's."""

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        yield b"begun "
        while data := environ["wsgi.input"].read(5):
            yield data

    server = await host(app)
    client = await connect(server)
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
    assert (await client.head()).status == 200
    chunks = client.chunks()
    assert await within(anext_(chunks)) == b"begun "
    for part in (b"hello", b"world"):
        await client.raw(part)
        assert await within(anext_(chunks)) == part
    assert [chunk async for chunk in chunks] == []


@pytest.mark.app_fails
async def test_an_error_in_place_of_a_websocket(host, connect, logs):
    def app(environ, start_response):
        raise ValueError("mine")

    client = await connect(await host(app))
    await client.raw(UPGRADE)
    assert (await client.response()).status == 500
    assert len(logs.errors) == 1


# The end of the server


@pytest.mark.both_loops
async def test_shutdown_waits_for_requests(host, connect):
    go = Signal()

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        yield b"begun "
        go.wait()
        yield b"done"

    server = await host(app)
    client = await connect(server)
    await client.raw(GET % (b"/", b""))
    assert (await client.head()).status == 200
    ending = asyncio.ensure_future(server.server.shutdown())
    await until(lambda: not server.server.sockets)
    go.set()
    assert b"".join([chunk async for chunk in client.chunks()]) == b"begun done"
    await within(ending)


async def test_what_was_cut_is_over(host, connect, logs):
    """A thread that goes on after its time can't send any more; one that waits for a thread does not run."""
    go, bodies, called = Signal(), [], []

    def parts():
        yield b"begun"
        go.wait()
        yield b"lost"

    def app(environ, start_response):
        called.append(environ["PATH_INFO"])
        start_response("200 OK", TEXT)
        bodies.append(Body(parts()))
        return bodies[-1]

    server = await host(app, wsgi_threads=1, timeout_graceful_shutdown=0.1)
    first, second = await connect(server), await connect(server)
    await first.raw(GET % (b"/first", b""))
    assert (await first.head()).status == 200
    await second.raw(GET % (b"/second", b""))
    await until(lambda: len(server.server._context.tasks) == 2)
    await within(server.server.shutdown())
    go.set()
    await until(lambda: len(bodies) == 1 and bodies[0].closed)
    assert called == ["/first"]


async def test_a_thread_that_reads_when_its_request_is_cut(host, connect):
    raised = []

    def app(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            raised.append(error)
            raise

    server = await host(app, timeout_graceful_shutdown=0)
    client = await connect(server)
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
    await until(lambda: server.server._context.tasks)
    await within(server.server.shutdown())
    await until(lambda: raised)


@pytest.mark.app_fails
async def test_an_error_after_the_request_was_cut(host, connect, logs):
    go = Signal()

    def app(environ, start_response):
        go.wait()
        raise ValueError("mine")

    server = await host(app, timeout_graceful_shutdown=0)
    await (await connect(server)).raw(GET % (b"/", b""))
    await until(lambda: server.server._context.tasks)
    await within(server.server.shutdown())
    go.set()
    await until(lambda: logs.errors)
    assert logs.errors == ["flowserve: Exception in the application, whose request had been cut short"]


def hangs(environ, start_response):
    """For the command: it never comes to its end."""
    start_response("200 OK", TEXT)
    yield b"hanging"
    threading.Event().wait()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_thread_that_hangs_does_not_hold_the_process(command, connect, loop):
    options = ("--interface", "wsgi", "--timeout-graceful-shutdown", "0.5", "--loop", loop)
    running = await command("wsgi.test_application:hangs", *options)
    client = await connect(running)
    await client.raw(GET % (b"/", b""))
    assert (await client.head()).status == 200
    running.signal(signal.SIGTERM)
    status, _, log = await running.wait()
    assert status == 0
    assert log.rstrip().endswith("Stopped")
