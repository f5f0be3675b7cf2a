"""What concerns the main process in every mode: its file, and run() from a program."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest
from support.helpers import Client, within

from flowserve.config import Config
from flowserve.errors import ConfigError
from flowserve.supervisor import run_config
from flowserve.supervisor.channel import Order
from flowserve.supervisor.pidfile import pid_file

from .conftest import APP

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are asked for by signals")

MODES = {"one": (), "workers": ("--workers", "2"), "reload": ("--reload",)}
LONG = 20.0


def dead() -> int:
    """The ID of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


@pytest.mark.parametrize("mode", MODES)
async def test_the_pid_file(start, mode, tmp_path):
    """It names the main process, takes the place of a stale one, and is gone at the end."""
    path = tmp_path / "flowserve.pid"
    path.write_text(f"{dead()}\n")
    program = await start("--pid-file", "flowserve.pid", *MODES[mode])
    assert path.read_text() == f"{program.process.pid}\n"
    second = await start("--pid-file", "flowserve.pid", *MODES[mode], serving=False)
    assert await second.wait() == 1
    assert len(second.lines) == 1
    assert second.lines[0].startswith(f"flowserve: error: --pid-file: process {program.process.pid}, named in ")
    assert path.read_text() == f"{program.process.pid}\n"
    await program.stop()
    assert not path.exists()
    assert [each.name for each in tmp_path.iterdir() if "pid" in each.name] == []


async def test_the_pid_file_of_a_server_that_cannot_start(start, tmp_path):
    program = await start("--pid-file", "flowserve.pid", "--workers", "2", app="nothing:app", serving=False)
    assert await program.wait() == 1
    assert not (tmp_path / "flowserve.pid").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"{os.getpid()}", None),
        ("", None),
        ("99999999999999999999", None),
        (f"{os.getppid()}\n", f"process {os.getppid()}"),
        ("import this\n", "holds no process ID"),
        ("-5", "holds no process ID"),
    ],
    ids=["own", "nothing", "none", "parent", "text", "negative"],
)
def test_what_is_found_there(tmp_path, content, says):
    path = tmp_path / "pid"
    path.write_text(content)
    if says:
        with pytest.raises(ConfigError, match=says), pid_file(str(path)):
            pytest.fail("it must not begin")
        assert path.read_text() == content
    else:
        with pid_file(str(path)):
            assert path.read_text() == f"{os.getpid()}\n"
        assert not path.exists()


def test_a_file_that_somebody_else_has_taken_over_stays(tmp_path):
    path = tmp_path / "pid"
    with pid_file(str(path)):
        path.write_text("12345\n")
    assert path.read_text() == "12345\n"


def test_no_such_folder(tmp_path):
    with pytest.raises(ConfigError, match="can't write"), pid_file(str(tmp_path / "none" / "pid")):
        pytest.fail("it must not begin")


async def test_run_in_a_program(start, tmp_path):
    """A program's own folder is on the workers' path, though it is not the current one."""
    (tmp_path / "programs").mkdir()
    script = tmp_path / "programs" / "script.py"
    (tmp_path / "application.py").rename(tmp_path / "programs" / "application.py")
    script.write_text(
        "import flowserve\n"
        "if __name__ == '__main__':\n"
        "    flowserve.run('application:app', port=0, workers=2, access_log=False)\n"
        "    print('done')\n"
    )
    program = await start(script=str(script))
    await program.workers(2)
    await program.stop()
    assert program.out == ["done"]


async def test_run_with_a_context_factory(start, tmp_path):
    """A function that workers can't import is refused in a line."""
    (tmp_path / "script.py").write_text(
        "import flowserve\n"
        "def context(config, default):\n"
        "    return default()\n"
        "if __name__ == '__main__':\n"
        "    flowserve.run('application:app', port=0, workers=2, ssl_context_factory=context)\n"
    )
    program = await start(script="script.py", serving=False)
    assert await program.wait() == 1
    assert program.out == []
    (line,) = program.lines
    assert line.startswith("flowserve: error: ssl_context_factory: worker processes can't import it")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"callback_notify": lambda: None}, "callback_notify"),
        ({"log_config": {"version": 1, "filters": {"a": {"()": lambda: None}}}}, "log_config"),
    ],
)
def test_what_a_worker_can_not_be_told_is_named(options, named):
    with pytest.raises(
        ConfigError, match=f"^{named}: worker processes can't import it; define it in a module of its own$"
    ):
        Order(Config("a:b", **options), (), (), ()).encode()


@pytest.mark.parametrize(("app", "value", "said"), [(print, "2", 1), (print, "1", 0), (print, "", 0)])
def test_several_workers_for_an_object(monkeypatch, caplog, app, value, said):
    monkeypatch.setattr("flowserve.supervisor.serve_alone", lambda *_: None)
    monkeypatch.setenv("WEB_CONCURRENCY", value)
    run_config(Config(app))
    assert [line.startswith("WEB_CONCURRENCY has no effect") for line in caplog.messages] == [True] * said


READS_ENVIRONMENT = {
    "application.py": APP.replace('VERSION = "old"', 'VERSION = os.environ["GREETING"]'),
    "my.env": "GREETING=hello\n",
}


@pytest.mark.parametrize("options", [("--workers", "2"), ("--reload",)])
async def test_the_env_file_is_loaded_in_each_process(start, options):
    """Anew in each, so that a restart brings what it says now."""
    program = await start(*options, "--env-file", "my.env", files=READS_ENVIRONMENT)
    assert (await program.identity())[1] == "hello"
    (program.folder / "my.env").write_text("GREETING=again\n")
    program.signal(signal.SIGHUP)
    if "--workers" in options:
        await program.logged("All workers are new")
    else:
        await program.logged("serves on", times=2)

    async def renewed() -> None:
        while (await program.identity())[1] != "again":  # the last old one may be about to end still
            pass

    await within(renewed())
    await program.stop()


LOOPS = "import asyncio\nclass MyLoop(asyncio.SelectorEventLoop): pass\n"


@pytest.mark.parametrize("mode", MODES)
async def test_an_event_loop_of_ones_own(start, mode):
    files = {
        "application.py": APP.replace('{VERSION}"', '{type(asyncio.get_running_loop()).__name__}"').replace(
            "import os", "import asyncio, os"
        ),
        "loops.py": LOOPS,
    }
    program = await start(*MODES[mode], "--loop", "loops:MyLoop", files=files)
    assert (await program.identity())[1] == "MyLoop"
    await program.stop()


async def test_sockets_of_every_kind(start, tmp_path):
    """Workers share a UNIX domain socket; its path is gone at the end, and who waits there is served."""
    program = await start(
        "--workers", "2", "--bind", "unix:here.sock", "--bind", "127.0.0.1:0", place=(), serving=False
    )
    await program.logged(r"2 workers serve on http\+unix:here\.sock, http://")
    pids = set()
    for _ in range(50):
        client = await Client.connect(str(tmp_path / "here.sock"), family=socket.AF_UNIX)
        pids.add((await client.get("/", "Connection: close")).body)
        await client.aclose()
    assert 1 <= len(pids) <= 2
    program.signal(signal.SIGTERM)
    assert await within(program.wait(), LONG) == 0
    assert not (tmp_path / "here.sock").exists()
