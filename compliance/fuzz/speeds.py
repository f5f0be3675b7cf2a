"""The same inputs at the other speed: a process that observes targets with the compiled modules (or, in the tests,
with the plain ones), and answers over a pipe.

Run as `python -m compliance.fuzz.speeds`. A target's name, an input and the answer are each a length of four bytes and
so many bytes. The answer is a digest of what `outcome()` returns, which may be long. Only where it is another one than
expected, all of it is asked for, by an empty name; it comes in Python's marshal format.
"""

from __future__ import annotations

import hashlib
import marshal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any

from compliance.fuzz.findings import Broken, Finding
from compliance.fuzz.targets import Target, load

Outcome = tuple[str, Any]
_WITHOUT_REFERENCES = 2
"""A version of the marshal format in which equal values are equal bytes."""


def outcome(observe: Callable[[bytes], Any], data: bytes) -> Outcome:
    """What a target sees in an input, or what it finds broken."""
    try:
        return "saw", observe(data)
    except Exception as error:
        return "found", tuple(Finding.of(error))


class Other:
    """The process at the other speed, started anew where an input ends it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def differs(self, name: str, data: bytes, mine: Outcome) -> Outcome | None:
        """What the other process sees in an input of the target called `name`, None where it is `mine`.

        Raises Broken if it ends.
        """
        if self._ask(name, data) == digest(mine):
            return None
        theirs: Outcome = marshal.loads(self._ask("", b""))
        return theirs

    def _ask(self, name: str, data: bytes) -> bytes:
        process = self._process
        if process is None:
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "compliance.fuzz.speeds"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=dict(self._environment),
                bufsize=0,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(framed(name.encode()) + framed(data))
            return receive(process.stdout)
        except (BrokenPipeError, EOFError):
            self.close()
            raise Broken(f"the process at the other speed ended with status {process.returncode}") from None

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None


def digest(seen: Outcome) -> bytes:
    """The same for what is equal, and of the same types."""
    return hashlib.sha256(marshal.dumps(seen, _WITHOUT_REFERENCES)).digest()


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def receive(file: IO[bytes]) -> bytes:
    """What was `framed()`. Raises EOFError."""
    return _exactly(file, int.from_bytes(_exactly(file, 4), "big"))


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = file.read(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def main() -> None:
    targets: dict[str, Target] = {}
    seen: Outcome = ("saw", None)
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    while True:
        try:
            name, data = receive(sys.stdin.buffer).decode(), receive(sys.stdin.buffer)
        except EOFError:
            return
        if name:
            target = targets.get(name) or targets.setdefault(name, load(name))
            seen = outcome(target.observe, data)
        answers.write(framed(digest(seen) if name else marshal.dumps(seen)))
        answers.flush()


if __name__ == "__main__":
    main()
