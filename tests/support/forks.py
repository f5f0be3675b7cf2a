"""A Python that has flowserve loaded, and runs code in forks of itself: a fork costs a tenth of the time of a start."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COMMAND = "from flowserve.cli import main; main()"
"""What `python -m flowserve` runs."""

# A fork leaves the loop, and ends as a program does: with its exit status, and what the interpreter does at its end.
SERVER = """
import json, os, sys
import flowserve.cli.command, flowserve.logs.setup

sys.dont_write_bytecode = True  # it would hide a change of the same length and second
for line in sys.stdin:
    order = json.loads(line)
    if not (child := os.fork()):
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
for number, (path, flags) in enumerate(zip(order["streams"], (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY))):
    os.dup2(os.open(path, flags), number)
os.chdir(order["folder"])
os.environ.clear()
os.environ.update(order["environment"])
sys.argv[1:] = order["arguments"]
exec(order["code"])
"""


class Forks:
    """`forks.run(code, "--version", cwd=folder)`: in place of `subprocess.run([sys.executable, "-c", code, ...])`."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self, code: str, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run code to its end, without input; longer than `timeout` seconds is a failure. What is set in the
        interpreter's own variables, as PYTHONWARNINGS, has no effect."""
        if sys.platform == "win32":  # without forks
            command = [sys.executable, "-c", code, *arguments]
            pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
            return subprocess.run(command, cwd=cwd, env=env, timeout=timeout, **pipes)
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        streams = [Path(os.devnull), *(Path(self._folder.name, name) for name in ("out", "err"))]
        for path in streams[1:]:
            path.write_bytes(b"")
        order = {
            "code": code,
            "arguments": arguments,
            "folder": str(cwd),
            "environment": dict(os.environ if env is None else env),
            "streams": [str(path) for path in streams],
        }
        print(json.dumps(order), file=self._server.stdin, flush=True)
        if not select.select([self._server.stdout], [], [], timeout)[0]:
            os.killpg(self._server.pid, signal.SIGKILL)
        status = self._server.stdout.readline()
        out, err = (path.read_text("utf-8") for path in streams[1:])
        assert status, f"it did not end:\n{out}{err}"
        return subprocess.CompletedProcess(arguments, int(status), out, err)

    def close(self) -> None:
        self._server.communicate()
        self._folder.cleanup()
