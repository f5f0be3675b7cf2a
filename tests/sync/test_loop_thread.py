"""The thread in which WebSockets of other threads live, in programs of their own: Ctrl-C, the end, os.fork()."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading

import pytest
from support.helpers import PATIENCE
from support.threads import Interrupted, echo, interrupted_by, served

from flowserve.sync.loop_thread import loop_thread


def program(text: str, uri: str) -> subprocess.Popen[str]:
    """Start a program in which warnings are errors; `ws` is a WebSocket to an echo."""
    head = "import os, sys, threading\nfrom flowserve.sync import connect\nws = connect(sys.argv[1])\n"
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", head + text, uri],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(text: str) -> tuple[int, str, str]:
    with served(echo) as uri, program(text, uri) as process:
        out, err = process.communicate(timeout=PATIENCE)
        slow = re.compile("^Executing <.* took .* seconds\n", re.MULTILINE)  # asyncio's debug mode, where all is slow
        return process.returncode, out, slow.sub("", err)


def test_a_program_ends_while_one_is_open():
    assert run("ws.send('x'); print(ws.receive())") == (0, "x\n", "")


def test_a_program_ends_while_another_thread_waits():
    text = "threading.Thread(target=ws.receive, daemon=True).start(); ws.ping(); print('end')"
    assert run(text)[:2] == (0, "end\n")


def test_ctrl_c():
    with served(echo) as uri, program("print('ready', flush=True); ws.receive()", uri) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == -signal.SIGINT
        assert out == ""
        assert err.rstrip().endswith("KeyboardInterrupt")
        assert "Warning" not in err


def test_ctrl_c_and_going_on():
    text = """
with ws:
    try:
        print("ready", flush=True)
        ws.receive()
    except KeyboardInterrupt:
        ws.send("still there")
        print(ws.receive())
print(ws.close_code)
"""
    with served(echo) as uri, program(text, uri) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("still there\n1000\n", "")


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="forks")
@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)"])
def test_fork(end):
    """The child opens its own; that of the parent is not touched, and says so."""
    text = f"""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads
child = os.fork()
if child == 0:
    try:
        ws.send("x")
    except RuntimeError as error:
        print(error)
    with connect(sys.argv[1]) as own:
        own.send("of the child")
        print(own.receive(), flush=True)
    {end}
assert os.waitpid(child, 0)[1] == 0
ws.send("of the parent")
print(ws.receive())
ws.close()
"""
    code, out, err = run(text)
    assert (code, out, err) == (
        0,
        "this WebSocket belongs to the process that was forked; open another one in this process\n"
        "of the child\nof the parent\n",
        "",
    )


def test_one_thread_for_all():
    assert loop_thread() is loop_thread()
    threads = [thread for thread in threading.enumerate() if thread.name == "flowserve.sync"]
    assert len(threads) == 1
    assert threads[0].daemon


def test_results_and_errors():
    async def give(result: object) -> object:
        await asyncio.sleep(0)
        if isinstance(result, Exception):
            raise result
        return result

    thread = loop_thread()
    assert thread.run(lambda: give(3)) == 3
    with pytest.raises(LookupError):
        thread.run(lambda: give(LookupError()))


@pytest.mark.parametrize("late", [True, False])
def test_an_interruption_waits_for_the_end(late):
    """What comes all the same is kept."""
    begun, steps = threading.Event(), []

    async def work() -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            steps.append("ended")
            if not late:
                raise
        return "late"

    with pytest.raises(Interrupted), interrupted_by(begun):
        loop_thread().run(work, steps.append)
    assert steps == ["ended"] + ["late"] * late
