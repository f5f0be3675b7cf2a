"""Several workers: how they start, how they are replaced when they die or hang, and what signals do to their number."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections import Counter

import pytest
from support.helpers import until, within
from support.processes import LONG, is_alive, until_dead

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process only")

DEATH = r"Worker (\d+) .*it is replaced"


async def echoes(client, text: str) -> None:
    await client.send_text(text)
    assert await client.message() == text


# Starting


async def test_two_workers_serve_and_stop(start):
    program = await start("--workers", "2")
    pids = await program.workers(2)
    assert program.process.pid not in pids
    await program.stop()
    assert sum("serve on http://" in line for line in program.lines) == 1
    assert not any(map(is_alive, pids))
    assert program.out == []


FAILING = {
    "import": ("raise ZeroDivisionError('on import')", 1, "its code raised ZeroDivisionError", True),
    "no such attribute": ("", 1, "has no attribute 'app'", False),
    "lifespan": (
        """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is away"})
""",
        3,
        "the database is away",
        False,
    ),
    "exit": ("raise SystemExit(7)", 1, "exit status 7", False),
    "death": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", 1, "was killed by SIGKILL before", False),
}


@pytest.mark.parametrize("kind", FAILING)
async def test_an_app_that_cannot_start(start, kind):
    """One line and the status as with one process; an import's traceback before it, once."""
    code, status, says, traceback = FAILING[kind]
    program = await start("--workers", "3", app="failing:app", serving=False, files={"failing.py": code})
    assert await program.wait() == status
    assert program.lines[-1].startswith("flowserve: error: ")
    assert says in program.lines[-1]
    assert sum(says in line for line in program.lines) == 1
    assert sum(line.startswith("Traceback") for line in program.lines) == traceback
    if traceback:
        assert sum("ZeroDivisionError: on import" in line for line in program.lines) == 1
        assert "flowserve/" not in "\n".join(program.lines[:-1])
    assert sum(line.startswith("flowserve: error") for line in program.lines) == 1


FLAGS = """
import sys, warnings
seen = [sys.flags.dev_mode, sys.flags.optimize, sys._xoptions, "error::ImportWarning" in sys.warnoptions,
        bool(sys.flags.dont_write_bytecode), sys.stdout.write_through]

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": repr(seen).encode()})
"""


@pytest.mark.parametrize("option", [("--workers", "2"), ("--reload",)], ids=["workers", "reload"])
async def test_workers_keep_the_interpreters_options(start, option):
    given = ("-X", "dev", "-X", "frozen_modules=off", "-W", "error::ImportWarning", "-u", "-O", "-B")
    program = await start(*option, "--lifespan", "off", interpreter=given, files={"application.py": FLAGS})
    assert (await program.get()).body == b"[True, 1, {'dev': True, 'frozen_modules': 'off'}, True, True, True]"


async def test_without_options_there_are_none(start):
    program = await start("--workers", "2", "--lifespan", "off", files={"application.py": FLAGS})
    assert (await program.get()).body.startswith(b"[False, 0, {}, False, ")  # the rest may come from the environment


async def test_a_port_in_use(start):
    first = await start("--workers", "2")
    second = await start("--workers", "2", serving=False, place=("--port", str(first.address[1])))
    assert await second.wait() == 1
    assert len(second.lines) == 1
    assert str(first.address[1]) in second.lines[0]
    await first.workers(2)


async def test_ctrl_c_while_starting(start):
    """The terminal sends SIGINT to all its processes."""
    program = await start("--workers", "2", serving=False, files={"application.py": "import time\ntime.sleep(60)\n"})
    await until(lambda: children(program.process.pid) != [], LONG)
    os.killpg(program.process.pid, signal.SIGINT)
    assert await program.wait() in (0, 130)
    assert "Traceback" not in program.log
    assert "KeyboardInterrupt" not in program.log


RUNS_A_LOOP = """
import asyncio

async def question():
    return b"42"

result = asyncio.run(question())

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": result})
"""


@pytest.mark.parametrize("option", [("--workers", "2"), ("--reload",)], ids=["workers", "reload"])
async def test_the_application_is_imported_before_the_loop_runs(start, option):
    program = await start(*option, "--lifespan", "off", files={"application.py": RUNS_A_LOOP})
    assert (await program.get()).body == b"42"
    await program.stop()


SLOW_IMPORT = """
import os, time
with open("importing", "w"):
    pass
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["it stops", "it is gone"])
async def test_a_worker_that_imports_ends_with_its_supervisor(start, number):
    program = await start("--workers", "2", serving=False, files={"application.py": SLOW_IMPORT})
    await until((program.folder / "importing").exists, LONG)
    (worker,) = children(program.process.pid)
    program.signal(number)
    assert await program.wait() == (0 if number == signal.SIGTERM else -number)
    await until(lambda: not is_alive(worker), LONG)
    assert "Traceback" not in program.log


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(each) for each in file.read().split()]
    except FileNotFoundError:
        return []


async def test_ctrl_c(start):
    program = await start("--workers", "2")
    client, _ = await program.open_ws()
    os.killpg(program.process.pid, signal.SIGINT)
    assert (await client.close_frame())[0] == 1012
    await client.send_close(1012)
    assert await program.wait() == 0
    assert "Traceback" not in program.log


async def test_the_application_sees_the_same_process_as_alone(start):
    """sys.path and sys.argv are those of the command; signals are not ignored in programs that it starts."""
    code = """
import subprocess, sys
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    asked = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    shown = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True).stdout.strip()
    body = f"{sys.argv[1]} {sys.path[0]} {shown}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
    program = await start("--workers", "2", app="seen:app", files={"seen.py": code})
    body = (await program.get()).body.decode()
    assert body == f"seen:app {program.folder} True"


# Replacing


async def test_kill_9(start):
    """The worker is replaced; who is connected to the other one does not notice."""
    program = await start("--workers", "2")
    sockets = [await program.open_ws() for _ in range(24)]
    (victim, lost), (other, _) = Counter(pid for _, pid in sockets).most_common()
    begin = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    pids = await program.workers(2, without={victim})
    taken = time.monotonic() - begin
    assert other in pids
    assert taken < 10  # on an idle machine half a second
    (line,) = [line for line in program.lines if re.search(DEATH, line)]
    assert f"Worker {victim} was killed by SIGKILL" in line
    for client, pid in sockets:
        if pid == victim:
            assert await client.rest() == b""
            lost -= 1
        else:
            await echoes(client, "still here")
    assert lost == 0
    await program.stop()


async def test_connections_wait_for_a_replacement(start):
    """Whoever connects to a dead worker's socket is served by its successor."""
    program = await start("--workers", "2")
    victim = (await program.identity())[0]
    os.kill(victim, signal.SIGKILL)
    answers = await within(asyncio.gather(*(program.identity() for _ in range(40))), LONG)
    assert len({pid for pid, _ in answers} - {victim}) == 2


async def test_hung_workers(start):
    """One is stopped, and in one the application blocks; both are replaced, and the third is left alone."""
    program = await start("--workers", "3", "--timeout-worker-healthcheck", "1500ms")
    sockets = [await program.open_ws() for _ in range(24)]
    blocking = await program.connect()
    await blocking.raw(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
    await until((program.folder / "blocked").exists, LONG)
    blocked = int((program.folder / "blocked").read_text())
    stopped = next(pid for _, pid in sockets if pid != blocked)
    os.kill(stopped, signal.SIGSTOP)
    assert await within(blocking.reader.read(), LONG) == b""
    deaths = {int((await program.logged(DEATH + " now", times))[1]) for times in (1, 2)}
    assert deaths == {blocked, stopped}
    await program.workers(3, without=deaths)
    assert program.log.count("did not answer for 1.5 s and was killed") == 2
    assert not any(map(is_alive, deaths))
    for client, pid in sockets:
        if pid not in deaths:
            await echoes(client, "still here")
    await program.stop()


async def test_a_supervisor_that_was_stopped_does_not_blame_its_workers(start):
    """As by Ctrl-Z and fg: all stand still, and none is hung."""
    program = await start("--workers", "2", "--timeout-worker-healthcheck", "1s")
    pids = await program.workers(2)
    os.killpg(program.process.pid, signal.SIGSTOP)
    await asyncio.sleep(1.5)  # longer than the time after which a worker counts as hung
    os.killpg(program.process.pid, signal.SIGCONT)
    assert await program.workers(2) == pids
    assert "replaced" not in program.log


async def test_crash_loops_do_not_spin(start):
    """A worker that dies as soon as it serves is started again and again, with ever longer breaks."""
    code = """
import asyncio, os, pathlib
first = not pathlib.Path("began").exists()
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        if pathlib.Path("doom").exists():
            asyncio.get_running_loop().call_later(0.05, os._exit, 9)
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b"%d alive" % os.getpid()})
"""
    program = await start("--workers", "2", app="dying:app", files={"dying.py": code})
    victim, other = await program.workers(2)
    (program.folder / "doom").touch()
    os.kill(victim, signal.SIGKILL)
    deaths = r"Worker \d+ ended with status 9; it is replaced in ([\d.]+) s"
    delays = [float((await program.logged(deaths, times))[1]) for times in (1, 2)]
    assert delays == [0.25, 0.5]
    (program.folder / "doom").unlink()
    pids = await program.workers(2, without={victim})
    assert other in pids
    await program.stop()


async def test_a_worker_that_somebody_ends(start):
    """SIGTERM to a worker drains it; its successor starts at once, not when it is done."""
    program = await start("--workers", "2", "--timeout-drain", "600s")
    client, victim = await program.open_ws()
    os.kill(victim, signal.SIGTERM)
    await program.workers(2, without={victim})
    assert is_alive(victim)
    await echoes(client, "not yet closed")
    client.leave()
    await until_dead(victim)


async def test_workers_end_without_their_supervisor(start):
    program = await start("--workers", "2")
    client, pid = await program.open_ws()
    pids = await program.workers(2)
    program.process.kill()
    assert (await client.close_frame())[0] == 1012
    await client.send_close(1012)
    for pid in pids:
        await until_dead(pid)


async def test_worn_workers_are_replaced(start):
    """One after the other; each WebSocket counts, and is told 1012 when its worker goes."""
    program = await start("--workers", "2", "--limit-max-requests", "40")
    client, pid = await program.open_ws()
    while f"Worker {pid} drains" not in program.log:
        await program.identity()
    assert (await client.close_frame())[0] == 1012
    await client.send_close(1012)
    await program.logged(rf"Worker {pid} is to be replaced: \d+ requests")
    await until_dead(pid)
    assert (await program.identity())[0] != pid


# Signals


async def test_more_and_fewer_workers(start):
    """Under load: the kernel still gives connections to a worker that is to go, and none is lost."""
    program = await start("--workers", "2")
    before = await program.workers(2)
    failed: list[BaseException] = []
    running = True

    async def ask() -> None:
        while running:
            try:
                await program.identity()
            except (OSError, AssertionError, asyncio.IncompleteReadError) as error:
                failed.append(error)

    clients = [program.background(ask()) for _ in range(4)]
    program.signal(signal.SIGTTIN)
    grown = await program.workers(3)
    assert before < grown
    program.signal(signal.SIGTTOU)
    await program.logged("SIGTTOU: workers from now on: 2")
    program.signal(signal.SIGTTIN)  # while the third is being taken away
    assert before < await program.workers(3, without=grown - before)
    program.signal(signal.SIGTTOU)
    await program.logged("SIGTTOU: workers from now on: 2", 2)
    program.signal(signal.SIGTTOU)
    await program.logged("SIGTTOU: workers from now on: 1")
    program.signal(signal.SIGTTOU)
    await program.logged("one worker has to stay")
    await program.workers(1)
    running = False
    await within(asyncio.gather(*clients), LONG)
    assert failed == []
    await program.stop()


async def test_a_second_signal_cuts_short(start):
    program = await start("--workers", "2", "--timeout-drain", "60s")
    client, _ = await program.open_ws()
    program.signal(signal.SIGTERM)
    await program.logged("SIGTERM: shutting down")
    program.signal(signal.SIGTERM)
    await client.rest()
    assert await program.wait() == 0


async def test_a_worker_that_does_not_end_is_killed(start):
    """The application blocks, so that its worker can't even hear of the end."""
    program = await start("--workers", "2", "--timeout-graceful-shutdown", "0s")
    pids = await program.workers(2)
    client = await program.connect()
    await client.raw(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
    await until((program.folder / "blocked").exists, LONG)
    program.signal(signal.SIGTERM)
    assert await program.wait() == 0
    assert "took too long to end and was killed" in program.log
    for pid in pids:
        await until_dead(pid)


# Before the end: --shutdown-delay


async def test_all_workers_are_lame_ducks_after_sigterm(start):
    """Those too that start meanwhile; all else is served until a second signal, or the delay's end."""
    program = await start("--workers", "2", "--health-path", "/-/health", "--shutdown-delay", "60s")
    pids = await program.workers(2)
    client, _ = await program.open_ws()
    program.signal(signal.SIGTERM)
    await program.logged(r"SIGTERM: shutting down in 60s \(--shutdown-delay\); send SIGTERM again to begin now")

    async def told(times=16):
        seen = 0
        while seen < times:  # in succession
            seen = seen + 1 if (await program.get("/-/health")).status == 503 else 0

    await within(told(), LONG)
    assert await program.workers(2) == pids
    os.kill(pids.pop(), signal.SIGKILL)
    await program.logged("Worker [0-9]+ serves")
    await within(told(), LONG)
    program.signal(signal.SIGINT)
    await program.logged("SIGINT: shutting down")
    assert await program.wait() == 0
    assert "at once" not in program.log.replace("again to stop at once", "")
    client.leave()


async def test_what_is_waited_for_at_the_end(start):
    program = await start("--workers", "2", "--ws-close-timeout", "60s")
    await program.workers(2)
    client, holder = await program.open_ws()
    os.kill(holder, signal.SIGSTOP)
    program.signal(signal.SIGINT)
    await program.logged("Waiting for 1 worker to end; press Ctrl-C again to stop at once")
    os.kill(holder, signal.SIGCONT)
    program.signal(signal.SIGINT)
    assert await program.wait() == 0
    client.leave()
