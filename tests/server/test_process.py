"""One process from the import of the application to its exit: what signals mean at each moment, and that it ends in
bounded time whatever the application does."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.helpers import LONGEST_TEST, Client, within
from support.programs import messages

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")
each_loop = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"

ANSWER = """
async def answer(send, body):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
def program(command: Any, tmp_path: Path) -> Callable[..., Awaitable[Any]]:
    """`running = await program(code, *options)`: the command with an application of that code."""

    async def launch(code: str, *options: str) -> Any:
        (tmp_path / "application.py").write_text(ANSWER + code)
        return await command("application:app", "--app-dir", str(tmp_path), *options)

    return launch


async def said(running: Any, words: str) -> None:
    """Read what the application prints, up to a line with these words."""
    while words not in (line := (await within(running.process.stdout.readline())).decode()):
        assert line, f"{words!r} was not printed"


async def get(running: Any, target: bytes = b"/") -> Any:
    client = await Client.connect(running.address)
    try:
        await client.raw(GET % target)
        return await client.response()
    finally:
        await client.aclose()


# The import

IMPORTS = {
    "asyncio.run": """
import asyncio
async def question(): return b"42"
result = asyncio.run(question())
""",
    "async_to_sync": """
from asgiref.sync import async_to_sync
async def question(): return b"42"
result = async_to_sync(question)()
""",
    "Django's check of its ORM": """
import asyncio
try:
    asyncio.get_running_loop()
except RuntimeError:
    result = b"42"
else:
    raise RuntimeError("SynchronousOnlyOperation")
""",
    "asyncio.get_event_loop": """
import asyncio, warnings
warnings.simplefilter("error")
loop = asyncio.get_event_loop()
queue, event, lock, semaphore = asyncio.Queue(), asyncio.Event(), asyncio.Lock(), asyncio.Semaphore()
async def question():
    async with lock, semaphore:
        await queue.put(b"42")
    event.set()
    return asyncio.get_running_loop()
task = asyncio.ensure_future(question())
""",
    "a running loop": """
import asyncio
async def question(): return b"42"
asyncio.get_running_loop()
result = b"42"
""",
}

APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if "task" in globals():
        assert await task is loop
        await event.wait()
        await answer(send, await queue.get())
    else:
        await answer(send, result)
"""


@each_loop
@pytest.mark.parametrize("kind", IMPORTS)
async def test_import(program: Any, kind: str, loop: str) -> None:
    """It runs before the event loop does, in which asyncio.run() would fail."""
    running = await program(IMPORTS[kind] + APP, "--loop", loop)
    assert (await get(running)).body == b"42"
    running.signal(signal.SIGTERM)
    assert (await running.wait())[0] == 0


async def test_a_factory_is_called_before_the_loop_runs(program: Any) -> None:
    make = "def make():\n    global result\n    result = asyncio.run(question())\n    return call\napp = make\n"
    code = "import asyncio\nasync def question(): return b'42'\n" + APP.replace("def app", "def call") + make
    running = await program(code, "--factory")
    assert (await get(running)).body == b"42"
    running.signal(signal.SIGTERM)
    assert (await running.wait())[0] == 0


SLOW_IMPORT = """
import time
print("importing", flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
async def test_a_signal_ends_a_slow_import(program: Any, number: signal.Signals, status: int) -> None:
    """SIGTERM then does what it does to a process without a server, which a service manager takes for no failure."""
    running = await program(SLOW_IMPORT)
    await said(running, "importing")
    running.signal(number)
    ended, out, err = await running.wait()
    assert (ended, out) == (status, "")
    assert messages(err)[-1] == f"{number.name}: stopped before anything was served"
    assert "Traceback" not in err


async def test_an_import_that_catches_everything_ends_too(program: Any) -> None:
    running = await program(SLOW_IMPORT.replace("time.sleep", "try: time.sleep").rstrip() + "\nexcept: pass\n" + APP)
    await said(running, "importing")
    running.signal(signal.SIGTERM)
    status, _, err = await running.wait()
    assert status == -signal.SIGTERM
    assert messages(err)[-1] == "SIGTERM: stopped before anything was served"
    assert "Traceback" not in err


async def test_sighup_does_not_end_an_import(program: Any) -> None:
    code = """
import signal
print("importing", flush=True)
signal.sigtimedwait([signal.SIGUSR1], 60)
result = b"42"
"""
    running = await program("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n" + code + APP)
    await said(running, "importing")
    running.signal(signal.SIGHUP)
    running.signal(signal.SIGUSR1)
    assert (await get(running)).body == b"42"
    running.signal(signal.SIGTERM)
    assert (await running.wait())[0] == 0


# The startup

SLOW_STARTUP = """
import asyncio, signal
async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        return await answer(send, b"hello")
    await receive()
    go_on = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, go_on.set)
    print("starting", flush=True)
    while not go_on.is_set():
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            if not STUBBORN:
                raise
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("shutdown", flush=True)
    await send({"type": "lifespan.shutdown.complete"})
"""


@each_loop
@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
async def test_a_second_signal_ends_a_startup_that_hangs(
    program: Any, number: signal.Signals, status: int, loop: str, stubborn: bool
) -> None:
    running = await program(f"STUBBORN = {stubborn}" + SLOW_STARTUP, "--loop", loop)
    await said(running, "starting")
    running.signal(number)
    again = "press Ctrl-C" if number == signal.SIGINT else "send SIGTERM"
    assert again in await running.logged(f"Waiting for the application's startup; {again} again to stop at once")
    running.signal(number)
    ended, _, err = await running.wait()
    assert ended == status
    assert f"{number.name} again: stopping at once" in err
    assert "Traceback" not in err
    assert "never retrieved" not in err
    assert "pending" not in err


async def test_a_startup_that_completes_after_a_signal_is_followed_by_its_shutdown(program: Any) -> None:
    running = await program("STUBBORN = False" + SLOW_STARTUP)
    await said(running, "starting")
    running.signal(signal.SIGTERM)
    await running.logged("Waiting for the application's startup")
    running.signal(signal.SIGUSR1)
    status, out, err = await running.wait()
    assert (status, out) == (0, "shutdown\n")
    assert "Traceback" not in err


async def test_a_startup_that_hangs_after_a_signal_is_bounded(program: Any) -> None:
    running = await program("STUBBORN = True" + SLOW_STARTUP, "--timeout-graceful-shutdown", "300ms")
    await said(running, "starting")
    running.signal(signal.SIGTERM)
    assert (await running.wait())[0] == -signal.SIGTERM


async def test_a_slow_startup_is_told_of(program: Any) -> None:
    running = await program("STUBBORN = False" + SLOW_STARTUP)
    await running.logged("Waiting for the application's startup")
    running.signal(signal.SIGUSR1)
    await running.logged("Listening on")
    running.signal(signal.SIGTERM)
    assert (await running.wait())[0] == 0


# The end

STUCK = """
import asyncio, threading, time
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shutdown", flush=True)
        return await send({"type": "lifespan.shutdown.complete"})
    print("called", flush=True)
    if scope["path"] == "/thread":
        await asyncio.to_thread(time.sleep, 3600)
    if scope["path"] == "/own-thread":
        threading.Thread(target=time.sleep, args=(3600,), name="pump").start()
        return await answer(send, b"hello")
    if scope["path"] == "/block":
        time.sleep(3600)
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    if scope["path"] != "/swallow":
        return await asyncio.Event().wait()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
"""


@each_loop
@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("/thread", "The process ends without 1 thread of the application (asyncio_0) still busy"),
        ("/own-thread", "The process ends without 1 thread of the application (pump) still busy"),
        ("/swallow", "1 call of the application refuses to end although cancelled"),
    ],
)
async def test_what_does_not_end_does_not_hold_the_process(program: Any, target: str, line: str, loop: str) -> None:
    running = await program(STUCK, "--loop", loop, "--timeout-graceful-shutdown", "300ms")
    client = await Client.connect(running.address)
    await client.raw(GET % target.encode())
    await said(running, "called")
    running.signal(signal.SIGTERM)
    status, out, err = await running.wait()
    await client.aclose()
    assert status == 0
    assert "shutdown\n" in out
    assert line in err
    assert "Traceback" not in err
    assert "never retrieved" not in err


@pytest.mark.parametrize("target", ["/thread", "/swallow", "/stream"])
async def test_a_second_signal_waits_for_nothing(program: Any, target: str) -> None:
    running = await program(STUCK, "--timeout-graceful-shutdown", "1h")
    client = await Client.connect(running.address)
    await client.raw(GET % target.encode())
    await said(running, "called")
    running.signal(signal.SIGINT)
    await running.logged("Waiting for 1 request; press Ctrl-C again to stop at once")
    running.signal(signal.SIGINT)
    status, _, err = await running.wait()
    await client.aclose()
    assert status == 0
    assert "Cutting 1 request" in err
    assert "Traceback" not in err


async def test_a_second_signal_ends_a_process_whose_event_loop_is_blocked(program: Any) -> None:
    running = await program(STUCK)
    client = await Client.connect(running.address)
    await client.raw(GET % b"/block")
    await said(running, "called")
    running.signal(signal.SIGTERM)
    running.signal(signal.SIGINT)
    status, _, err = await running.wait()
    await client.aclose()
    assert status == 1
    assert "The end takes too long, at " in err
    assert "application.py:" in err
    assert "Traceback" not in err


@each_loop
async def test_what_is_cut_is_answered_and_in_the_access_log(program: Any, loop: str) -> None:
    running = await program(STUCK, "--loop", loop, "--timeout-graceful-shutdown", "300ms")
    client, streaming = await Client.connect(running.address), await Client.connect(running.address)
    await client.raw(GET % b"/wait")
    await said(running, "called")
    await streaming.raw(GET % b"/stream")
    await streaming.head()
    running.signal(signal.SIGTERM)
    response = await client.response()
    assert (response.status, response.body) == (503, b"The server is shutting down")
    status, out, err = await running.wait()
    assert status == 0
    assert '"GET /wait HTTP/1.1" 503 ' in out
    assert '"GET /stream HTTP/1.1" 200 ' in out
    assert "Cutting 2 requests\n" in err
    await client.aclose()
    await streaming.aclose()


STREAM = """
import asyncio, signal
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    while not signal.getsignal(signal.SIGTERM).__self__.should_exit:
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"over"})
"""
"""As sse-starlette, and by it MCP's server, finds out that the server shuts down."""


@pytest.mark.parametrize("options", [("--loop", "asyncio"), ("--loop", "uvloop"), ("--workers", "2")])
async def test_libraries_find_the_server_by_its_signal_handler(program: Any, options: tuple[str, ...]) -> None:
    running = await program(STREAM, *options)
    client = await Client.connect(running.address)
    await client.raw(GET % b"/")
    await client.head()
    await client.expect(b"5\r\nbegun\r\n")
    running.signal(signal.SIGTERM)
    assert b"".join([chunk async for chunk in client.chunks()]) == b"over"
    await client.aclose()
    assert (await running.wait())[0] == 0


async def test_signals_reach_an_idle_server(program: Any) -> None:
    """Which nothing else wakes; many times, as one that is lost is lost in a moment."""
    for loop in ("asyncio", "uvloop") * 3:
        running = await program(STREAM, "--loop", loop)
        await running.logged("Listening")
        running.signal(signal.SIGTERM)
        assert (await running.wait())[0] == 0


HELLO = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        import os
        await answer(send, str([os.readlink(f"/proc/self/fd/{number}") for number in range(3)]).encode())
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "workers"])
@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "2>&-", ">/dev/full 2>/dev/full"])
async def test_standard_streams_that_are_closed_or_full(tmp_path: Path, streams: str, options: tuple[str, ...]) -> None:
    """No socket gets their numbers, and it serves, though there is something to be warned of."""
    (tmp_path / "application.py").write_text(ANSWER + HELLO)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        arguments = (*("application:app", "--app-dir", str(tmp_path), "--fd", str(sock.fileno())), *options)
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", f'exec "$0" "$@" {streams}', sys.executable, "-m", "flowserve", *arguments),
            pass_fds=[sock.fileno()],
            env={**os.environ, "FLOWSERVE_MISSPELT": "1"},
        )
        client = await Client.connect(sock.getsockname())
    try:
        body = (await client.get()).body.decode()
        assert "socket" not in body
        assert body.count("/dev/full") == 2 * streams.count("/dev/full 2")
        await client.aclose()
        process.terminate()
        assert await within(process.wait()) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
@pytest.mark.parametrize("option", ["--help", "--version", "--print-config"])
def test_output_that_cannot_be_written(option: str) -> None:
    with open("/dev/full", "w") as full:
        command = (sys.executable, "-m", "flowserve", option)
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=LONGEST_TEST / 2)
    assert run.returncode == 1
    assert run.stderr == "flowserve: error: the output can't be written: No space left on device\n"


RUN = """
import asyncio, sys, time
sys.stdin = None
import flowserve
sys.path.insert(0, {folder!r})

async def app(scope, receive, send):
    if scope["type"] == "http":
        print("called", flush=True)
        await asyncio.to_thread(time.sleep, 3600)

flowserve.run(app, fd={fd}, lifespan="off", timeout_graceful_shutdown=0.3)
print("returned", flush=True)
"""


async def test_run_returns_and_its_threads_do_not_hold_the_program() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        code = RUN.format(folder=str(Path(__file__).parent.parent), fd=sock.fileno())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code), stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[sock.fileno()]
        )
        client = await Client.connect(sock.getsockname())
    try:
        await client.raw(GET % b"/")
        assert process.stdout is not None
        assert await within(process.stdout.readline()) == b"called\n"
        process.send_signal(signal.SIGTERM)
        out, err = await within(process.communicate())
        assert b"returned" in out
        assert process.returncode == 0
        assert b"The process ends without 1 thread" in err
    finally:
        await client.aclose()
        if process.returncode is None:
            process.kill()
            await process.wait()
