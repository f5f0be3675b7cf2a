"""The file that says which process is the main one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flowserve.errors import ConfigError


@contextmanager
def pid_file(path: str | None) -> Iterator[None]:
    """Keep this process' ID in the file `path` meanwhile; None: no file. Its folder has to be there.

    What a dead process left there is replaced. Raises ConfigError if it names a process that lives, or if the file
    holds something else.
    """
    if path is None:
        yield
        return
    path = os.path.abspath(path)  # the application may go to another folder
    _refuse_living(path)
    _write(path)
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            if _read(path) == os.getpid():
                os.unlink(path)


def _refuse_living(path: str) -> None:
    try:
        found = _read(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"--pid-file: can't read {path!r}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"--pid-file: {path!r} is there and holds no process ID; choose another file") from None
    if found not in (None, os.getpid()) and _is_alive(found):
        raise ConfigError(f"--pid-file: process {found}, named in {path!r}, is running; stop it or choose another file")


def _read(path: str) -> int | None:
    """The process ID in a file, None in an empty one. Raises OSError, ValueError."""
    with open(path, "rb") as file:
        text = file.read(64).strip()
    if not text:
        return None
    if not text.isdigit():
        raise ValueError(text)
    return int(text)


def _is_alive(pid: int | None) -> bool:
    if not pid or os.name == "nt":  # where a signal 0 would not ask, but end it
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _write(path: str) -> None:
    """In one step, so that nobody reads half of it."""
    beside = f"{path}.{os.getpid()}"
    try:
        with open(beside, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(beside)
        raise ConfigError(f"--pid-file: can't write {path!r}: {error.strerror}") from None
