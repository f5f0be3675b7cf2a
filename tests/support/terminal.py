"""The real command line, with pipes and in a terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

from support.helpers import within

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")},
    "TERM": "xterm-256color",
    "PROMPT_TOOLKIT_NO_CPR": "1",  # nobody here answers where the cursor is
}


async def flowserve(*args: str, stdin: bytes = b"", **environment: str) -> tuple[int, str, str]:
    """Run the command to its end: exit status, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flowserve", *args),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT | environment,
    )
    out, err = await within(process.communicate(stdin), 30)
    assert process.returncode is not None
    return process.returncode, out.decode("utf-8", "surrogateescape"), err.decode()


def foreground() -> None:
    """As a shell does for what it starts in the foreground, also where these tests run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(2, termios.TIOCSCTTY, 0)


class Terminal:
    """A command in a terminal of its own; `piped`: only stderr is the terminal; `shell`: another command, in a
    folder."""

    def __init__(
        self,
        *args: str,
        piped: bool = False,
        program: tuple[str, ...] = ("-m", "flowserve"),
        shell: str = "",
        cwd: Path | None = None,
        **env: str,
    ):
        self.own, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
        os.set_blocking(self.own, False)
        self.process = subprocess.Popen(
            [shell, *args] if shell else [sys.executable, *program, *args],
            stdin=subprocess.PIPE if piped else theirs,
            stdout=subprocess.PIPE if piped else theirs,
            stderr=theirs,
            env=ENVIRONMENT | env,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=foreground,
        )
        os.close(theirs)
        self.raw = ""
        self._seen = 0

    @property
    def text(self) -> str:
        """All that was written, without colours and the like."""
        return re.sub(r"\r+\n", "\n", re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\x1b\([AB]", "", self.raw))

    async def shows(self, words: str) -> None:
        """Wait until the words have been written, behind those that were waited for before."""
        await self._until(lambda: words in self.text[self._seen :], words)
        self._seen = self.text.index(words, self._seen) + len(words)

    async def _until(self, done: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, (what, self.raw)
            await asyncio.sleep(0.005)
            self._read()

    def _read(self) -> None:
        try:
            self.raw += os.read(self.own, 65536).decode()
        except (BlockingIOError, OSError):
            pass

    def type(self, text: str) -> None:
        os.write(self.own, text.encode())

    async def press(self, key: str, words: str) -> None:
        """Press a key until the words are shown: at first there may be nothing yet that it could show."""
        presses = 0

        def shown() -> bool:
            nonlocal presses
            presses += 1
            if presses % 20 == 1:
                self.type(key)
            return words in self.text[self._seen :]

        await self._until(shown, words)

    def interrupt(self) -> None:
        """Press Ctrl-C where no prompt reads the keys."""
        self.process.send_signal(signal.SIGINT)

    async def end(self) -> int:
        """Wait for the end: the exit status."""
        await self._until(lambda: self.process.poll() is not None, "the end")
        self._read()
        return self.process.wait(1)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        os.close(self.own)
