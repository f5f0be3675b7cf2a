"""The file that holds the process ID of the main process (--pid-file)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flowserve.errors import ConfigError


@contextmanager
def pid_file(path: str | None) -> Iterator[None]:
    """While in this context, keep this process' ID in the file `path`, or do nothing if it is None. Its folder must
    exist.

    The file of a dead process is replaced. Raises ConfigError if the file names a living process, holds anything but a
    process ID, or can't be read or written.
    """
    if path is None:
        yield
        return
    path = os.path.abspath(path)  # the application may change the working directory
    _check_not_running(path)
    _write(path)
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            if _read(path) == os.getpid():
                os.unlink(path)


def _check_not_running(path: str) -> None:
    try:
        pid = _read(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"--pid-file: can't read {path!r}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"--pid-file: {path!r} is there and holds no process ID; choose another file") from None
    if pid not in (None, os.getpid()) and _is_alive(pid):
        raise ConfigError(f"--pid-file: process {pid}, named in {path!r}, is running; stop it or choose another file")


def _read(path: str) -> int | None:
    """Return the process ID in a file, None for an empty file. Raises OSError, ValueError."""
    with open(path, "rb") as file:
        text = file.read(64).strip()
    if not text:
        return None
    if not text.isdigit():
        raise ValueError(text)
    return int(text)


def _is_alive(pid: int | None) -> bool:
    if not pid or os.name == "nt":  # on Windows os.kill() would end the process
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _write(path: str) -> None:
    """Write the file atomically, so that nobody reads a part of it."""
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        raise ConfigError(f"--pid-file: can't write {path!r}: {error.strerror}") from None
