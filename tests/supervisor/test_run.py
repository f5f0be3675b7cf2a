"""flowserve.run() and Server.run(): what is wrong in one line, the exit status, the log."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
import urllib.request

import pytest
from support.helpers import hello

import flowserve
from flowserve import Config, Server

APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})

async def failing(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})

def make():
    return app
"""


@pytest.fixture
def program(tmp_path, forks):
    """Runs code beside main.py; returns its exit status and what it wrote to stderr."""
    (tmp_path / "main.py").write_text(APP)
    (tmp_path / "broken.py").write_text("1 / 0\n")

    def run(code: str) -> tuple[int, str]:
        ended = forks.run(f"import flowserve\nfrom flowserve import Config, Server\n{code}", cwd=tmp_path)
        assert ended.stdout == ""
        return ended.returncode, ended.stderr

    return run


@pytest.mark.parametrize(
    ("call", "status", "says"),
    [
        (
            "'main:app', ws_max_size='huge'",
            2,
            "ws_max_size: 'huge' is not a size; write a number of bytes or e.g. 16MiB",
        ),
        ("'main:app', prot=80", 2, "there is no keyword 'prot'; did you mean port?"),
        (
            "'main:app', xyzzy=80",
            2,
            "there is no keyword 'xyzzy'; they are the options of flowserve --help all, with _ for -",
        ),
        ("'main:app', log_config='no.json'", 2, "log_config: 'no.json': No such file or directory"),
        ("'main:app', uds='no/folder'", 1, "can't listen on 'no/folder': No such file or directory"),
        ("'main:make'", 1, "main:make needs no arguments; if it makes the application, add factory=True"),
        ("'main:app', port=0, pid_file='/no/x'", 1, "pid_file: can't write '/no/x': No such file or directory"),
        (
            "'main:app', port=0, workers=2, ssl_certfile='c'",
            1,
            "ssl_certfile: can't read 'c': No such file or directory",
        ),
        ("'main:failing', port=0", 3, "application startup failed: no database"),
        ("'main:failing', port=0, workers=2", 3, "application startup failed: no database"),
    ],
)
def test_mistakes(program, call, status, says):
    assert program(f"flowserve.run({call})") == (status, f"flowserve: error: {says}\n")


def test_an_application_that_raises_at_import(program):
    status, said = program("flowserve.run('broken:app', port=0)")
    assert status == 1
    assert said.startswith("Traceback (most recent call last):\n")
    assert said.splitlines()[1].lstrip().startswith('File "')
    assert "broken.py" in said.splitlines()[1], "it begins at the application's own code"
    assert said.endswith("flowserve: error: 'broken:app' could not be loaded: its code raised ZeroDivisionError\n")


def test_interrupted_before_anything_is_served(program):
    """No traceback for Ctrl-C."""
    interrupting = "import signal; signal.raise_signal(signal.SIGINT)"
    status, said = program(f"open('slow.py', 'w').write({interrupting!r})\nflowserve.run('slow:app', port=0)")
    assert status == 130
    assert said.endswith(" INFO:     SIGINT: stopped before anything was served\n")
    assert said.count("\n") == 1


def test_the_exception_behind_it():
    with pytest.raises(SystemExit) as ended:
        flowserve.run("main:app", port=-1)
    assert isinstance(ended.value.__cause__, flowserve.ConfigError)


async def test_in_a_running_event_loop():
    with pytest.raises(RuntimeError, match=r"await flowserve\.Server\(flowserve\.Config\(\.\.\.\)\)\.serve\(\)"):
        flowserve.run("main:app")
    with pytest.raises(RuntimeError, match=r"await server\.serve\(\)"):
        Server(Config("main:app")).run()


# Server.run()


@pytest.fixture
def started():
    """Runs servers in threads, as pytest fixtures of applications do."""
    threads = []

    def start(server: Server, **options: object) -> Server:
        thread = threading.Thread(target=server.run, kwargs=options)
        threads.append((server, thread))
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.001)
        return server

    yield start
    for server, thread in threads:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()
        assert not server.started


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_in_a_thread(started, loop):
    server = started(Server(config=Config(hello, port=0, lifespan="off", loop=loop)))
    address, port = server.servers[0].sockets[0].getsockname()  # as with uvicorn
    assert (address, port) == server.sockets[0].getsockname()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}") as response:
        assert response.read() == b"hello"


def test_with_sockets(started):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        started(Server(Config(hello, lifespan="off")), sockets=[sock])
        with urllib.request.urlopen(f"http://127.0.0.1:{port}") as response:
            assert response.read() == b"hello"


def test_force_exit(started):
    called = threading.Event()

    async def app(scope, receive, send):
        called.set()
        await asyncio.sleep(3600)

    server = started(Server(Config(app, port=0, lifespan="off")))
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert called.wait(10)
        assert not server.force_exit
        server.should_exit = server.force_exit = True
        assert server.force_exit  # otherwise it ends after 30 s


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_signal_ends_it():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        os.kill(os.getpid(), signal.SIGINT)
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    server = Server(Config(app, port=0, lifespan="on"))
    server.run()
    assert server.should_exit
    assert not server.started


EXITING = """
async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    server.should_exit = True
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
server = Server(Config(app, port=0))
"""


def test_it_logs_as_the_command_does(program):
    status, said = program(EXITING + "server.run()")
    assert status == 0
    assert "Listening on http://127.0.0.1:" in said
    assert said.endswith("INFO:     Stopped\n")


@pytest.mark.parametrize(
    "own", ["logging.basicConfig()", "logging.getLogger('flowserve').addHandler(logging.NullHandler())"]
)
def test_logging_of_the_program_stays(program, own):
    assert program(f"import logging\n{own}\n{EXITING}\nserver.run()") == (0, "")


def test_configure_logging(program):
    """For a server that is started otherwise; an explicit call replaces what is there."""
    code = "import asyncio, logging\nlogging.basicConfig()\nserver.config.configure_logging()\n"
    status, said = program(f"{EXITING}{code}asyncio.run(server.serve())")
    assert status == 0
    assert said.endswith("INFO:     Stopped\n")


def test_configure_logging_names_the_keyword(logs):
    with pytest.raises(flowserve.ConfigError, match=r"^log_config: 'no\.json': "):
        Config("main:app", log_config="no.json").configure_logging()
    assert logging.getLogger("flowserve")
